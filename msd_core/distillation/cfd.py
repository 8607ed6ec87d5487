"""Consistent Flow Distillation: SDS with one noise for the whole run, at a level that only falls.

    gradient = sigma (eps_hat(z; sigma) - n) = x - D(z; sigma),   z = x + sigma n,   n ~ N(0, I), once

(Yan et al. 2025.) In 3-D the noise follows the surface from view to view; in 2-D it stays where the picture is. It is
the flow of a sampler seen from the clean picture: with z = x + sigma n, the probability-flow ODE dz/dsigma =
eps_hat(z) is dx/dsigma = (x - D(z))/sigma, so that a step of gradient descent at the rate 1 - sigma'/sigma is the DDIM
step from sigma to sigma'. The noise, and with it the picture, is decided by the run's seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, level_at
from ..info import Info, measure
from ..randomness import Rng, fixed_normal
from ..settings import check_settings, setting
from .base import ANNEALINGS, annealed_t, check_times, t_max_setting, t_min_setting


@dataclass(frozen=True)
class CFD:
    """Consistent Flow Distillation: SDS under one fixed noise, which draws nearly what a sampler would draw from it.

    Raises:
        ValueError: for an unknown annealing, or times out of order.
    """

    label: ClassVar[str] = "CFD"
    recommended: ClassVar[Mapping[str, object]] = {"steps": 500, "cfg": 7.0}

    anneal: str = setting("linear", "how the noise falls over the run", choices=ANNEALINGS[1:])
    t_min: float = t_min_setting()
    t_max: float = t_max_setting()

    def __post_init__(self) -> None:
        check_times(self.t_min, self.t_max)
        check_settings(self)

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """x - D(x + sigma n) (B, *), with the noise that belongs to the seed of ``rng``.

        Raises:
            ValueError: the denoiser has no chain of levels.
        """
        sigma = level_at(denoiser, annealed_t(self.anneal, self.t_min, self.t_max, step, steps))
        counted = RowCounter(denoiser)
        gradient = x - counted(x + sigma * fixed_normal(x, rng), sigma)
        return gradient, measure(gradient, counted.rows, sigma=sigma)
