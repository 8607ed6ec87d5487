"""Noise-Free Score Distillation: SDS without the noise, whose part of the prediction is taken off by a negative prompt.

    gradient = w(t) (delta_D + s delta_C),   z = x + sigma n,   t ~ U(t_min, t_max),   n ~ N(0, I)
    delta_C  = eps(z; prompt) - eps(z; empty)
    delta_D  = eps(z; empty) - eps(z; negative),   and eps(z; empty) itself below t = 200/1000

(Katzir et al. 2023; w in `noising`.) delta_D is the part of the prediction that leads to the domain of good pictures:
with little noise the prediction is nearly that alone, with more the noise is taken to be what the negative prompt
predicts too. s is the run's cfg, and the guided prediction is eps(z; empty) + s delta_C, so that

    gradient = w(t) (eps_hat(z) - eps(z; negative)),   and w(t) eps_hat(z) below.

The paper's negative prompt says "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark,
low-resolution, gloomy". With an empty one delta_D is zero above, and what is left there is s times CSD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..companions import negative_of
from ..denoiser import RowCounter, expand_sigma
from ..settings import setting
from .noising import WEIGHTINGS, Noising


@dataclass(frozen=True)
class NFSD(Noising):
    """Noise-Free Score Distillation: SDS without its noise, for a usual cfg; colours stray without a negative prompt.

    Three evaluations a step.

    Raises:
        ValueError: for an unknown weighting or annealing, times out of order, or no sample; when called, for a
            denoiser without the negative prompt beside it.
    """

    label: ClassVar[str] = "NFSD"
    needs: ClassVar[tuple[str, ...]] = ("negative",)
    recommended: ClassVar[Mapping[str, object]] = {"steps": 400, "cfg": 7.5}

    clean_below: float = setting(
        0.2, "below this fraction of the chain nothing is taken off the prediction", low=0, high=1, expert=True
    )

    def at(self, x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        """w (delta_D + s delta_C) (N, *) at x + sigma noise."""
        negative, spread = RowCounter(negative_of(denoiser, "NFSD")), expand_sigma(sigma, x)
        z = x + spread * noise
        noisy = [t >= self.clean_below for t in times]
        taken = z
        if any(noisy):
            above = torch.tensor(noisy, device=x.device).reshape(spread.shape)
            taken = torch.where(above, negative(z, sigma), z)
            denoiser.rows += negative.rows
        return WEIGHTINGS[self.weighting](spread) / spread * (taken - denoiser(z, sigma))
