"""DREAM in super-resolution: the same training with p = infinity, 1 and 0, measured against steps of both kinds.

For each of two networks: one that puts out the noise, as SR3's does, and one that puts out the velocity, whose errors
at high noise are not magnified in the denoised picture.

Weights are the averaged ones of each snapshot; pictures and starting noises are the same for all, so that differences
are paired.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...schedule import sd15_schedule
from ..super_resolution import (
    FIGURES,
    SuperResolutionSettings,
    SuperResolver,
    draw_pictures,
    enlarge,
    noise_loss,
    reduce,
    super_resolve,
    train_super_resolution,
)
from .study import Cell, Context, OnStep

PREDICTIONS = ("velocity", "noise")
EXPONENTS = (math.inf, 1.0, 0.0)
NAMES = {math.inf: "p = ∞ (standard)", 1.0: "p = 1 (DREAM)", 0.0: "p = 0 (rectification)"}
LABELS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "sharpness": "sharpness (truth = 1)",
    "consistency": "consistency (dB)",
}
"""What the exponents and the figures are called on the page."""
SHOWN = 6
"""Pictures kept of every evaluation."""
CHUNK = 32


@dataclass(frozen=True)
class Plan:
    """Sizes of the study."""

    snapshots: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    side: int = 32
    width: int = 64
    batch: int = 16
    held_out: int = 64
    draws: int = 8
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    curve_steps: int = 16

    def settings(self, prediction: str, p: float, seed: int) -> SuperResolutionSettings:
        """Of one training."""
        sizes = {"side": self.side, "width": self.width, "snapshots": self.snapshots, "batch": self.batch}
        return SuperResolutionSettings(dream=p, seed=seed, prediction=prediction, **sizes)


QUICK = Plan(snapshots=(2, 4), side=16, width=32, batch=2, held_out=4, draws=2, steps=(1, 2), curve_steps=2)

Measured = dict[str, Tensor]
"""Figures of an evaluation, one number a picture."""


def as_json(settings: SuperResolutionSettings) -> dict[str, Any]:
    """The settings as JSON values, an infinite exponent as "inf"."""
    return {**asdict(settings), "snapshots": list(settings.snapshots), "dream": f"{settings.dream:g}"}


def cells(plan: Plan) -> int:
    """Cells that this part asks for."""
    return len(PREDICTIONS) * len(EXPONENTS) * (2 + len(_walks(plan)))


def curve(plan: Plan) -> list[tuple[int, int]]:
    """(snapshot, DDIM steps) of every snapshot at the middle number of steps."""
    return [(snapshot, plan.curve_steps) for snapshot in plan.snapshots]


def final(plan: Plan) -> list[tuple[int, int]]:
    """(snapshot, DDIM steps) of the last snapshot at every number of steps."""
    return [(plan.snapshots[-1], n) for n in plan.steps]


def _walks(plan: Plan) -> list[tuple[int, int]]:
    return list(dict.fromkeys(curve(plan) + final(plan)))


def trained(context: Context, settings: SuperResolutionSettings) -> Cell:
    """The snapshots' weights, the losses and the seconds of a training; one that was interrupted goes on."""
    key = {"part": "super-resolution training", "settings": as_json(settings)}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    checkpoint = context.folder / "cells" / f"dream-training-{name}.pt"

    def compute(progress: OnStep) -> Cell:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        record = train_super_resolution(settings, checkpoint, progress=progress)
        tensors = {f"{step}.{k}": v for step, weights in record.snapshots.items() for k, v in weights.items()}
        return Cell({"losses": record.losses, "training_seconds": record.seconds}, tensors)

    cell = context.cell("dream", key, compute)
    checkpoint.unlink(missing_ok=True)
    return cell


def _network(cell: Cell, settings: SuperResolutionSettings, snapshot: int) -> SuperResolver:
    """The network with the averaged weights of a snapshot."""
    model, prefix = SuperResolver(settings.width, settings.prediction), f"{snapshot}."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in cell.tensors.items() if k.startswith(prefix)})
    return model.eval().requires_grad_(False)


def truth(context: Context, plan: Plan) -> Tensor:
    """The held-out pictures."""
    return draw_pictures(plan.held_out, plan.side, context.rng("dream", "held out"))


