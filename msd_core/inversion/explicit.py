"""The explicit upward step: DDIM backwards, with the noise predicted where the step starts.

    z_{i+1} = z_i + (sigma_{i+1} - sigma_i) eps(z_i; sigma_i)            (Song et al. 2021, section 4.3)

At sigma = 0 eps is 0/0, so the step from there asks the model at the level where it ends: z_1 = x + sigma_1
eps(x; sigma_1). One evaluation a step; re-sampling on the same levels returns x up to an error of first order.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..denoiser import Denoiser, Sigma, ask, eps, expand_sigma
from ..randomness import Rng
from .base import upward


@dataclass(frozen=True)
class ExplicitStep:
    """The step above; it draws nothing."""

    def __call__(
        self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma, rng: Rng | None = None
    ) -> Tensor:
        """The state (B, *) at ``sigma_next``, a number or a level per row (B,), from ``z`` (B, *) at ``sigma``."""
        z, sigma, sigma_next = upward(z, denoiser, sigma, sigma_next)
        asked = sigma if sigma > 0 else sigma_next
        width = sigma_next - sigma if isinstance(sigma_next, float) else expand_sigma(sigma_next - sigma, z)
        return z + width * eps(z, asked, ask(denoiser, z, asked))
