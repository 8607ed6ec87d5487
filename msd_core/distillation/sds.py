"""Score Distillation Sampling: pull x so that the noise that was added to it is the noise that the model predicts.

    gradient = w(t) (eps_hat(z; sigma) - n),   z = x + sigma n,   t ~ U(t_min, t_max),   n ~ N(0, I)

(Poole et al. 2022, Eq. 3; Mean-Shift Distillation, Eq. 1 and Alg. 1; w in `noising`.) Since z - sigma n = x, this is
w (x - D(z))/sigma, which is how it is computed: no difference of large noises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..denoiser import Denoiser, RowCounter, Sigma, as_level, ask, expand_sigma
from ..validation import as_floating, check_choice, check_same_shape
from .noising import WEIGHTINGS, Noising


def sds_gradient(x: Tensor, denoiser: Denoiser, sigma: Sigma, noise: Tensor, weighting: str) -> Tensor:
    """``w (eps_hat - noise)`` (B, *) at given noise levels and noise: the formula without its randomness.

    Args:
        x: (B, *).
        denoiser: the guided denoiser.
        sigma: a level > 0, or one per row, shape (B,).
        noise: n, of x's shape.
        weighting: one of `WEIGHTINGS`.
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    x, noise = as_floating("x", x), as_floating("noise", noise)
    check_same_shape("noise", noise, "x", x)
    sigma = as_level(sigma, positive=True)
    spread = expand_sigma(sigma, x)
    return WEIGHTINGS[weighting](spread) / spread * (x - ask(denoiser, x + spread * noise, sigma))


@dataclass(frozen=True)
class SDS(Noising):
    """Score Distillation Sampling: the model's denoised guess at a random noise level; one evaluation a step.

    Raises:
        ValueError: for an unknown weighting or annealing, times out of order, or no sample.
    """

    label: ClassVar[str] = "SDS"

    def at(self, x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        """`sds_gradient`."""
        return sds_gradient(x, denoiser, sigma, noise, self.weighting)
