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

from ..denoiser import Denoiser, Sigma, expand_sigma
from .problem import Problem


@dataclass(frozen=True)
class _KernelScoreDenoiser:
    """``denoiser`` with the kernel's score added at every level inside the problem's interval."""

    denoiser: Denoiser
    problem: Problem

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        denoised, level = self.denoiser(z, sigma), float(sigma)
        low, high = self.problem.interval
        if not low <= level <= high:
            return denoised
        pull = self.problem.repeat(self.problem.centre(level)) - z
        return denoised + expand_sigma(sigma, z) ** 2 / self.problem.bandwidth**2 * pull


def naive(problem: Problem, denoiser: Denoiser) -> Tensor:
    """x' (B, *), averaged over the samples; starts at x + sigma_0 n."""
    z, kernel = problem.start(problem.x), _KernelScoreDenoiser(denoiser, problem)
    for sigma, sigma_next in problem.steps:
        z, _ = problem.step(z, kernel, sigma, sigma_next)
    return problem.average(z)
