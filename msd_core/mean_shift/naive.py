"""Naive estimator: the kernel's score added to the model's, in an explicit solver (Mean-Shift Distillation, Eq. 12).

    eps <- eps - sigma (c - z)/lambda^2,   that is   D <- D + sigma^2 (c - z)/lambda^2.

It follows the same ODE as the split estimator, but the kernel term is stiff: an explicit Euler step multiplies z - c by
1 - sigma (sigma - sigma')/lambda^2, and diverges where that is below -1. With few steps and a small lambda the result
is huge or NaN, and is returned as it is; the paper's Eq. 15 (`split`) is the remedy, and this the reference it is
compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..denoiser import Sigma, expand_sigma
from ..settings import setting
from .base import Centred, Task, Walking, average, repeat, scatter
from .interval import INTERVAL_HELP, bounds, check_interval


@dataclass(frozen=True)
class _KernelScoreDenoiser:
    """The model with the kernel's score added at every level inside ``interval``."""

    task: Task
    interval: tuple[float, float]
    noise: Tensor

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        denoised, level = self.task.denoiser(z, sigma), float(sigma)
        low, high = self.interval
        if not low <= level <= high:
            return denoised
        pull = repeat(self.task.centre(level), self.noise) - z
        return denoised + expand_sigma(sigma, z) ** 2 / self.task.bandwidth**2 * pull


@dataclass(frozen=True, kw_only=True)
class Naive(Centred, Walking):
    """The kernel's score added to the model's (Eq. 12), unstable at small λ: to see why not.

    Raises:
        ValueError: for a value out of range, or an interval that is none.
    """

    interval: tuple[float, float] | None = setting(
        None, INTERVAL_HELP, kind=float, length=2, low=0, infinite=True, optional=True, expert=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval(self.interval)

    def highest(self, bandwidth: float, sigma_max: float) -> float:
        """3 lambda, from where the explicit steps are stable if there are 16 or more."""
        return min(sigma_max, 3 * bandwidth)

    def centre_levels(self, bandwidth: float, sigma_max: float, data_std: float = 1.0) -> list[float]:
        """Those of the walk."""
        return self.levels(bandwidth, sigma_max, data_std)

    def estimate(self, task: Task) -> tuple[Tensor, float]:
        """x' (B, *), averaged over the samples; starts at x + sigma_0 n."""
        noise, levels, step = self.noise(task), self.levels(task.bandwidth, task.sigma_max, task.data_std), self.step()
        z, kernel = scatter(task.x, levels[0], noise), _KernelScoreDenoiser(task, bounds(self.interval), noise)
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            z, _ = step(z, kernel, sigma, sigma_next)
        return average(z, noise), levels[0]
