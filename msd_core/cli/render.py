"""Draw a saved generator at any size."""

from __future__ import annotations

import argparse

from .arguments import any_size, file, picture_file, writable_folder

HELP = "draw a saved generator at any size"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd render`."""
    parser.add_argument("file", type=file, metavar="FILE", help="a generator, as `msd distill` writes it")
    parser.add_argument("--size", type=any_size, default=(512, 512), help="WIDTHxHEIGHT in pixels (default: 512x512)")
    parser.add_argument("--out", type=picture_file, help="the picture's file (default: FILE with the ending .png)")
    parser.add_argument("--model", type=file, help="demo model's file, to decode a latent generator")


def run(arguments: argparse.Namespace) -> int:
    """Load, draw, save."""
    out = arguments.out or arguments.file.with_suffix(".png")
    writable_folder(out.parent)

    from ..generators import load_generator
    from .pictures import picture_of

    generator = load_generator(arguments.file)
    decode = None
    if generator.space == "latent":
        from ..demo.model import load_demo_model

        decode = load_demo_model(arguments.model).decode
    width, height = arguments.size
    picture_of(generator, width, height, decode).save(out)
    print(f"{out}: {width}x{height}")
    return 0
