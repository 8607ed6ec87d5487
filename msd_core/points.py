"""Distillation of bare points: x itself is the parameter, many rows at once, as in the two-dimensional studies.

    x <- update(x, g(x)),   g the descent gradient of a method, row by row independent

With `OptimizerConfig` "adam" (the paper's, lr = .08) or "gd": with x as its own parameters, "gd" is x <- x - lr g,
plain gradient descent, and with a mean-shift method and lr = 1 the mean-shift iteration x <- x' itself (Mean-Shift
Distillation, Eq. 6; Comaniciu & Meer 2002).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoiser
from .distillation import Method
from .info import Info
from .optimizers import OptimizerConfig, Update, apply_update
from .validation import check_count, check_floating

PAPER_ADAM = OptimizerConfig("adam", lr=0.08, betas=(0.9, 0.999), eps=1e-8)
"""Mean-Shift Distillation, section 4.2: Adam, lr = .08; its other settings are torch's defaults."""

MEAN_SHIFT_ITERATION = OptimizerConfig("gd", lr=1.0)
"""x <- x - g: with g = x - x', the mean-shift iteration."""


@dataclass(frozen=True)
class Points:
    """The points after ``step`` updates, (B, *), and the `Info` of the gradient that moved them last."""

    step: int
    x: Tensor
    info: Info


def optimize_points(
    x: Tensor,
    method: Method,
    denoiser: Denoiser,
    *,
    steps: int,
    optimizer: OptimizerConfig = PAPER_ADAM,
    generator: torch.Generator,
) -> Iterator[Points]:
    """Move every row of ``x`` by the method's gradient; yields after each of the ``steps``.

    Args:
        x: where the points start, (B, *), floating point.
        method: gives the descent gradient, see `distillation`; an MSD needs as many bandwidths as ``steps``.
        denoiser: ``(z, sigma) -> E[y | z]``, guided or not.
        optimizer: its settings; ``lr_coupling`` ties the rate to the method's bandwidth.
        generator: of the method's noise.

    Raises:
        ValueError: for an ``x`` that is not floating point, fewer than one step, or as the method.
    """
    check_floating("x", x)
    check_count("steps", steps)
    state: dict[str, Tensor] = {}
    x = x.detach()
    for step in range(steps):
        gradient, info = method(x, denoiser, step=step, steps=steps, generator=generator)
        norm2 = float(gradient.double().square().sum())
        update = Update(step + 1, optimizer.rate(method.bandwidth(step)), norm2)
        moved, state = apply_update(optimizer, update, {"x": x}, {"x": gradient}, state)
        x = moved["x"]
        yield Points(step + 1, x, info)
