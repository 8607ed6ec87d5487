"""What every estimator is given: one checked description of the mean shift to estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..sampling import Step


@dataclass(frozen=True)
class Problem:
    """A mean shift to estimate, its arguments checked and its noise drawn.

    Attributes:
        x: the point, (B, *), at least float32, detached.
        bandwidth: lambda.
        levels: noise levels to walk, descending, ending in 0.
        noise: standard normal noise of the N samples, (N, B, *); None for an estimator that draws none.
        step: one solver step.
        centre: the kernel's centre (B, *) at a noise level.
        interval: noise levels (low, high) between which the kernel acts.
    """

    x: Tensor
    bandwidth: float
    levels: list[float]
    noise: Tensor | None
    step: Step
    centre: Callable[[float], Tensor]
    interval: tuple[float, float]

    @property
    def steps(self) -> list[tuple[float, float]]:
        """Pairs (sigma, sigma_next) of the walk."""
        return list(zip(self.levels, self.levels[1:], strict=False))

    def start(self, around: Tensor) -> Tensor:
        """The start ``around + levels[0] noise`` of every walk: (N B, *); ``around`` itself without noise."""
        return around if self.noise is None else (around + self.levels[0] * self.noise).flatten(0, 1)

    def repeat(self, rows: Tensor) -> Tensor:
        """(B, *) once per sample: (N B, *), in the order of `start`."""
        return rows if self.noise is None else rows.repeat(self.noise.shape[0], *(1,) * (rows.ndim - 1))

    def average(self, y: Tensor) -> Tensor:
        """The mean over samples of walks' ends (N B, *): (B, *)."""
        return y if self.noise is None else y.unflatten(0, self.noise.shape[:2]).mean(dim=0)
