"""The implicit upward step of Heun's sampler: the inverse of its step down, solved for.

    z_i = y + (sigma_i - sigma_{i+1}) (d + d')/2,   d = eps(y; sigma_{i+1}),   d' = eps(y'; sigma_i) at the Euler step's
                                                                                end y' = y + (sigma_i - sigma_{i+1}) d

(Karras et al. 2022, Alg. 1.) The step from sigma_i = 0 is the inverse of DDIM's, as Heun's last step is DDIM's. An
iteration asks the model twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, Sigma, ask, eps, expand_sigma
from ..randomness import Rng
from .base import Solved, ddim_down, residual_of, same_variance, upward
from .solve import Solving


@dataclass(frozen=True, kw_only=True)
class ImplicitHeunStep(Solving):
    """The step above; it draws nothing."""

    sampler: ClassVar[str] = "heun"

    def __call__(
        self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma, rng: Rng | None = None
    ) -> Tensor:
        """The state (B, *) at ``sigma_next``, a number or a level per row (B,), from ``z`` (B, *) at ``sigma``."""
        z, sigma, sigma_next = upward(z, denoiser, sigma, sigma_next)
        return self.rise(z, denoiser, sigma, sigma_next).state

    def rise(self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma) -> Solved:
        """As the call, with the residual of each sample, and its evaluations: two an iteration, one from sigma = 0."""

        def missed(y: Tensor) -> Tensor:
            return z - _heun_down(y, denoiser, sigma_next, sigma)

        solved = self.solve(missed, same_variance(z, sigma, sigma_next), partial(residual_of, sigma_next=sigma_next))
        return solved if sigma == 0 else Solved(solved.state, solved.residual, 2 * solved.evaluations)


def _heun_down(y: Tensor, denoiser: Denoiser, sigma: Sigma, sigma_next: float) -> Tensor:
    """`sampling.heun_step` for a level a row."""
    denoised = ask(denoiser, y, sigma)
    end = ddim_down(y, denoised, sigma, sigma_next)
    if sigma_next == 0:
        return end
    slopes = eps(y, sigma, denoised) + eps(end, sigma_next, denoiser(end, sigma_next))
    return y + (sigma_next - expand_sigma(torch.as_tensor(sigma), y)) * slopes / 2
