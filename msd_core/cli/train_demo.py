"""Train the demo model from scratch on pictures that the project draws; stopped, it goes on from its folder."""

from __future__ import annotations

import argparse
import math

from ..echo import shown
from .arguments import count, path, seed, writable_folder

HELP = "train the demo model from scratch"


def exponent(text: str) -> float:
    """DREAM's exponent: a number of at least 0, or inf."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"got {shown(text)}; allowed are numbers of at least 0, and inf: write 1")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd train-demo`; what is left out is as for the model that ships."""
    parser.add_argument(
        "--out", type=path, required=True, help="folder of the training's state and of the finished model"
    )
    parser.add_argument("--seed", type=seed, help="of the weights, the pictures and the noise")
    parser.add_argument("--autoencoder-steps", type=count, help="steps of the autoencoder's training")
    parser.add_argument("--steps", type=count, help="steps of the denoiser's training")
    parser.add_argument(
        "--dream",
        type=exponent,
        metavar="P",
        help="DREAM's exponent in the denoiser's training: 0 rectification only, 1 the paper's, inf (default) without",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, resuming what is in the folder."""
    folder = writable_folder(arguments.out)

    from ..demo.train import TrainSettings, train

    names = ("seed", "autoencoder_steps", "steps", "dream")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    print(f"trained: {train(TrainSettings(**given), folder)}")
    return 0
