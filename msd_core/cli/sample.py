"""Draw pictures of a prompt with DDIM: the reference that distilled pictures are compared with.

Picture i of --n is that of --seed + i alone, and the one that `--start sample` of `msd distill` begins with.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import replacing
from .arguments import (
    Size,
    any_size,
    check_format,
    count,
    number,
    picture_file,
    seed,
    writable_folder,
)
from .models import add_model_flags, levels, model_of, size_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import Model

AT_ONCE = 2**18
"""Pixels that go through the model as one batch: 16 pictures of 128 x 128, or one of 512 x 512."""
STEPS = 1_000_000
CHAIN = "sgm_uniform"
"""What `warm.sample` walks: equal steps of the model's chain."""
HELP = "draw the DDIM reference of a prompt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd sample`."""
    parser.add_argument("prompt", help="what to draw")
    parser.add_argument(
        "--out", type=picture_file, default=Path("sample.png"), help="the picture's file (default: sample.png)"
    )
    parser.add_argument("--negative", default="", help="what not to draw (default: nothing)")
    parser.add_argument("--n", type=count, default=1, help="how many, side by side (default: 1)")
    parser.add_argument("--steps", type=count, default=32, help="DDIM steps (default: 32)")
    parser.add_argument("--scheduler", default=CHAIN, help=f"noise levels, named as in ComfyUI (default: {CHAIN})")
    parser.add_argument("--cfg", type=number, default=3.0, help="guidance scale; 1 is off (default: 3)")
    parser.add_argument("--seed", type=seed, default=0, help="of the first picture's noise (default: 0)")
    parser.add_argument("--size", type=any_size, help="WIDTHxHEIGHT in pixels (default: the model's)")
    add_model_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sample, decode, save: batch by batch, each picture from its own noise; the old file stays until all are there."""
    if arguments.steps > STEPS:
        raise ValueError(f"--steps: got {arguments.steps}; allowed are at most {STEPS} steps: lower it")
    writable_folder(arguments.out.parent)

    from PIL import Image

    from ..memory import check_samples
    from .pictures import paste_row, sheet_size

    model = model_of(arguments, arguments.dtype)
    size = width, height = size_of(arguments.size, model)
    whole = sheet_size(arguments.n, width, height)
    check_format(arguments.out, whole, "--n")
    rows = min(arguments.n, max(1, AT_ONCE // (width * height)))
    check_samples(arguments.n, width, height, rows)
    sheet = Image.new("RGB", whole, "white")
    for row, picture in enumerate(_pictures(arguments, model, size, rows)):
        paste_row(sheet, picture, row, arguments.n)
    with replacing(arguments.out) as partial:
        sheet.save(partial)
    print(f"{arguments.out}: {arguments.n} of {width}x{height}")
    return 0


def _pictures(arguments: argparse.Namespace, model: Model, size: Size, rows: int) -> Iterator[Tensor]:
    """The pictures (3, H, W) one by one, drawn ``rows`` at a time; the noise of a row does not depend on that."""
    from tqdm import tqdm

    from ..warm import sample

    sigmas, words = None, (arguments.prompt, arguments.negative)
    if arguments.scheduler != CHAIN:
        sigmas = levels(arguments.scheduler, arguments.steps, model, model.denoiser(*words))
    options = {"cfg": arguments.cfg, "width": size[0], "height": size[1], "steps": arguments.steps, "sigmas": sigmas}
    batches = range(0, arguments.n, rows)
    with tqdm(total=len(batches) * arguments.steps, desc="ddim") as bar:

        def stepped(_: int, steps: int) -> None:
            bar.total = len(batches) * steps  # a flow's chain may have fewer than were asked for
            bar.update()

        for first in batches:
            seeds = [arguments.seed + i for i in range(first, min(first + rows, arguments.n))]
            yield from sample(model, *words, n=len(seeds), seed=seeds, on_step=stepped, **options).pictures
