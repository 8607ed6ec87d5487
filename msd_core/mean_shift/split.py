"""Split estimator: a step of the model alone, then the kernel's own flow solved exactly.

Mean-Shift Distillation, Eq. 15 and Alg. 2. In sigma the kernel adds d(z - c)/dsigma = sigma (z - c)/lambda^2 to the
probability-flow ODE, so from sigma_a down to sigma_b

    z <- c + (z - c) exp(-(sigma_a^2 - sigma_b^2) / (2 lambda^2)):

the paper's Delta t is *variance time*, (sigma_b^2 - sigma_a^2)/2. c is x, or z*_sigma of the inversion of x, taken at
sigma_b (Alg. 2). Where the kernel acts only inside an interval of levels, only the part of the step inside it counts.

The start is x + sigma_0 n. The contraction wipes the noise out while sigma > 2 lambda, so the result hardly depends on
it: this is a nearly deterministic estimator with a bias of its own, since the ODE adds the kernel's clean score to the
model's noised one, and that sum is the score of no noised density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..settings import setting
from .base import Centred, Task, Walking, average, repeat, scatter
from .interval import INTERVAL_HELP, bounds, check_interval


def contraction(sigma: float, sigma_next: float, bandwidth: float, interval: tuple[float, float]) -> float:
    """Factor on z - c of the kernel's flow from ``sigma`` down to ``sigma_next``, clipped to ``interval``."""
    high, low = min(sigma, interval[1]), max(sigma_next, interval[0])
    return math.exp(-max(high**2 - low**2, 0.0) / (2 * bandwidth**2))


@dataclass(frozen=True, kw_only=True)
class Split(Centred, Walking):
    """The paper's stable solver: nearly free of noise, but biased; `solver_steps` evaluations, fewer with `truncation`.

    Raises:
        ValueError: for a value out of range, an interval that is none, or a truncation below every level.
    """

    interval: tuple[float, float] | None = setting(
        None, INTERVAL_HELP, kind=float, length=2, low=0, infinite=True, optional=True, expert=True
    )
    truncation: float | None = setting(
        None,
        "start at the largest σ up to this many λ, at the centre, saving the steps above; 2 is safe",
        kind=float,
        above=0,
        usual=(0, 100),
        optional=True,
        expert=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval(self.interval)

    def levels(self, bandwidth: float, sigma_max: float, data_std: float = 1.0) -> list[float]:
        """The levels to walk, without those above ``truncation * bandwidth``."""
        levels = super().levels(bandwidth, sigma_max, data_std)
        if self.truncation is None:
            return levels
        kept = [level for level in levels if level <= self.truncation * bandwidth]
        if len(kept) < 2:
            raise ValueError(
                f"truncation: got {self.truncation} with bandwidth {bandwidth}; no non-zero level of sigmas is below "
                f"their product, and the lowest is {levels[-2]:g}. Use a larger truncation or lower levels."
            )
        return kept

    def centre_levels(self, bandwidth: float, sigma_max: float, data_std: float = 1.0) -> list[float]:
        """Those of the walk."""
        return self.levels(bandwidth, sigma_max, data_std)

    def estimate(self, task: Task) -> tuple[Tensor, float]:
        """x' (B, *), averaged over the samples; with ``truncation`` nothing is drawn, and the start is the centre."""
        levels = self.levels(task.bandwidth, task.sigma_max, task.data_std)
        step, interval = self.step(), bounds(self.interval)
        noise = task.x.new_zeros(1, *task.x.shape) if self.truncation else self.noise(task)
        around = task.centre(levels[0]) if self.truncation else task.x
        z = scatter(around, levels[0], noise)
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            z, _ = step(z, task.denoiser, sigma, sigma_next)
            centre = repeat(task.centre(sigma_next), noise)
            z = centre + (z - centre) * contraction(sigma, sigma_next, task.bandwidth, interval)
        return average(z, noise), levels[0]
