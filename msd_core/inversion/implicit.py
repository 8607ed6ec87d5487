"""The implicit upward step: the exact inverse of a DDIM (Euler) step, solved for.

    z_{i+1} = y  with  D + (y - D) sigma_i / sigma_{i+1} = z_i,   D = D(y; sigma_{i+1})

The model is asked where the step ends, so sigma_i = 0 is no special case: there D(y; sigma_1) = z_0 is solved. A
picture that the model would not return at sigma_1 has no inverse; the step then ends where it comes nearest, and says
so in its residual. The search (`solve`) starts at z_i scaled to the size of states at sigma_{i+1}. Its fixed point is
that of AIDI (Pan et al. 2023); a guided model often needs more evaluations, or none are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ..denoiser import Denoiser, Sigma, ask
from ..randomness import Rng
from .base import Solved, ddim_down, residual_of, same_variance, upward
from .solve import Solving


@dataclass(frozen=True, kw_only=True)
class ImplicitStep(Solving):
    """The step above; it draws nothing."""

    def __call__(
        self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma, rng: Rng | None = None
    ) -> Tensor:
        """The state (B, *) at ``sigma_next``, a number or a level per row (B,), from ``z`` (B, *) at ``sigma``."""
        z, sigma, sigma_next = upward(z, denoiser, sigma, sigma_next)
        return self.rise(z, denoiser, sigma, sigma_next).state

    def rise(self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma) -> Solved:
        """As the call, with the residual and the evaluations of each sample."""

        def missed(y: Tensor) -> Tensor:
            return z - ddim_down(y, ask(denoiser, y, sigma_next), sigma_next, sigma)

        return self.solve(missed, same_variance(z, sigma, sigma_next), partial(residual_of, sigma_next=sigma_next))
