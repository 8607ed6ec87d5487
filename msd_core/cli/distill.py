"""Distil a neural image from a prompt with the demo model.

Writes picture.png, generator.safetensors, metrics.json, plot.png and animation.webp. Ctrl-C keeps the steps
that are done, and `--resume` goes on with the same result as without the interruption.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import any_size, seed, writable_folder
from .parser import Parser

HELP = "distil a neural image from a prompt: the main job"


def add_arguments(parser: Parser) -> None:
    """The arguments of `msd distill`; those of methods, estimators and curves are made from their fields."""
    from ..generators import GENERATORS
    from .flags import add_flags

    parser.add_argument("prompt", nargs="?", help="what to draw, e.g. 'a red circle on a blue background'")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run in --out")
    parser.add_argument("--generator", help=f"{', '.join(GENERATORS)} (default: fourier)")
    parser.add_argument("--size", type=any_size, help="WIDTHxHEIGHT to optimise at, pixels (default: the model's)")
    parser.add_argument("--seed", type=seed, help="of the generator and the noise (default: 0)")
    parser.add_argument("--negative", help="what not to draw (default: nothing)")
    parser.add_argument("--model", type=Path, help="the model's file (default: the demo model that ships)")
    add_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check the folder, then load torch and do the run."""
    folder = writable_folder(arguments.out)

    from .run import distill

    return distill(arguments, folder)
