"""Interval Score Matching: SDS with the noise that x itself would have come from, matched over a short interval.

    gradient = sigma_t (eps_hat(x_t; sigma_t) - eps(x_s; empty)),   s = t - delta_T,   t ~ U(t_min, cap)
    x_s      = DDIM inversion of x up to s, unconditional, in steps of delta_S
    x_t      = x_s + (sigma_t - sigma_s) eps(x_s; empty)

(LucidDreamer, Liang et al. 2023; weight and defaults of the authors' code.) The prediction that carries x_s to x_t is
the one that is matched, so that an evaluation is saved. cap falls from t_max to t_late over the first part of the run.
The inversion's first step leaves x at sigma = 0 with the prediction at the chain's lowest level; it draws nothing. The
negative prompt, where there is one, stands in for the empty one.

With delta_T = 0, x_t = x_s and the gradient is sigma_t cfg (eps_cond - eps_uncond): CSD at the inverted point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, at_least_float32, eps, expand_sigma, level_at
from ..guidance import unconditional
from ..info import Info, measure
from ..randomness import Rng, draw_uniform
from ..settings import check_settings, setting
from .base import check_times, t_max_setting, t_min_setting

Levels = Callable[[Sequence[float]], Tensor]


@dataclass(frozen=True)
class ISM:
    """Interval Score Matching: SDS with the noise that x itself would have come from; steady, and smooth.

    Up to eight evaluations a step.

    Raises:
        ValueError: for a value out of range, or times out of order.
    """

    label: ClassVar[str] = "ISM"
    recommended: ClassVar[Mapping[str, object]] = {"steps": 400, "cfg": 7.5}

    t_min: float = t_min_setting()
    t_max: float = t_max_setting()
    t_late: float = setting(0.5, "highest noise after the warm-up, as a fraction of the model's chain", above=0, high=1)
    warm_up: float = setting(
        0.3, "share of the run over which the highest noise falls to t_late", low=0, high=1, expert=True
    )
    delta_t: float = setting(0.08, "interval that is matched, as a fraction of the chain", low=0, high=1)
    delta_s: float = setting(
        0.2,
        "step of the inversion, as a fraction of the chain; smaller is exacter and costs more",
        above=0,
        high=1,
        expert=True,
    )

    def __post_init__(self) -> None:
        check_times(self.t_min, self.t_max)
        check_settings(self)
        if not self.t_min <= self.t_late <= self.t_max:
            raise ValueError(
                f"t_late: got {self.t_late}; allowed is {self.t_min:g} to {self.t_max:g}, from t_min to t_max. Move it."
            )

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """The gradient (B, *), at a level of its own for every row. ``sigma`` in Info is row 0's.

        Raises:
            ValueError: the denoiser has no chain of levels, or no guidance.
        """

        def levels(fractions: Sequence[float]) -> Tensor:
            return torch.tensor([level_at(denoiser, t) for t in fractions], dtype=x.dtype, device=x.device)

        low, high = self.t_min, self.highest(step, steps)
        t = [low + (high - low) * float(u) for u in draw_uniform(x.shape[0], rng)[0]]
        s = [max(time - self.delta_t, 0.0) for time in t]
        sigma_s, sigma_t = levels(s), levels(t)
        empty, asking = RowCounter(unconditional(denoiser, "ISM")), RowCounter(denoiser)
        x_s = self.inverted(x, empty, levels, s)
        matched = eps(x_s, sigma_s, empty(x_s, sigma_s))
        x_t = x_s + expand_sigma(sigma_t - sigma_s, x) * matched
        gradient = x_t - asking(x_t, sigma_t) - expand_sigma(sigma_t, x) * matched
        return gradient, measure(gradient, empty.rows + asking.rows, sigma=float(sigma_t[0]))

    def highest(self, step: int, steps: int) -> float:
        """The cap of t at iteration ``step``: linear from t_max to t_late over the warm-up."""
        done = min(step / (self.warm_up * steps), 1.0) if self.warm_up else 1.0
        return self.t_max + (self.t_late - self.t_max) * done

    def inverted(self, x: Tensor, empty: Denoiser, levels: Levels, s: Sequence[float]) -> Tensor:
        """x_s (B, *): every row walked up 0, delta_S, 2 delta_S, ... to its own s; one that is there stands still."""
        z, at = at_least_float32(x), torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
        asked = levels([0.0] * x.shape[0])
        for i in range(1, max(math.ceil(max(s) / self.delta_s), 1) + 1):
            up = levels([min(i * self.delta_s, end) for end in s])
            z = z + expand_sigma(up - at, z) * eps(z, asked, empty(z, asked))
            at = asked = up
        return z
