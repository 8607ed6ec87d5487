"""Measure the demo model: the autoencoder's round trip, and what share of its pictures the judge accepts.

python -m msd_core.demo.evaluate --cfg 2 3 5
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..sampling import ddim_sample
from ..schedule import sigma_schedule
from .judge import Verdict, judge
from .model import DemoModel, load_demo_model
from .scenes import Scene, caption, draw, random_scene
from .train import round_trip_psnr

FIGURES = ("accepted", "colours_right", "shapes_right", "background_right", "place_right", "sizes_right")
SIDE = 64


def draw_scenes(count: int, seed: int) -> list[Scene]:
    """``count`` scenes from the grammar, by turns of one object and of two."""
    generator = torch.Generator().manual_seed(seed)
    return [random_scene(generator, objects=1 + i % 2) for i in range(count)]


@torch.no_grad()
def sample_scenes(
    model: DemoModel, scenes: list[Scene], *, cfg: float, steps: int = 32, seed: int = 0, batch: int = 50
) -> Iterator[tuple[Scene, Tensor]]:
    """DDIM samples: each scene with its picture (3, 64, 64) in [0, 1]."""
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


def evaluate(
    model: DemoModel, *, cfg: float, count: int = 500, steps: int = 32, seed: int = 1
) -> dict[str, dict[str, float]]:
    """Shares of the judge's verdicts over ``count`` drawn prompts, for scenes of one object, of two, and all."""
    pairs = sample_scenes(model, draw_scenes(count, seed), cfg=cfg, steps=steps, seed=seed)
    verdicts = [
        judge(picture, scene) for scene, picture in tqdm(pairs, total=count, desc=f"cfg {cfg:g}", mininterval=2.0)
    ]
    groups = {"one object": 1, "two objects": 2}
    result = {name: shares([v for v in verdicts if len(v.things) == n]) for name, n in groups.items()}
    return {**result, "all": shares(verdicts)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the demo model against its judge.")
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the one that ships)")
    parser.add_argument("--cfg", type=float, nargs="+", default=[3.0])
    parser.add_argument("--count", type=int, default=500, help="prompts for each cfg")
    parser.add_argument("--steps", type=int, default=32, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    model = load_demo_model(arguments.model)
    generator = torch.Generator().manual_seed(arguments.seed)
    scenes = draw_scenes(256, arguments.seed)
    report: dict[str, object] = {
        "round trip PSNR (dB)": round_trip_psnr(model.autoencoder, draw(scenes, SIDE, generator))
    }
    for cfg in arguments.cfg:
        report[f"cfg {cfg:g}"] = evaluate(
            model, cfg=cfg, count=arguments.count, steps=arguments.steps, seed=arguments.seed
        )
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
