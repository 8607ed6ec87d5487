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

from torch import Tensor

from ..denoiser import Denoiser
from .problem import Problem


def contraction(sigma: float, sigma_next: float, bandwidth: float, interval: tuple[float, float]) -> float:
    """Factor on z - c of the kernel's flow from ``sigma`` down to ``sigma_next``, clipped to ``interval``."""
    high, low = min(sigma, interval[1]), max(sigma_next, interval[0])
    return math.exp(-max(high**2 - low**2, 0.0) / (2 * bandwidth**2))


def split(problem: Problem, denoiser: Denoiser) -> Tensor:
    """x' (B, *), averaged over the samples; without noise the walk starts at the centre."""
    z = problem.start(problem.centre(problem.levels[0]) if problem.noise is None else problem.x)
    for sigma, sigma_next in problem.steps:
        z, _ = problem.step(z, denoiser, sigma, sigma_next)
        centre = problem.repeat(problem.centre(sigma_next))
        z = centre + (z - centre) * contraction(sigma, sigma_next, problem.bandwidth, problem.interval)
    return problem.average(z)
