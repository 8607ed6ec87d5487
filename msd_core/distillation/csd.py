"""Classifier Score Distillation: the guidance alone, without the part that pulls towards the unconditional density.

    gradient = w(t) (eps_cond(z; sigma) - eps_uncond(z; sigma)),   z = x + sigma n,   t ~ U(t_min, t_max),   n ~ N(0, I)

(Yu et al. 2023, Eq. 8; w in `noising`.) It is -sigma w(t) grad log p(c | z), the score of the implicit classifier, so
that cfg plays no part; the negative prompt, where there is one, stands in for the empty one. Both predictions come out
of one evaluation of two rows. With D = z - sigma eps it is computed as w (D_uncond - D_cond)/sigma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..denoiser import RowCounter, expand_sigma
from ..guidance import guided
from .noising import WEIGHTINGS, Noising


@dataclass(frozen=True)
class CSD(Noising):
    """Classifier Score Distillation: the difference that the prompt makes, at a random noise level; cfg plays no part.

    Raises:
        ValueError: for an unknown weighting or annealing, times out of order, or no sample; when called, for a
            denoiser without guidance.
    """

    label: ClassVar[str] = "CSD"

    def at(self, x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        """w (eps_cond - eps_uncond) (N, *) at x + sigma noise."""
        spread = expand_sigma(sigma, x)
        cond, uncond = guided(denoiser, "CSD").parts(x + spread * noise, sigma)
        return WEIGHTINGS[self.weighting](spread) / spread * (uncond - cond)
