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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, Sigma, expand_sigma
from ..info import Info, measure
from ..validation import check_choice, check_count
from .base import ANNEALINGS, Levels, annealed_t, check_times, draw_noise, level

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


@dataclass(frozen=True, eq=False)
class SDS:
    """The settings of SDS.

    Args:
        levels: noise levels of the model's chain: a `DiscreteSchedule`, or its ``percent_to_sigma``.
        weighting: one of `WEIGHTINGS`.
        t_min, t_max: fractions of the chain between which t is drawn; threestudio's defaults.
        anneal: "none", a fresh t ~ U(t_min, t_max) per row and step; "linear" or "sqrt", t falls from t_max to t_min.
        samples: draws of t and n a row, whose gradients are averaged (the paper's N).

    Raises:
        ValueError: for an unknown weighting or annealing, times out of order, or no sample.
    """

    levels: Levels
    weighting: str = "sigma"
    t_min: float = 0.02
    t_max: float = 0.98
    anneal: str = "none"
    samples: int = 1

    def __post_init__(self) -> None:
        check_choice("weighting", self.weighting, WEIGHTINGS)
        check_choice("anneal", self.anneal, ANNEALINGS)
        check_times(self.t_min, self.t_max)
        check_count("samples", self.samples)

    def bandwidth(self, step: int) -> float | None:
        """None: there is no kernel."""
        return None

    @torch.no_grad()
    def __call__(
        self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Info]:
        """The gradient, averaged over ``samples`` evaluations of the denoiser. ``sigma`` in Info is row 0's."""
        counted, rows = RowCounter(denoiser), x.repeat(self.samples, *(1,) * (x.ndim - 1))
        sigma = self._sigma(rows, step, steps, generator)
        gradient = sds_gradient(rows, counted, sigma, draw_noise(rows, generator), self.weighting)
        gradient = gradient.unflatten(0, (self.samples, x.shape[0])).mean(dim=0)
        return gradient, measure(gradient, counted.rows, sigma=float(sigma[0]))

    def _sigma(self, x: Tensor, step: int, steps: int, generator: torch.Generator) -> Tensor:
        """A level per row, (B,), drawn or annealed."""
        if self.anneal == "none":
            u = torch.rand(x.shape[0], generator=generator, device=generator.device, dtype=torch.float64)
            times = (self.t_min + (self.t_max - self.t_min) * u).tolist()
        else:
            times = [annealed_t(self.anneal, self.t_min, self.t_max, step, steps)] * x.shape[0]
        return torch.tensor([level(self.levels, t) for t in times], dtype=x.dtype, device=x.device)
