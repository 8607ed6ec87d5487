"""What the methods share that ask the model at x with random noise: the weights, and how the noise level is chosen.

    z = x + sigma n,   t ~ U(t_min, t_max) or falling,   n ~ N(0, I)

With 1 - alpha_bar = sigma^2/(1 + sigma^2) the weights w are

    uniform       1                                        (Score Jacobian Chaining, Wang et al. 2023)
    sigma         1 - alpha_bar                            (DreamFusion's sigma_t^2)
    dreamfusion   sqrt(alpha_bar) (1 - alpha_bar)          (the same with the factor alpha_t of z_t = alpha_t x + ...)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..bandwidth import check_step
from ..denoiser import Denoiser, RowCounter, check_denoiser, level_at
from ..info import Info, measure
from ..randomness import Rng, draw_normal, draw_uniform
from ..settings import check_settings, setting
from ..validation import as_finite
from .base import ANNEALINGS, annealed_t, check_times, t_max_setting, t_min_setting

WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": torch.ones_like,
    "sigma": lambda sigma: sigma**2 / (1 + sigma**2),
    "dreamfusion": lambda sigma: sigma**2 / (1 + sigma**2) ** 1.5,
}
"""Name to w(sigma)."""


def weighting_setting(default: str = "sigma") -> Any:  # noqa: ANN401 - a field
    """The field ``weighting`` of a method whose weight may be chosen."""
    return setting(
        default,
        "of the gradient: uniform 1 (Score Jacobian Chaining), sigma 1 − ᾱ, dreamfusion √ᾱ (1 − ᾱ)",
        choices=tuple(WEIGHTINGS),
    )


@dataclass(frozen=True)
class Weighted:
    """The setting of a method whose weight may be chosen."""

    weighting: str = weighting_setting()


@dataclass(frozen=True)
class Drawing(ABC):
    """The settings of a method that noises x, and its average over draws; `at` is the method's own.

    Raises:
        ValueError: for an unknown choice, times out of order, or no sample.
    """

    recommended: ClassVar[Mapping[str, object]] = {"steps": 400}

    anneal: str = setting(
        "none", "how the noise falls over the run; none draws a fresh level every step", choices=ANNEALINGS
    )
    t_min: float = t_min_setting()
    t_max: float = t_max_setting()
    samples: int = setting(1, "draws averaged for one gradient, evaluated as one batch", low=1, usual=(1, 256))

    def __post_init__(self) -> None:
        check_times(self.t_min, self.t_max)
        check_settings(self)

    @abstractmethod
    def at(self, x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        """The gradient (N, *) at given levels ``sigma`` (N,), those of the fractions ``times`` of the chain, and
        ``noise`` (N, *), for rows ``x`` (N, *).
        """

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """The gradient, averaged over ``samples`` draws of level and noise. ``sigma`` in Info is row 0's.

        Raises:
            ValueError: the denoiser has no chain of levels, or not what the method needs beside it.
        """
        x = as_finite("x", x)
        check_denoiser(denoiser)
        check_step(step, steps)
        counted, rows = RowCounter(denoiser), x.repeat(self.samples, *(1,) * (x.ndim - 1))
        times = self._times(x, step, steps, rng)
        sigma = torch.tensor([level_at(denoiser, t) for t in times], dtype=x.dtype, device=x.device)
        gradient = self.at(rows, counted, sigma, draw_normal(x, rng, self.samples).flatten(0, 1), times)
        gradient = gradient.unflatten(0, (self.samples, x.shape[0])).mean(dim=0)
        return gradient, measure(gradient, counted.rows, sigma=float(sigma[0]))

    def _times(self, x: Tensor, step: int, steps: int, rng: Rng) -> list[float]:
        """A fraction of the chain for every draw of every row of ``x`` (B, *): samples B of them, drawn or annealed."""
        if self.anneal == "none":
            u = draw_uniform(x.shape[0], rng, self.samples)
            return (self.t_min + (self.t_max - self.t_min) * u).flatten().tolist()
        t = annealed_t(self.anneal, self.t_min, self.t_max, step, steps)
        return [t] * (x.shape[0] * self.samples)


@dataclass(frozen=True)
class Noising(Drawing, Weighted):
    """`Drawing` with a weight that may be chosen, the first of its settings."""
