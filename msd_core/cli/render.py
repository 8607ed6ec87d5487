"""Draw a saved generator at any size."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import replacing
from .arguments import PICTURE_SUFFIXES, Size, any_size, check_format, file, path, scaled, writable_folder

if TYPE_CHECKING:
    from ..generators import Generator

LONGEST = 512
"""Pixels of the longer side, unless the size is told."""
HELP = "draw a saved generator at any size"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd render`."""
    parser.add_argument("file", type=file, metavar="FILE", help="a generator, as `msd distill` writes it")
    sizes = f"WIDTHxHEIGHT in pixels (default: its own proportions, the longer side {LONGEST})"
    parser.add_argument("--size", type=any_size, help=sizes)
    endings = "the picture's file, or that of what the kind is for besides, such as an .svg (default: FILE as .png)"
    parser.add_argument("--out", type=path, help=endings)
    parser.add_argument("--model", type=file, help="demo model's file, to decode a latent generator")


def run(arguments: argparse.Namespace) -> int:
    """Load, draw, save; the old file stays until the new one is whole."""
    out = arguments.out or arguments.file.with_suffix(".png")
    if out.suffix.lower() in PICTURE_SUFFIXES and arguments.size is not None:
        check_format(out, arguments.size)
    writable_folder(out.parent)

    from ..generators import load_generator
    from ..memory import check_fits, check_render, model_bytes
    from .pictures import picture_of

    generator = load_generator(arguments.file)
    if out.suffix.lower() not in PICTURE_SUFFIXES:
        return _export(generator, out)
    own = generator.canvas.width, generator.canvas.height
    width, height = arguments.size or scaled(own, LONGEST)
    check_render(width, height, suffix=out.suffix, whole=generator.space == "image" and not generator.windows)
    decode = None
    if generator.space == "latent":
        from ..demo.model import load_demo_model

        fix = "Use a smaller latent, or free memory."
        check_fits("file", f"a latent of {own[0]}x{own[1]}", model_bytes(*own, generator.canvas.cell), fix)
        decode = load_demo_model(arguments.model).decode
    picture = picture_of(generator, width, height, decode, watched=True)
    with replacing(out) as partial:
        picture.save(partial)
    print(f"{out}: {width}x{height}")
    if stretched := stretch(own, (width, height)):
        print(f"msd: {stretched}", file=sys.stderr)
    return 0


def stretch(own: Size, size: Size) -> str:
    """That a picture of ``size`` has other proportions than its ``own``, by more than rounding; "" if it has not."""
    if any(abs(scaled(own, max(size))[i] - size[i]) > 1 for i in (0, 1)):
        best = "x".join(map(str, scaled(own, max(size))))
        return f"--size {size[0]}x{size[1]} stretches a picture of {own[0]}x{own[1]}; unstretched it is {best}"
    return ""


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
