"""Exact estimator: sample the product density with the model's own denoiser, moved (see `product`).

The walk starts at the first level sigma_0 from

    z = D(x; lambda) + sigma_0 n.

A draw from the product density at sigma_0 is y + sigma_0 n with y ~ p_dot; D(x; lambda) is the mean of y, so the start
has the right mean, and its spread is short by a fraction s^2 / (2 sigma_0^2) only, where s <= min(lambda, data) is the
spread of y. Two tempting starts are worse. Around x the mean would be off by m(x) sigma_0^-1 s at the end of the walk.
The spread (sigma_0^2 + lambda^2)^(1/2) is right where p is flat over lambda, but throws the start far out of the
model's range when lambda exceeds the data.

What remains is the solver's discretisation. Measured on a 2-D mixture of four anisotropic Gaussians with the default
levels and DDIM, bias of the mean relative to |m|, at lambda 1, .3, .1, .03: see tests/core/test_mean_shift.py.
"""

from __future__ import annotations

from torch import Tensor

from ..denoiser import Denoiser, sigma_range
from ..product import product_denoiser
from .problem import Problem


def exact(problem: Problem, denoiser: Denoiser) -> Tensor:
    """x' (B, *) as the mean of N draws; one evaluation per row of x, then the solver's per row and draw."""
    mean = denoiser(problem.x, min(problem.bandwidth, sigma_range(denoiser)[1]))
    product = product_denoiser(denoiser, problem.repeat(problem.x), problem.bandwidth)
    z = problem.start(mean)
    for sigma, sigma_next in problem.steps:
        z, _ = problem.step(z, product, sigma, sigma_next)
    return problem.average(z)
