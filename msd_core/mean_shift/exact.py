"""Exact estimator: sample the product density with the model's own denoiser, moved (see `product`).

A draw from the product density at the first level sigma_0 is y + sigma_0 n with y ~ p_dot. The walk starts, instead of
at a y, which nobody has, at one of two places:

    x       costs nothing, and is off by x - y. Of the part along which p_dot is Gaussian of spread s, with the levels
            of `levels`, sin(delta) cos(delta)^steps is left at the end, delta = (pi/2) / (steps + 1): .25 with 4
            steps, .15 with 8; of the part along which it has no spread nothing is. So the shift is shorter by that much
            at most, and where it is 0, at the modes, it stays 0.
    mean    D(x; lambda), the mean of y, for one evaluation more: right where D is. A learned D has never seen x at the
            level lambda, and is off by several |m|, of which the same share is left at the end: with 8 steps more than
            half of |m| at the first lambda (docs/frontier.md).

Either way the spread of the start is short by a fraction s^2 / (2 sigma_0^2), where s <= min(lambda, data). A start of
spread (sigma_0^2 + lambda^2)^(1/2) is right only where p is flat over lambda, and far out of the model's range where
lambda exceeds the data.

What remains is the solver's discretisation. On the asymmetric mixture of the tests (five points, lambda 1 to .03, the
start at the mean) the bias of x' was at most 2.6 / 1.5 / .8 / .5 standard errors of a 4,096-draw mean with
8 / 16 / 32 / 64 DDIM steps, and .5 with 8 Heun steps (15 evaluations). With 32 DDIM steps that is 2 % of |m| or less,
except where |m| itself is a twentieth of the spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..product import product_denoiser
from ..settings import setting
from .base import Task, Walking, average, levels_setting, repeat, scatter

STARTS = ("x", "mean")


@dataclass(frozen=True, kw_only=True)
class Exact(Walking):
    """Draws from the product density, all but unbiased, noisy; `solver_steps` × `samples` evaluations with ddim."""

    steps: int = levels_setting(4)
    walk_from: str = setting(
        "x",
        "where the walk starts. mean: at D(x; λ), for an evaluation more, which only an exact denoiser repays",
        choices=STARTS,
        expert=True,
    )

    def highest(self, bandwidth: float, sigma_max: float) -> float:
        """The model is asked at (1/sigma^2 + 1/lambda^2)^(-1/2), lower than lambda for every sigma."""
        return math.inf if bandwidth <= sigma_max else sigma_max / math.sqrt(1 - (sigma_max / bandwidth) ** 2)

    def estimate(self, task: Task) -> tuple[Tensor, float]:
        """x' (B, *) as the mean of N draws; the solver's evaluations per row and draw, and one more for the mean."""
        noise, levels, step = self.noise(task), self.levels(task.bandwidth, task.sigma_max, task.data_std), self.step()
        around, asked = task.x, 1 / math.hypot(1 / levels[0], 1 / task.bandwidth)
        if self.walk_from == "mean":
            asked = min(task.bandwidth, task.sigma_max)
            around = task.denoiser(task.x, asked)
        z = scatter(around, levels[0], noise)
        product = product_denoiser(task.denoiser, repeat(task.x, noise), task.bandwidth)
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            z, _ = step(z, product, sigma, sigma_next)
        return average(z, noise), asked
