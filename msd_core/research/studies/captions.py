"""Runs of drawn captions on the demo model, several side by side, and the pictures that they pass on their way.

The captions are of two and three things: one thing alone is drawn by every method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...demo.evaluate import draw_scenes
from ...demo.judge import judge
from ...demo.model import DEMO_MODEL_PATH, load_demo_model
from ...demo.quality import Estimate, bootstrap
from ...demo.scenes import caption
from ...distil import fitted, run
from ...generators import generator_for_size
from ...generators.batch import Batch
from ...optimize import start
from ...preset import preset_of
from ...sweep.plan import SAMPLED
from ...warm import sample
from .study import Cell, Context, OnStep, model_digest

TOGETHER = 6
"""Captions of a cell."""
CFG = 3.0


def captions(seed: int, count: int) -> list[str]:
    """``count`` captions, TOGETHER of which share a cell; the first ones do not depend on the count."""
    return [caption(scene) for scene in draw_scenes(count, seed + 63_000, (2, 3))]


def in_cells(prompts: Sequence[str]) -> list[list[str]]:
    """The captions of each cell."""
    return [list(prompts[i : i + TOGETHER]) for i in range(0, len(prompts), TOGETHER)]


def passed(context: Context, prompts: Sequence[str], method: str, marks: Sequence[int], **settings: Any) -> Cell:  # noqa: ANN401
    """A run of every caption, each with a seed of its own, and what it passes.

    Args:
        context: of the study; its seed is the first caption's.
        prompts: captions.
        method: a method's name; "ddim" for samples, whose one mark is its steps, and "fit" for the neural images fitted
            to them.
        marks: iterations after which the pictures are kept; 0 is the start.
        **settings: of the run, by plain name.

    Returns:
        ``pictures`` (marks, captions, 3, H, W) in 0 ... 255; by mark, ``evaluations`` of one caption.
    """
    key = {
        "prompts": list(prompts),
        "method": method,
        "marks": list(marks),
        "run": {"cfg": CFG} if method in SAMPLED else preset_of(method, cfg=CFG, **settings).to_json(),
        "model": model_digest(DEMO_MODEL_PATH),
    }

    def compute(progress: OnStep) -> Cell:
        seeds = [context.seed + i for i in range(len(prompts))]
        if method in SAMPLED:
            return _sampled(list(prompts), seeds, marks[0], method == "fit")
        return _run(list(prompts), seeds, method, marks, settings, progress)

    return context.cell("captions", key, compute)


def _run(
    prompts: list[str],
    seeds: list[int],
    method: str,
    marks: Sequence[int],
    settings: dict[str, Any],
    progress: OnStep,
) -> Cell:
    model, preset = load_demo_model(), preset_of(method, cfg=CFG, **settings)
    generator = Batch([generator_for_size("fourier", model.side, model.side, seed=seed) for seed in seeds])
    state = start(generator, steps=preset.steps, seed=seeds)
    states = run(state, preset, model, prompts)
    pictures, evaluations = [], []
    for step in range(preset.steps + 1):
        if step in marks:
            pictures.append(eight_bits(state.picture()))
            evaluations.append(state.evaluations / len(prompts))
        if step < preset.steps:
            state = next(states)
            progress(step + 1, preset.steps)
    return Cell({"evaluations": evaluations}, {"pictures": torch.stack(pictures)})


def _sampled(prompts: list[str], seeds: list[int], steps: int, fit: bool) -> Cell:
    model = load_demo_model()
    found = sample(model, prompts, cfg=CFG, n=len(prompts), seed=seeds, steps=steps)
    pictures = found.pictures
    if fit:
        generator = Batch([generator_for_size("fourier", model.side, model.side, seed=seed) for seed in seeds])
        batch = fitted(generator, model, pictures)
        pictures = batch.render(batch.frame(model.side, model.side))
    return Cell({"evaluations": [found.evaluations / len(prompts)]}, {"pictures": eight_bits(pictures)[None]})


@torch.no_grad()
def eight_bits(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as numbers from 0 to 255."""
    return (255 * pictures.detach().clamp(0, 1)).round().to(torch.uint8)


def encoded(pictures: Tensor) -> Tensor:
    """x (B, C, h, w) of pictures (B, 3, H, W) in 0 ... 255, as the demo model encodes them."""
    with torch.no_grad():
        return load_demo_model().encode(pictures.float() / 255)


def verdicts(pictures: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Accepted, and mean IoU of the things, each (B,), of pictures (B, 3, H, W) in 0 ... 255."""
    seen = [judge(picture.float() / 255, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]
    accepted = torch.tensor([float(verdict.accepted) for verdict in seen])
    return accepted, torch.tensor([sum(t.iou for t in verdict.things) / len(verdict.things) for verdict in seen])


def interval(values: Tensor, seed: int = 0) -> Estimate:
    """The mean of ``values`` (N,) with its 95 % bootstrap interval, which lies between the least and the largest."""
    rng, least, most = torch.Generator().manual_seed(seed), float(values.min()), float(values.max())
    found = bootstrap(lambda count: (count * values.double()).sum() / count.sum(), len(values), rng, 1000, 0.95)
    return Estimate(found.value, max(least, found.low), min(most, found.high))


def with_interval(values: Tensor, digits: int = 2) -> str:
    """The mean and its interval, as a table's cell."""
    found = interval(values)
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
