"""Score Distillation Sampling: pull x so that the noise that was added to it is the noise that the model predicts.

    gradient = w(t) (eps_hat(z; sigma) - n),   z = x + sigma n,   t ~ U(t_min, t_max),   n ~ N(0, I)

(Poole et al. 2022, Eq. 3; Mean-Shift Distillation, Eq. 1 and Alg. 1.) Since z - sigma n = x, this is w (x -
D(z))/sigma, which is how it is computed: no difference of large noises. With 1 - alpha_bar = sigma^2/(1 + sigma^2) the
weights are

    uniform       1                                        (Score Jacobian Chaining, Wang et al. 2023)
    sigma         1 - alpha_bar                            (DreamFusion's sigma_t^2)
    dreamfusion   sqrt(alpha_bar) (1 - alpha_bar)          (the same with the factor alpha_t of z_t = alpha_t x + ...)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, Sigma, expand_sigma
from ..info import Info, measure
from ..randomness import Rng, draw_normal
from ..settings import check_settings, setting
from ..validation import check_choice
from .base import ANNEALINGS, check_times, draw_levels, t_max_setting, t_min_setting

WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": torch.ones_like,
    "sigma": lambda sigma: sigma**2 / (1 + sigma**2),
    "dreamfusion": lambda sigma: sigma**2 / (1 + sigma**2) ** 1.5,
}


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
    spread = expand_sigma(sigma, x)
    return WEIGHTINGS[weighting](spread) / spread * (x - denoiser(x + spread * noise, sigma))


@dataclass(frozen=True)
class SDS:
    """Score Distillation Sampling: the model's denoised guess at a random noise level; one evaluation a step.

    Raises:
        ValueError: for an unknown weighting or annealing, times out of order, or no sample.
    """

    label: ClassVar[str] = "SDS"
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
        """The gradient, averaged over ``samples`` evaluations of the denoiser. ``sigma`` in Info is row 0's.

        Raises:
            ValueError: the denoiser has no chain of levels.
        """
        counted, rows = RowCounter(denoiser), x.repeat(self.samples, *(1,) * (x.ndim - 1))
        sigma = draw_levels(self, x, denoiser, step, steps, rng)
        noise = draw_normal(x, rng, self.samples).flatten(0, 1)
        gradient = sds_gradient(rows, counted, sigma, noise, self.weighting)
        gradient = gradient.unflatten(0, (self.samples, x.shape[0])).mean(dim=0)
        return gradient, measure(gradient, counted.rows, sigma=float(sigma[0]))
