"""Distil a neural image from a prompt, with the demo model or one of your own.

Writes picture.png, generator.safetensors, metrics.json, plot.png and animation.webp. Whatever stops the run, Ctrl-C,
an error or a kill, the steps that were done are kept, and `--resume` goes on with the same result as without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import any_size, count, file, seconds, seed, writable_folder
from .models import add_model_flags
from .parser import Parser

HELP = "distil a neural image from a prompt: the main job"


def add_arguments(parser: Parser) -> None:
    """The arguments of `msd distill`; those of methods, estimators and curves are made from their fields."""
    from ..generators import GENERATORS
    from ..named import NAMED
    from .flags import add_flags

    parser.add_argument("prompt", nargs="?", help="what to draw, e.g. 'a red circle on a blue background'")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run in --out")
    parser.add_argument(
        "--preset",
        help=f"settings of msd by name, in the model's own units: {', '.join(NAMED)}; what is given beside it wins",
    )
    parser.add_argument("--generator", help=f"{', '.join(GENERATORS)} (default: fourier)")
    parser.add_argument("--size", type=any_size, help="WIDTHxHEIGHT to optimise at, pixels (default: the model's)")
    parser.add_argument("--start", help="begin with this picture, cut to the size, or with a 'sample' (default: noise)")
    source = "picture that dds, pds and lusd edit, cut to the size; the run begins with it, unless there is a --start"
    parser.add_argument("--source", type=file, metavar="PICTURE", help=source)
    parser.add_argument("--source-prompt", metavar="TEXT", help="what the source shows, for the same methods")
    parser.add_argument("--seed", type=seed, help="of the generator and the noise (default: 0)")
    parser.add_argument("--negative", help="what not to draw (default: nothing)")
    add_model_flags(parser)
    parser.add_argument(
        "--checkpoint",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="save the run this often; 0 only when it is stopped (default: 10)",
    )
    parser.add_argument("--threads", type=count, help="of the processor; results differ in their last bits with them")
    parser.add_argument("--force", action="store_true", help="replace what is in --out, an unfinished run too")
    add_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check the folder, then load torch and do the run."""
    folder = writable_folder(arguments.out)

    from .run import distill

    return distill(arguments, folder)
