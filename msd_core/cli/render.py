"""Draw a saved generator at any size."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import replacing
from .arguments import PICTURE_SUFFIXES, any_size, check_format, file, path, writable_folder

if TYPE_CHECKING:
    from ..generators import Generator

HELP = "draw a saved generator at any size"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd render`."""
    parser.add_argument("file", type=file, metavar="FILE", help="a generator, as `msd distill` writes it")
    parser.add_argument("--size", type=any_size, default=(512, 512), help="WIDTHxHEIGHT in pixels (default: 512x512)")
    endings = "the picture's file, or that of what the kind is for besides, such as an .svg (default: FILE as .png)"
    parser.add_argument("--out", type=path, help=endings)
    parser.add_argument("--model", type=file, help="demo model's file, to decode a latent generator")


def run(arguments: argparse.Namespace) -> int:
    """Load, draw, save; the old file stays until the new one is whole."""
    out = arguments.out or arguments.file.with_suffix(".png")
    width, height = arguments.size
    if out.suffix.lower() in PICTURE_SUFFIXES:
        check_format(out, arguments.size)
    writable_folder(out.parent)

    from ..generators import load_generator
    from ..memory import check_fits, check_render, model_bytes
    from .pictures import picture_of

    generator = load_generator(arguments.file)
    if out.suffix.lower() not in PICTURE_SUFFIXES:
        return _export(generator, out)
    check_render(width, height, suffix=out.suffix, whole=generator.space == "image" and not generator.windows)
    decode = None
    if generator.space == "latent":
        from ..demo.model import load_demo_model

        own = generator.canvas
        fix = "Use a smaller latent, or free memory."
        check_fits("file", f"a latent of {own.width}x{own.height}", model_bytes(own.width, own.height, own.cell), fix)
        decode = load_demo_model(arguments.model).decode
    picture = picture_of(generator, width, height, decode, watched=True)
    with replacing(out) as partial:
        picture.save(partial)
    print(f"{out}: {width}x{height}")
    return 0


def _export(generator: Generator, out: Path) -> int:
    """Write the file of the generator's own that has the ending of ``out``."""
    known = {Path(name).suffix: name for name in generator.files}
    name = known.get(out.suffix.lower())
    if name is None:
        raise ValueError(
            f"--out: got {out.name!r} for a generator of kind {generator.kind!r}; allowed are names that end in "
            f"{', '.join((*PICTURE_SUFFIXES, *known))}"
        )
    with replacing(out) as partial:
        partial.write_bytes(generator.export(name))
    print(out)
    return 0
