"""ReNoise: the plain fixed-point iteration of the implicit step, its last predictions of the noise averaged.

    y_0 = z_i scaled to the size of states at sigma_{i+1}
    y_k = z_i + (sigma_{i+1} - sigma_i) eps(y_{k-1}; sigma_{i+1}),   z_{i+1} = mean of the last y_k

(Garibi et al. 2024, without its optional losses on the noise.) ``evaluations`` = 1 is the target-level explicit step:
DDIM with the noise predicted at the level where the step ends. The average cures an iteration that oscillates; one that
converges would be better without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, Sigma, ask, eps, expand_sigma
from ..randomness import Rng
from ..settings import check_settings, setting
from .base import same_variance, upward


@dataclass(frozen=True, kw_only=True)
class ReNoiseStep:
    """The step above; it draws nothing.

    Raises:
        ValueError: for a value out of range, or more iterates to average than there are.
    """

    evaluations: int = setting(4, "iterations of a step", low=1, usual=(1, 100))
    averaged: int = setting(2, "last iterates that are averaged; at most the evaluations", low=1, usual=(1, 100))

    def __post_init__(self) -> None:
        check_settings(self)
        if self.averaged > self.evaluations:
            raise ValueError(
                f"averaged: got {self.averaged} with {self.evaluations} evaluations; allowed are at most as many. "
                "Average fewer, or raise evaluations."
            )

    def __call__(
        self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma, rng: Rng | None = None
    ) -> Tensor:
        """The state (B, *) at ``sigma_next``, a number or a level per row (B,), from ``z`` (B, *) at ``sigma``."""
        z, sigma, sigma_next = upward(z, denoiser, sigma, sigma_next)
        width = expand_sigma(sigma_next, z) - sigma
        y, total = same_variance(z, sigma, sigma_next), torch.zeros_like(z)
        for k in range(self.evaluations):
            y = z + width * eps(y, sigma_next, ask(denoiser, y, sigma_next))
            if k >= self.evaluations - self.averaged:
                total = total + y
        return total / self.averaged
