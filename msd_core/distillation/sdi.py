"""Score Distillation via Inversion: SDS with the noise that x itself would have come from.

    gradient = x - D(x + sigma kappa; sigma),   kappa = (z_tau - x)/sigma_tau,   z_tau = DDIM inversion of x to tau

(Lukoianov et al. 2024, Alg. 1.) t falls from t_max to t_min; the inversion walks up a grid of ``inversion_steps``
levels cut at t and takes one last step to tau = t + U(0, 1/inversion_steps), as the authors' code does; kappa is then
used at t. The inversion is conditional with a *negative* guidance scale, and after each step adds eta times the noise
of an ancestral step. From sigma_a to sigma_b, with alpha_bar = 1/(1 + sigma^2) and in the coordinates z = x + sigma n,

    z_b = z_a + (sigma_b - sigma_a) eps_hat(z_a; sigma_a) + eta s n,
    s^2 = sigma_a^2 (sigma_b^2 - sigma_a^2)/sigma_b^2 * (1 + sigma_b^2)/(1 + sigma_a^2)   (Song et al. 2021, Eq. 16)

The step from sigma = 0 asks the model at the level where the step ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, eps
from ..info import Info, measure
from ..validation import check_count
from .base import Levels, annealed_t, check_times, draw_noise, level

_FIRST_T = 1e-3
"""The grid's first fraction, one step of a chain of 1000."""


@dataclass(frozen=True, eq=False)
class SDI:
    """The settings of SDI.

    Args:
        levels: noise levels of the model's chain: a `DiscreteSchedule`, or its ``percent_to_sigma``.
        t_min, t_max: t falls between them; the authors' values are .98 to .02 for pictures, .25 for 3-D.
        anneal: "linear" or "sqrt".
        inversion_steps: levels in the grid of the inversion over the whole chain.
        inversion_cfg: guidance scale of the inversion, by ``denoiser.with_cfg``; None inverts with the denoiser itself.
        eta: fraction of an ancestral step's noise added in each inversion step.
        jitter: whether the last inversion step overshoots t by a random part of a grid step.

    Raises:
        ValueError: for a value out of range.
    """

    levels: Levels
    t_min: float = 0.02
    t_max: float = 0.98
    anneal: str = "linear"
    inversion_steps: int = 10
    inversion_cfg: float | None = -7.5
    eta: float = 0.3
    jitter: bool = True

    def __post_init__(self) -> None:
        check_times(self.t_min, self.t_max)
        annealed_t(self.anneal, self.t_min, self.t_max, 0, 1)
        check_count("inversion_steps", self.inversion_steps)
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise ValueError(f"eta: got {self.eta}; allowed is a finite number >= 0. The authors use 0.3; 0 adds none.")

    def bandwidth(self, step: int) -> float | None:
        """None: there is no kernel."""
        return None

    @torch.no_grad()
    def __call__(
        self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Info]:
        """The gradient at the inverted point; one evaluation per inversion step and one more.

        Raises:
            ValueError: if ``inversion_cfg`` is set and ``denoiser`` has no ``with_cfg``.
        """
        t = annealed_t(self.anneal, self.t_min, self.t_max, step, steps)
        inverting, asking = RowCounter(with_cfg(denoiser, self.inversion_cfg)), RowCounter(denoiser)
        sigmas = self._grid(t, generator)
        inverted = invert(x, inverting, sigmas, self.eta, generator)
        sigma = level(self.levels, t)
        gradient = x - asking(x + sigma / sigmas[-1] * (inverted - x), sigma)
        return gradient, measure(gradient, inverting.rows + asking.rows, sigma=sigma)

    def _grid(self, t: float, generator: torch.Generator) -> list[float]:
        """Ascending levels of the inversion, from 0 to tau."""
        overshoot = float(torch.rand((), generator=generator, device=generator.device)) if self.jitter else 0.0
        tau = min(t + overshoot / self.inversion_steps, 1.0)
        grid = [_FIRST_T + i / self.inversion_steps for i in range(self.inversion_steps)]
        sigmas = [0.0, *(level(self.levels, time) for time in grid if time < t), level(self.levels, tau)]
        return list(dict.fromkeys(sigmas))


def with_cfg(denoiser: Denoiser, cfg: float | None) -> Denoiser:
    """``denoiser`` at another guidance scale; itself if ``cfg`` is None.

    Raises:
        ValueError: if it has no guidance to change.
    """
    if cfg is None:
        return denoiser
    if not hasattr(denoiser, "with_cfg"):
        raise ValueError(
            f"inversion_cfg: got {cfg}, but {type(denoiser).__name__} has no with_cfg; allowed is None there. Pass "
            "inversion_cfg=None, or a GuidedDenoiser."
        )
    return cast("Any", denoiser).with_cfg(cfg)


def invert(x: Tensor, denoiser: Denoiser, sigmas: list[float], eta: float, generator: torch.Generator) -> Tensor:
    """State (B, *) at the last of the ascending ``sigmas``, from x at ``sigmas[0]`` = 0; equations above."""
    z = x
    for low, high in zip(sigmas, sigmas[1:], strict=False):
        asked = low if low > 0 else high
        z = z + (high - low) * eps(z, asked, denoiser(z, asked))
        if eta > 0 and low > 0:
            spread = low / high * math.sqrt((high**2 - low**2) * (1 + high**2) / (1 + low**2))
            z = z + eta * spread * draw_noise(x, generator)
    return z
