"""One-step estimator: the product density's mean is the model's denoiser at level lambda.

    x' = E[y | x, lambda] = D(x; lambda)

It is the limit sigma -> infinity of the product denoiser, exact for an exact D, without variance. A learned D expects
data plus noise of level lambda as its input; a clean x is not that, and a Trajectory as centre gives z*_lambda instead.
"""

from __future__ import annotations

from torch import Tensor

from ..denoiser import Denoiser
from .problem import Problem


def one_step(problem: Problem, denoiser: Denoiser) -> Tensor:
    """x' (B, *) by one evaluation per row of x."""
    return denoiser(problem.centre(problem.bandwidth), problem.bandwidth)
