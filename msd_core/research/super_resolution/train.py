"""Train the super-resolution network, with DREAM's noise or without.

Objective: |eps_theta(sqrt(ᾱ) x + sqrt(1 - ᾱ) n; t, low) - n|² (Ho et al. 2020, Eq. 14; Saharia et al. 2021), t uniform,
n replaced by DREAM's noise for ``dream`` below infinity (:mod:`msd_core.research.dream`). Every picture is drawn anew.
Pictures, levels and noises of a step depend on the seed and the step's number alone, not on ``dream``: trainings that
differ in it see the same.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...schedule import sd15_schedule
from ...training import OnStep, step_generator, training_steps, update_average
from ...validation import check_count
from ..dream import check_dream, rectified_noise
from .model import SuperResolver
from .pictures import draw_pictures, enlarge, reduce

Weights = dict[str, Tensor]
SAVE_EVERY = 64
"""Steps between two saves of the state."""


@dataclass(frozen=True)
class SuperResolutionSettings:
    """What a training is made of.

    Args:
        dream: DREAM's exponent; math.inf is standard training.
        prediction: what the UNet puts out, see `SuperResolver`; the objective is the same.
        snapshots: steps after which the averaged weights are kept; the last one ends the training.
    """

    dream: float = math.inf
    seed: int = 0
    side: int = 32
    width: int = 64
    snapshots: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    batch: int = 16
    lr: float = 1e-3
    ema: float = 0.999
    prediction: str = "noise"

    def __post_init__(self) -> None:
        check_dream(self.dream)
        check_count("batch", self.batch)
        if not self.snapshots or list(self.snapshots) != sorted(set(self.snapshots)) or self.snapshots[0] < 1:
            raise ValueError(f"snapshots: got {self.snapshots}; allowed are rising counts of steps. Use (64, 128).")


@dataclass(eq=False)
class Record:
    """What a training leaves: the averaged weights at each snapshot, the loss of every step, and the time they took."""

    average: SuperResolver
    snapshots: dict[int, Weights] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def state_dict(self) -> Mapping[str, Any]:
        rest = {"snapshots": self.snapshots, "losses": self.losses, "seconds": self.seconds}
        return {"average": self.average.state_dict(), **rest}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.average.load_state_dict(state_dict["average"])
        self.snapshots, self.losses, self.seconds = (state_dict[k] for k in ("snapshots", "losses", "seconds"))


def noise_loss(
    model: SuperResolver, pictures: Tensor, t: Tensor, noise: Tensor, alphas_cumprod: Tensor, dream: float = math.inf
) -> Tensor:
    """The objective, mean () over ``pictures`` (B, 3, S, S) in [0, 1] at steps ``t`` (B,) with ``noise`` like them."""
    x, condition = 2 * pictures - 1, 2 * enlarge(reduce(pictures)) - 1
    alpha_bar = alphas_cumprod[t][:, None, None, None]

    def predict(noise: Tensor) -> Tensor:
        return model(alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise, t, condition)

    target = rectified_noise(noise, lambda: predict(noise), (1 - alpha_bar).sqrt().flatten(), dream)
    return (predict(target) - target).square().mean()


def train_super_resolution(
    settings: SuperResolutionSettings, checkpoint: Path, *, progress: OnStep | None = None
) -> Record:
    """Train to the last snapshot, going on from ``checkpoint`` if it is there; ``progress`` gets (steps done, all)."""
    s = settings
    model = SuperResolver.random(s.seed, s.width, s.prediction)
    record = Record(copy.deepcopy(model).requires_grad_(False))
    alphas_cumprod, began = sd15_schedule().alphas_cumprod.float(), 0.0

    def loss_at(step: int) -> Tensor:
        nonlocal began
        began = time.perf_counter()
        rng = step_generator(s.seed, step)
        pictures = draw_pictures(s.batch, s.side, rng)
        t = torch.randint(len(alphas_cumprod), (s.batch,), generator=rng)
        loss = noise_loss(model, pictures, t, torch.randn(pictures.shape, generator=rng), alphas_cumprod, s.dream)
        record.losses.append(float(loss.detach()))
        return loss

    def after_step(step: int) -> None:
        update_average(record.average, model, step, s.ema)
        record.seconds += time.perf_counter() - began
        if step + 1 in s.snapshots:
            record.snapshots[step + 1] = {k: v.clone() for k, v in record.average.state_dict().items()}

    total = s.snapshots[-1]
    for step in training_steps(
        model, loss_at, checkpoint, steps=total, lr=s.lr, decay_fraction=0.0, save_every=SAVE_EVERY,
        after_step=after_step, extra=record,
    ):  # fmt: skip
        if progress is not None:
            progress(step.done, total)
    return record