def held_out_loss(context: Context, plan: Plan, settings: SuperResolutionSettings, training: Cell) -> Cell:
    """Standard noise loss (p = infinity) of each snapshot on the held-out pictures, the same for every exponent."""
    key = {"part": "held-out loss", "settings": as_json(settings), "pictures": plan.held_out, "draws": plan.draws}

    def compute(progress: OnStep) -> Cell:
        alphas_cumprod, pictures = sd15_schedule().alphas_cumprod.float(), truth(context, plan)
        losses = []
        for i, snapshot in enumerate(settings.snapshots):
            model, rng = _network(training, settings, snapshot), context.rng("dream", "loss")
            some = []
            for chunk in pictures.repeat(plan.draws, 1, 1, 1).split(CHUNK):
                t = torch.linspace(0, len(alphas_cumprod) - 1, len(chunk)).round().long()
                noise = torch.randn(chunk.shape, generator=rng)
                some.append(noise_loss(model, chunk, t, noise, alphas_cumprod))
            losses.append(float(torch.stack(some).mean()))
            progress(i + 1, len(settings.snapshots))
        return Cell({"losses": losses})

    return context.cell("dream", key, compute)


def figures_of(pictures: Tensor, target: Tensor) -> dict[str, list[float]]:
    """Every figure of ``pictures`` against ``target``, one number a picture."""
    return {name: figure(pictures, target).tolist() for name, figure in FIGURES.items()}


def sampled(
    context: Context, plan: Plan, settings: SuperResolutionSettings, training: Cell, walk: tuple[int, int]
) -> Cell:
    """Figures of the DDIM samples of one snapshot in so many steps, and the first of the pictures."""
    snapshot, steps = walk
    key = {"part": "samples", "settings": as_json(settings), "snapshot": snapshot, "steps": steps}
    key |= {"pictures": plan.held_out, "chunk": CHUNK}

    def compute(progress: OnStep) -> Cell:
        target, rng = truth(context, plan), context.rng("dream", "samples")
        model, made = _network(training, settings, snapshot), []
        for chunk in target.split(CHUNK):
            made.append(super_resolve(model, reduce(chunk), steps=steps, rng=rng))
            progress(len(made), math.ceil(plan.held_out / CHUNK))
        pictures = torch.cat(made)
        return Cell(figures_of(pictures, target), {"pictures": pictures[:SHOWN]})

    return context.cell("dream", key, compute)


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that was measured of one exponent; figures by (snapshot, DDIM steps)."""

    settings: SuperResolutionSettings
    losses: Tensor
    held_out: dict[int, float]
    seconds: float
    figures: Mapping[tuple[int, int], Measured]
    pictures: Mapping[tuple[int, int], Tensor]


Outcomes = Mapping[float, Outcome]
"""Outcomes of one network by exponent."""


def outcomes(context: Context, plan: Plan, prediction: str) -> Outcomes:
    """Train one network with every exponent, and measure."""
    return {p: outcome(context, plan, prediction, p) for p in EXPONENTS}


def outcome(context: Context, plan: Plan, prediction: str, p: float) -> Outcome:
    """Train one network with exponent ``p``, and measure."""
    settings = plan.settings(prediction, p, context.seed)
    training = trained(context, settings)
    losses = held_out_loss(context, plan, settings, training).numbers["losses"]
    walks = {walk: sampled(context, plan, settings, training, walk) for walk in _walks(plan)}
    return Outcome(
        settings,
        torch.tensor(training.numbers["losses"]),
        dict(zip(settings.snapshots, losses, strict=True)),
        training.numbers["training_seconds"],
        {walk: {k: torch.tensor(v) for k, v in cell.numbers.items()} for walk, cell in walks.items()},
        {walk: cell.tensors["pictures"] for walk, cell in walks.items()},
    )


def bicubic(context: Context, plan: Plan) -> Measured:
    """Figures of the bicubic enlargement, which is what the network is given."""
    target = truth(context, plan)
    return {k: torch.tensor(v) for k, v in figures_of(enlarge(reduce(target)), target).items()}


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean over pictures, and its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def fewest(values: Mapping[int, float], target: float) -> int | None:
    """The least number of steps, or iterations, whose value reaches ``target``; None if none does."""
    return min((n for n, value in values.items() if value >= target), default=None)


def means(outcome: Outcome, walks: Sequence[tuple[int, int]], figure: str) -> list[float]:
    """Means of a figure over the pictures, for each walk."""
    return [mean_and_error(outcome.figures[walk][figure])[0] for walk in walks]
