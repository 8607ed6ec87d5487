"""One-step estimator: the product density's mean is the model's denoiser at level lambda.

    x' = E[y | x, lambda] = D(x; lambda)

It is the limit sigma -> infinity of the product denoiser, exact for an exact D, without variance. A learned D expects
data plus noise of level lambda as its input; a clean x is not that, and the inversion as centre gives z*_lambda
instead. A lambda above the model's sigma_max is asked at sigma_max, as `exact` does: the model knows nothing beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..settings import setting
from .base import Centred, Task, check_levels, sigmas_setting
from .levels import product_sigmas


@dataclass(frozen=True, kw_only=True)
class OneStep(Centred):
    """D(x; λ), the mean itself: one evaluation, as far as the model knows what to do with a smooth x."""

    steps: int = setting(
        8, "noise levels of the inversion, where that is the centre", low=1, usual=(1, 1000), flag="solver_steps"
    )
    sigmas: tuple[float, ...] | None = sigmas_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_levels(self.sigmas)

    def centre_levels(self, bandwidth: float, sigma_max: float, data_std: float = 1.0) -> list[float]:
        """The level that is asked, and the levels of a walk below it."""
        walk = product_sigmas(bandwidth, self.steps, data_std=data_std, sigma_max=sigma_max)
        levels, asked = self.sigmas or walk.tolist(), min(bandwidth, sigma_max)
        below = asked if bandwidth <= sigma_max else asked * (1 - 1e-6)  # the walk's own first level is sigma_max, too
        return [asked, *(level for level in levels if level < below)]

    def estimate(self, task: Task) -> tuple[Tensor, float]:
        """x' (B, *) by one evaluation per row of x."""
        asked = min(task.bandwidth, task.sigma_max)
        return task.denoiser(task.centre(asked), asked), asked
