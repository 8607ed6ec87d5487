"""Score Distillation via Inversion: SDS with the noise that x itself would have come from.

    gradient = x - D(x + sigma kappa; sigma),   kappa = (z_tau - x)/sigma_tau,   z_tau = DDIM inversion of x to tau

(Lukoianov et al. 2024, Alg. 1.) t falls from t_max to t_min; the inversion walks up a grid of ``inversion_steps``
levels cut at t and takes one last step to tau = t + U(0, 1/inversion_steps), as the authors' code does; kappa is then
used at t. The inversion is conditional with a *negative* guidance scale, and adds noise (`inversion.ancestral`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, Sigma, check_denoiser, expand_sigma, level_at
from ..guidance import with_cfg
from ..info import Info, measure
from ..inversion import AncestralStep
from ..inversion.trajectory import inversion_steps
from ..randomness import Rng, draw_uniform
from ..settings import check_settings, setting
from ..validation import as_finite
from .base import ANNEALINGS, annealed_t, check_times, t_max_setting, t_min_setting

_FIRST_T = 1e-3
"""The grid's first fraction, one step of a chain of 1000."""


@dataclass(frozen=True)
class SDI:
    """Score Distillation via Inversion: the denoised guess at the noise that x itself would have come from.

    Raises:
        ValueError: for a value out of range.
    """

    label: ClassVar[str] = "SDI"

    anneal: str = setting("linear", "how the noise falls over the run", choices=ANNEALINGS[1:])
    t_min: float = t_min_setting()
    t_max: float = t_max_setting()
    inversion_steps: int = setting(10, "levels in the inversion's grid over the whole chain", low=1, usual=(1, 1000))
    inversion_cfg: float | None = setting(
        -7.5,
        "guidance scale of the inversion, negative in the paper; none inverts with the run's own",
        kind=float,
        optional=True,
        expert=True,
    )
    eta: float = setting(
        0.3, "noise of an inversion step; 1 is that of an ancestral one, 0 adds none", low=0, usual=(0, 10), expert=True
    )
    jitter: bool = setting(True, "let the inversion overshoot t by a random part of a grid step", expert=True)

    def __post_init__(self) -> None:
        check_times(self.t_min, self.t_max)
        check_settings(self)

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """The gradient at the inverted point; one evaluation per inversion step and one more.

        Raises:
            ValueError: the denoiser has no chain of levels, or ``inversion_cfg`` is set and it has no ``with_cfg``.
        """
        x = as_finite("x", x)
        check_denoiser(denoiser)
        t = annealed_t(self.anneal, self.t_min, self.t_max, step, steps)
        inverting, asking = RowCounter(with_cfg(denoiser, self.inversion_cfg)), RowCounter(denoiser)
        levels = self._grid(t, denoiser, x, rng)
        walk = inversion_steps(x, inverting, levels, AncestralStep(self.eta), rng)
        inverted = deque(walk, maxlen=1)[0]
        sigma = level_at(denoiser, t)
        gradient = x - asking(x + expand_sigma(sigma / levels[-1], x) * (inverted - x), sigma)
        return gradient, measure(gradient, inverting.rows + asking.rows, sigma=sigma)

    def _grid(self, t: float, denoiser: Denoiser, x: Tensor, rng: Rng) -> list[Sigma]:
        """Ascending levels of the inversion, from 0 to tau; tau is one a row where every row has its own randomness."""
        grid = [_FIRST_T + i / self.inversion_steps for i in range(self.inversion_steps)]
        low = [0.0, *(level_at(denoiser, time) for time in grid if time < t)]
        rows = x.shape[0] if isinstance(rng, Sequence) else 1
        overshoot = draw_uniform(rows, rng, dtype=torch.float32)[0].tolist() if self.jitter else [0.0]
        tau = [level_at(denoiser, min(t + part / self.inversion_steps, 1.0)) for part in overshoot]
        if len(tau) == 1:
            return list(dict.fromkeys([*low, tau[0]]))
        return [*low, torch.tensor(tau, dtype=torch.float64)]
