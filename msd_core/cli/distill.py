"""Distil a neural image from a prompt with the demo model.

Writes picture.png, generator.safetensors, metrics.json, plot.png and animation.webp. Ctrl-C keeps the steps
that are done, and `--resume` goes on with the same result as without the interruption.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import count, model_size, number, pair, seed, writable_folder
from .parser import Parser

HELP = "distil a neural image from a prompt: the main job"


def add_arguments(parser: Parser) -> None:
    """The arguments of `msd distill`. Names, and numbers against each other, are checked by the core."""
    parser.add_argument("prompt", nargs="?", help="what to draw, e.g. 'a red circle on a blue background'")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run in --out")
    parser.add_argument("--method", help="msd, sds or sdi (default: msd)")
    parser.add_argument("--generator", help="fourier, siren, hashgrid, pixels or latent (default: fourier)")
    parser.add_argument("--size", type=model_size, help="WIDTHxHEIGHT to optimise at, multiples of 8 (default: 64x64)")
    parser.add_argument("--seed", type=seed, help="of the generator and the noise (default: 0)")
    parser.add_argument("--negative", help="what not to draw (default: nothing)")
    parser.add_argument("--model", type=Path, help="demo model's file (default: the one that ships)")
    group = parser.add_argument_group("every method")
    group.add_argument("--steps", type=count, help="optimisation steps")
    group.add_argument("--cfg", type=number, help="guidance scale; 1 is off")
    group.add_argument("--optimizer", help="adam, or gd: plain gradient descent on the picture's scale")
    group.add_argument("--lr", type=number, help="learning rate")
    group.add_argument("--pull", help="image: the picture, towards the decoded target; latent: x, through the encoder")
    _add_mean_shift_arguments(parser)
    parser.details = _table_of_defaults
    group = parser.add_argument_group("sds and sdi")
    group.add_argument("--t-min", type=number, help="lowest timestep, as a fraction")
    group.add_argument("--t-max", type=number, help="highest timestep, as a fraction")
    group.add_argument("--anneal", help="sds: how the timestep falls: none, linear or sqrt")
    group.add_argument("--weighting", help="sds: uniform, sigma or dreamfusion")
    group.add_argument("--inversion-steps", type=count, help="sdi: steps of the DDIM inversion")
    group.add_argument("--eta", type=number, help="sdi: noise of an inversion step; 1 is that of an ancestral one")
    group.add_argument("--inversion-cfg", type=number, help="sdi: guidance scale of the inversion")


def _add_mean_shift_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("msd: bandwidth λ, the standard deviation of the kernel")
    group.add_argument("--bandwidth-schedule", help="linear, cosine, exponential, karras or piecewise")
    group.add_argument("--bandwidth-start", type=number, help="first λ")
    group.add_argument("--bandwidth-end", type=number, help="last λ")
    group.add_argument("--bandwidth-points", type=pair, nargs="+", metavar="FRACTION:LAMBDA", help="of piecewise")
    group.add_argument("--min-bandwidth", type=number, help="stop below this λ")
    group.add_argument("--lr-coupling", type=number, help="below this λ the learning rate falls in proportion to λ")
    group = parser.add_argument_group("msd: solver of the mean shift")
    group.add_argument("--estimator", help="exact, split, naive or one-step")
    group.add_argument("--solver", help="ddim or heun")
    group.add_argument("--solver-steps", type=count, help="noise levels of one mean shift")
    group.add_argument("--samples", type=count, help="samples averaged for one mean shift")
    group.add_argument("--antithetic", action=argparse.BooleanOptionalAction, help="samples in pairs ±noise")
    group.add_argument("--centre", help="split, naive: x, or inversion (of x by DDIM)")
    group.add_argument(
        "--interval",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="split, naive: σ where the kernel acts",
    )
    group.add_argument("--truncation", type=number, help="split: start at σ = this times λ")


def run(arguments: argparse.Namespace) -> int:
    """Check the folder, then load torch and do the run."""
    folder = writable_folder(arguments.out)

    from .run import distill

    return distill(arguments, folder)


def _table_of_defaults() -> str:
    """What each method uses for the options that are left out."""
    from ..presets import PRESETS

    rows = [("defaults", *PRESETS)]
    for name in dict.fromkeys(name for preset in PRESETS.values() for name in vars(preset)):
        values = [vars(preset).get(name, "") for preset in PRESETS.values()]
        rows.append((f"  --{name.replace('_', '-')}", *("none" if value is None else str(value) for value in values)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
