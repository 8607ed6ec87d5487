"""Fill a hole in a picture: a sample that agrees with the rest, which stays as it is to the bit."""

from __future__ import annotations

import argparse

from .arguments import file, number
from .changed import add_shared, mask_of, prepared, written

HELP = "fill a hole in a picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd inpaint`."""
    add_shared(parser, 16)
    parser.add_argument("prompt", help="what the whole picture shows")
    parser.add_argument("--mask", type=file, required=True, help="picture that is white in the hole")
    parser.add_argument("--negative", default="", help="what it does not show (default: nothing)")
    parser.add_argument("--cfg", type=number, default=1.0, help="guidance; 1 is off (default: 1)")

    from .flags import add_flags_of
    from .solver import Inpainting

    add_flags_of(parser, Inpainting)


def run(arguments: argparse.Namespace) -> int:
    """Read, fill, save; the old file stays until the new one is whole."""
    from ..manipulation import inpaint
    from .solver import Inpainting, solver_of

    solver = solver_of(arguments, Inpainting)
    model, picture, out = prepared(arguments, "inpainted")
    mask = mask_of(arguments.mask, picture)
    options = {"cfg": arguments.cfg, "steps": arguments.steps, "seed": arguments.seed, "solver": solver}
    result = inpaint(picture, mask, arguments.prompt, arguments.negative, model=model, **options)
    return written(result, out, "outside of the hole, before the paste")
