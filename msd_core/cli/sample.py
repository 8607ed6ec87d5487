"""Draw pictures of a prompt with DDIM: the reference that distilled pictures are compared with."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import any_size, check_cells, count, number, picture_file, seed, writable_folder

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
    parser.add_argument("--scheduler", default="normal", help="noise levels, named as in ComfyUI (default: normal)")
    parser.add_argument("--cfg", type=number, default=3.0, help="guidance scale; 1 is off (default: 3)")
    parser.add_argument("--seed", type=seed, default=0, help="of the noise (default: 0)")
    parser.add_argument("--size", type=any_size, help="WIDTHxHEIGHT in pixels (default: the model's)")
    parser.add_argument("--model", type=Path, help="demo model's file (default: the one that ships)")


def run(arguments: argparse.Namespace) -> int:
    """Sample, decode, save."""
    writable_folder(arguments.out.parent)

    import torch
    from tqdm import tqdm

    from .. import ddim_steps, sigma_schedule
    from ..demo.model import load_demo_model
    from .pictures import check_finite, side_by_side

    model = load_demo_model(arguments.model)
    denoiser = model.denoiser(arguments.prompt, arguments.negative, arguments.cfg)
    sigmas = sigma_schedule(arguments.scheduler, arguments.steps, schedule=model.schedule)
    rng = torch.Generator().manual_seed(arguments.seed)
    size = width, height = arguments.size or (model.side, model.side)
    check_cells(size, model.cell)
    shape = model.channels, height // model.cell, width // model.cell
    noise = torch.stack([torch.randn(shape, generator=rng) for _ in range(arguments.n)])
    z = x = noise * (1 + sigmas[0] ** 2).sqrt()  # latents have unit variance, and the noise is added to them
    with torch.no_grad():
        for _, state, _ in tqdm(ddim_steps(z, denoiser, sigmas), total=len(sigmas) - 1, desc="ddim"):
            x = check_finite(state)
        pictures = model.decode(x)
    side_by_side(pictures).save(arguments.out)
    print(f"{arguments.out}: {arguments.n} of {width}x{height}")
    return 0
