"""Run a batch of cells of one setting: make the pictures, and measure them.

Every picture has its own generator and its own noise, by its seed; the batch only shares the model's calls.

A picture of the demo model whose prompt is a caption of its world is read by the judge. Another model draws other
pictures of the same words: there the judge's columns stay empty. Every picture is measured by the model itself:

    surprise = mean over sigma, n of |D(x + sigma n; sigma) - x|^2 / (sigma^2 dim x),   x the encoded picture, cfg 1

the error of denoising it, which is what the model was trained to lower: small where the picture is typical for the
prompt (the integrand of the likelihood bound of Kingma et al. 2021, Eq. 17), at levels around the data's spread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..denoiser import data_std
from ..distil import fitted, run
from ..finite import check_finite
from ..generators import generator_for_size
from ..generators.base import Generator, on_device
from ..generators.batch import Batch
from ..model import Model, device_of, encoder_of
from ..optimize import start
from ..randomness import normal, seeded
from ..state import State
from ..units import units_of
from ..warm import Sampled, sample
from .grid import Cell
from .plan import Plan, plan_of

LEVELS = (0.5, 1.0, 2.0)
"""Of the noise, in deviations of the model's data."""
DRAWS = 4
NOISE_SEED = 20_250_215
"""Of the noise under which pictures are measured: the same for all."""


@dataclass(frozen=True)
class Row:
    """What came out of a cell: ``seconds`` are its share of the batch's; what cannot be said is None."""

    evaluations: int
    seconds: float
    surprise: float
    accepted: bool | None = None
    iou: float | None = None
    stray: float | None = None
    wrong: str | None = None


def run_batch(
    cells: Sequence[Cell],
    model: Model,
    size: tuple[int, int],
    generator: str,
    *,
    judge: bool = True,
) -> list[tuple[Row, Tensor]]:
    """The row and the picture (3, H, W) in [0, 1], on the CPU, of each of ``cells``, which share their options.

    Raises:
        ValueError: for options that the model or the generator does not allow, and numbers that are not finite; and
            whatever a method, a generator or a model raises.
    """
    began = time.monotonic()
    plan = plan_of(cells[0].options, generator, units_of(model, *size))
    pictures, evaluations = _made(cells, plan, model, size, generator)
    seconds = (time.monotonic() - began) / len(cells)
    known = surprise(model, [cell.prompt for cell in cells], pictures)
    check_finite(
        "model", [pictures, torch.tensor(known)], "picture or its surprise", "Use another dtype, or lower cfg."
    )
    pictures = pictures.cpu()
    rows = []
    for cell, picture, value in zip(cells, pictures, known, strict=True):
        verdict = judged(cell.prompt, picture) if judge else {}
        rows.append((Row(evaluations, seconds, value, **verdict), picture))
    return rows


def _made(cells: Sequence[Cell], plan: Plan, model: Model, size: tuple[int, int], kind: str) -> tuple[Tensor, int]:
    """The pictures (B, 3, H, W), and the evaluations that each took."""
    sampled: Sampled | None = None
    before = 0
    if plan.preset is None or plan.start:
        sampled = sample(
            model,
            [c.prompt for c in cells],
            plan.negative,
            cfg=plan.cfg,
            width=size[0],
            height=size[1],
            n=len(cells),
            seed=[c.seed for c in cells],
            steps=plan.steps,
        )
        before = sampled.evaluations // len(cells)
        if plan.preset is None and not plan.fit:
            return sampled.pictures, before
    generators: list[Generator] = [
        generator_for_size(kind, *size, seed=c.seed, channels=model.channels, cell=model.cell) for c in cells
    ]
    batch: Generator = on_device(Batch(generators), device_of(model))
    if sampled is not None:
        batch = fitted(batch, model, sampled.pictures)
    state = start(batch, steps=plan.preset.steps if plan.preset else 1, seed=[c.seed for c in cells])
    if plan.preset is not None:
        state = _last(state, run(state, plan.preset, model, [c.prompt for c in cells], plan.negative))
    picture = state.picture()
    if batch.space == "latent" and model.decode is not None:
        with torch.no_grad():
            picture = model.decode(picture).clamp(0, 1)
    return picture, before + state.evaluations // len(cells)


def _last(state: State, states: Any) -> State:  # noqa: ANN401 - an iterator of states
    for state in states:  # noqa: B007 - the last is what is asked for
        pass
    return state


@torch.no_grad()
def surprise(model: Model, prompts: Sequence[str], pictures: Tensor) -> list[float]:
    """The error of denoising each of ``pictures`` (B, 3, H, W) under its prompt, equation above."""
    x = encoder_of(model)(pictures)
    noise = torch.stack([normal(x.shape[1:], seeded(NOISE_SEED + i)) for i in range(DRAWS)]).to(x)
    denoiser = model.denoiser(list(prompts), "", 1.0)
    spread = data_std(denoiser)
    total = torch.zeros(len(x), dtype=torch.float64)
    for sigma in (spread * level for level in LEVELS):
        for draw in noise:
            error = (denoiser(x + sigma * draw, sigma) - x).cpu().double()  # not every device has float64
            total += error.flatten(1).square().mean(dim=1) / sigma**2
    return (total / (len(LEVELS) * DRAWS)).tolist()


def judged(prompt: str, picture: Tensor) -> dict[str, Any]:
    """The judge's verdict on ``picture`` (3, H, W).

    Nothing for a prompt that is no caption of the demo's world, or one of a thing that cannot be seen on its ground.
    """
    from ..demo.judge import check_visible, judge
    from ..demo.scenes import parse

    try:
        scene = parse(prompt)
        check_visible(scene)
    except ValueError:
        return {}
    verdict = judge(picture, scene)
    iou = sum(thing.iou for thing in verdict.things) / len(verdict.things)
    return {"accepted": verdict.accepted, "iou": iou, "stray": verdict.stray, "wrong": ", ".join(verdict.wrong)}


def as_json(row: Row) -> dict[str, Any]:
    """Plain values by name."""
    return asdict(row)
