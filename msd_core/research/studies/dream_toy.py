"""DREAM in the plane: the learned denoiser of the fractal, trained on noise with p = infinity, 1 and 0, or on scores.

The exact score is known, so that what DREAM does to the denoiser itself shows, apart from what it does to samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...densities import GaussianMixture
from ...sampling import ddim_sample
from ...schedule import karras_sigmas
from ..densities import make_density
from ..metrics import nll, precision_recall
from ..toy import ToyDenoiser, ToySettings, train_steps
from ..toy.pool import scored_points
from ..toy.train import score_loss, toy_network
from .study import Cell, Context, OnStep

TRAININGS: dict[str, tuple[str, float | None]] = {
    "score": ("score", None),
    "noise, p = ∞": ("noise", math.inf),
    "noise, p = 1": ("noise", 1.0),
    "noise, p = 0": ("noise", 0.0),
}
"""Target and exponent of each training."""


@dataclass(frozen=True)
class Plan:
    """Sizes of the study."""

    density: str = "fractal"
    cls: str | None = "A"
    snapshots: tuple[int, ...] = (64, 128, 256, 512, 1024)
    dim: int = 64
    batch: int = 4096
    pool: int = 2**18
    held_out: int = 2**14
    points: int = 4096
    steps: int = 32

    def settings(self, name: str, seed: int) -> ToySettings:
        target, dream = TRAININGS[name]
        sizes = {"steps": self.snapshots[-1], "dim": self.dim, "batch": self.batch, "pool": self.pool}
        return ToySettings(self.density, self.cls, seed=seed, target=target, dream=dream, **sizes)


QUICK = Plan(snapshots=(2, 4), dim=8, batch=32, pool=256, held_out=256, points=64, steps=4)
FIGURES = ("score_error", "nll", "precision", "recall")


def trained(context: Context, plan: Plan, name: str) -> Cell:
    """Losses of a training, and the figures of each snapshot's averaged weights, in order of the snapshots."""
    settings, mixture = plan.settings(name, context.seed), make_density(plan.density).of(plan.cls)
    sizes = {"held_out": plan.held_out, "points": plan.points, "steps": plan.steps}
    key: dict[str, Any] = {"part": "toy", "training": name, "settings": settings.as_json(), **sizes}
    key |= {"snapshots": list(plan.snapshots), "parameters": mixture.digest()}

    def compute(progress: OnStep) -> Cell:
        rng = context.rng("dream", "toy", "held out")
        held_out = scored_points(mixture, plan.held_out, settings.noise_mean, settings.noise_std, rng=rng)
        figures, losses = {f: [] for f in FIGURES}, ()
        for state in train_steps(settings, mixture):
            losses = state.losses
            if state.step in plan.snapshots:
                denoiser = ToyDenoiser(toy_network(settings, state.average))
                for figure, value in _figures(context, plan, denoiser, mixture, held_out).items():
                    figures[figure].append(value)
            progress(state.step, settings.steps)
        return Cell({**figures, "losses": list(losses)})

    return context.cell("dream", key, compute)


@torch.no_grad()
def _figures(
    context: Context, plan: Plan, denoiser: ToyDenoiser, mixture: GaussianMixture, held_out: tuple[Tensor, ...]
) -> dict[str, float]:
    """sigma^2 |score error|^2 on the held-out points; NLL, precision and recall of DDIM samples."""
    z, sigma, score = held_out
    rng = context.rng("dream", "toy", "samples")
    reference = mixture.sample(plan.points, rng=rng)
    start = denoiser.sigma_max * torch.randn(plan.points, z.shape[1], generator=rng)
    levels = karras_sigmas(plan.steps, denoiser.sigma_min, denoiser.sigma_max)
    points = ddim_sample(start, denoiser, levels)
    precision, recall = precision_recall(points, reference)
    error = float(score_loss(denoiser.network.score(z, sigma), score, sigma))
    return dict(zip(FIGURES, (error, nll(points, mixture), precision, recall), strict=True))


def entropy(context: Context, plan: Plan) -> float:
    """NLL of as many points of the density itself."""
    mixture = make_density(plan.density).of(plan.cls)
    return nll(mixture.sample(plan.points, rng=context.rng("dream", "toy", "truth")), mixture)
