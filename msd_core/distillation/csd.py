"""Classifier Score Distillation: the guidance alone, without the part that pulls towards the unconditional density.

    gradient = w(t) (eps_cond(z; sigma) - eps_uncond(z; sigma)),   z = x + sigma n,   t ~ U(t_min, t_max),   n ~ N(0, I)

(Yu et al. 2023, Eq. 8.) It is -sigma w(t) grad log p(c | z), the score of the implicit classifier, so that cfg plays no
part; the negative prompt, where there is one, stands in for the empty one. Both predictions come out of one evaluation
of two rows. With D = z - sigma eps it is computed as w (D_uncond - D_cond)/sigma; the weights are those of `sds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, expand_sigma
from ..guidance import guided
from ..info import Info, measure
from ..randomness import Rng, draw_normal
from ..settings import check_settings, setting
from .base import ANNEALINGS, check_times, draw_levels, t_max_setting, t_min_setting
from .sds import WEIGHTINGS


@dataclass(frozen=True)
class CSD:
    """Classifier Score Distillation: the difference that the prompt makes, at a random noise level; cfg plays no part.

    Raises:
        ValueError: for an unknown weighting or annealing, times out of order, or no sample.
    """

    label: ClassVar[str] = "CSD"
    recommended: ClassVar[Mapping[str, object]] = {"steps": 400}

    weighting: str = setting(
        "sigma", "of the gradient: uniform 1, sigma 1 − ᾱ, dreamfusion √ᾱ (1 − ᾱ)", choices=tuple(WEIGHTINGS)
    )
    anneal: str = setting(
        "none", "how the noise falls over the run; none draws a fresh level every step", choices=ANNEALINGS
    )
    t_min: float = t_min_setting()
    t_max: float = t_max_setting()
    samples: int = setting(1, "draws averaged for one gradient, evaluated as one batch", low=1, usual=(1, 256))

    def __post_init__(self) -> None:
        check_times(self.t_min, self.t_max)
        check_settings(self)

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """The gradient, averaged over ``samples`` evaluations of two rows each. ``sigma`` in Info is row 0's.

        Raises:
            ValueError: the denoiser has no chain of levels, or no guidance.
        """
        counted = RowCounter(denoiser)
        sigma = draw_levels(self, x, denoiser, step, steps, rng)
        noise = draw_normal(x, rng, self.samples).flatten(0, 1)
        spread = expand_sigma(sigma, noise)
        z = x.repeat(self.samples, *(1,) * (x.ndim - 1)) + spread * noise
        cond, uncond = guided(counted, "CSD").parts(z, sigma)
        gradient = WEIGHTINGS[self.weighting](spread) / spread * (uncond - cond)
        gradient = gradient.unflatten(0, (self.samples, x.shape[0])).mean(dim=0)
        return gradient, measure(gradient, counted.rows, sigma=float(sigma[0]))
