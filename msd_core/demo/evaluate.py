"""Measure the demo model: the autoencoder's round trip, and what share of its pictures the judge accepts.

python -m msd_core.demo.evaluate --cfg 2 3 5 --sheet sheet.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..sampling import ddim_sample
from ..schedule import sigma_schedule
from .judge import Verdict, judge
from .latent_fit import fit_latent
from .model import DemoModel, load_demo_model
from .quality import distances
from .scenes import SIDE, Scene, caption, draw, random_scene
from .train_autoencoder import patches, round_trip_psnr

FIGURES = (
    *("accepted", "colours_right", "shapes_right", "background_right", "place_right", "style_right", "sizes_right"),
)
COUNTS = {"one thing": 1, "two things": 2, "three things": 3}


def draw_scenes(count: int, seed: int, things: Sequence[int] = (1, 2, 3)) -> list[Scene]:
    """``count`` scenes from the grammar, whose numbers of things are ``things`` in turn."""
    generator = torch.Generator().manual_seed(seed)
    return [random_scene(generator, objects=things[i % len(things)]) for i in range(count)]


@torch.no_grad()
def sample_scenes(
    model: DemoModel, scenes: list[Scene], *, cfg: float, steps: int = 32, seed: int = 0, batch: int = 50
) -> Iterator[tuple[Scene, Tensor]]:
    """DDIM samples: each scene with its picture (3, SIDE, SIDE) in [0, 1].

    With the levels called "normal", and one stream of noise for all: the model's card and the sheet of `msd compare`
    are recorded with them. `warm.sample`, which everything else draws with, takes equal steps of the chain (its second
    level of 32 is 12.142, here it is 12.072), and each picture's noise from its own seed.
    """
    generator = torch.Generator().manual_seed(seed)
    sigmas = sigma_schedule("normal", steps, schedule=model.schedule)
    for first in range(0, len(scenes), batch):
        some = scenes[first : first + batch]
        noise = torch.randn(len(some), 4, SIDE // 8, SIDE // 8, generator=generator)
        z = noise * (1 + sigmas[0] ** 2).sqrt()
        x = ddim_sample(z, model.denoiser([caption(s) for s in some], cfg=cfg), sigmas)
        yield from zip(some, model.decode(x), strict=True)


def shares(verdicts: list[Verdict]) -> dict[str, float]:
    """The share of the verdicts that each figure holds for."""
    return {name: sum(getattr(v, name) for v in verdicts) / len(verdicts) for name in FIGURES}


def by_count(verdicts: list[Verdict]) -> dict[str, dict[str, float]]:
    """`shares` for scenes of one, two and three things, and of all."""
    groups = {name: [v for v in verdicts if len(v.things) == n] for name, n in COUNTS.items()}
    return {name: shares(group) for name, group in {**groups, "all": verdicts}.items() if group}


def evaluate(
    model: DemoModel, *, cfg: float, count: int = 500, steps: int = 32, seed: int = 1
) -> dict[str, dict[str, float]]:
    """`by_count` of the judge's verdicts over ``count`` drawn prompts, and the samples' distances to true drawings."""
    scenes = draw_scenes(count, seed)
    bar = tqdm(sample_scenes(model, scenes, cfg=cfg, steps=steps, seed=seed), total=count, desc=f"cfg {cfg:g}")
    pictures, verdicts = zip(*((picture, judge(picture, scene)) for scene, picture in bar), strict=True)
    frechet, mmd = distances(torch.stack(pictures), scenes, seed=seed)
    return {**by_count(list(verdicts)), "Fréchet distance": asdict(frechet), "MMD²": asdict(mmd)}


@torch.no_grad()
def round_trip(model: DemoModel, count: int, seed: int) -> dict[str, object]:
    """The autoencoder alone: PSNR in dB on scenes and on plain patches of random colours, and what the judge accepts of
    decoded scenes, which bounds what it can accept of samples.
    """
    generator = torch.Generator().manual_seed(seed)
    scenes = draw_scenes(count, seed)
    pictures = draw(scenes, SIDE, generator)
    again = torch.cat([model.decode(model.encode(some)) for some in pictures.split(16)])
    verdicts = [judge(picture, scene) for picture, scene in zip(again, scenes, strict=True)]
    return {
        "PSNR of scenes (dB)": round_trip_psnr(model.autoencoder, pictures),
        "PSNR of patches (dB)": round_trip_psnr(model.autoencoder, patches(count, SIDE, generator)),
        "accepted": {name: group["accepted"] for name, group in by_count(verdicts).items()},
    }


def save_sheet(pictures: list[Tensor], path: Path, columns: int = 8, gap: int = 8) -> None:
    """Write pictures (3, S, S) in [0, 1] as one sheet, row by row, on white."""
    from PIL import Image

    side, rows = pictures[0].shape[-1], -(-len(pictures) // columns)
    sheet = torch.ones(3, rows * (side + gap) + gap, columns * (side + gap) + gap)
    for i, picture in enumerate(pictures):
        top, left = (gap + place * (side + gap) for place in divmod(i, columns))
        sheet[:, top : top + side, left : left + side] = picture
    Image.fromarray((sheet * 255).round().byte().movedim(0, -1).numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the demo model against its judge.")
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the one that ships)")
    parser.add_argument("--cfg", type=float, nargs="+", default=[3.0])
    parser.add_argument("--count", type=int, default=500, help="prompts for each cfg")
    parser.add_argument("--steps", type=int, default=32, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fits", type=int, default=0, help="scenes whose latent a neural image is fitted to")
    parser.add_argument("--sheet", type=Path, default=None, help="write 48 samples at the first cfg to this picture")
    arguments = parser.parse_args()
    model = load_demo_model(arguments.model)
    report: dict[str, object] = {"round trip": round_trip(model, min(arguments.count, 240), arguments.seed)}
    if arguments.fits:
        scenes = draw(draw_scenes(arguments.fits, arguments.seed), SIDE)
        report["PSNR of fits to a latent (dB)"] = [round(fit_latent(model, scene[None]), 2) for scene in scenes]
    for cfg in arguments.cfg:
        report[f"cfg {cfg:g}"] = evaluate(
            model, cfg=cfg, count=arguments.count, steps=arguments.steps, seed=arguments.seed
        )
    print(json.dumps(report, indent=2))
    if arguments.sheet:
        scenes = draw_scenes(48, arguments.seed)
        samples = sample_scenes(model, scenes, cfg=arguments.cfg[0], steps=arguments.steps, seed=arguments.seed)
        save_sheet([picture for _, picture in samples], arguments.sheet)


if __name__ == "__main__":
    main()
