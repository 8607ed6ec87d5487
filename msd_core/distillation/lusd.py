"""Localized Update Score Distillation: an edit whose steps are all of one planned size, confined by a mask.

    d        = (1 - keep) M (eps(z; prompt) - eps(z; source prompt)) + keep (x - x_src),   z = x + sigma n
    gradient = s_k d/std(d),   s_k = strength_end + (strength - strength_end) / (1 + e^u),   u from -1 to 1 over a run

(Chinchuthakun et al. 2025; form and defaults of the authors' code.) Both predictions are without guidance, and at the
same z: cfg and the negative prompt play no part. std is over all values of a row. M is the run's mask, 1 without one;
the authors make it from the network's attention to the changed words, which a denoiser does not show. Their code also
draws again where std(eps - eps_src) is small; here every draw is used. The sigmoid is cut at u = -1 and 1, like theirs:
the sizes fall from 0.73 of the way between its ends to 0.27 of it, with the defaults from 0.112 to 0.048.

The prompts' difference does not vanish when the edit is done: ``keep`` alone ends it. A model that follows its prompt
closely needs more of it than the default, which is Stable Diffusion's: with the demo model .02 burns, .3 is clean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..companions import source_of
from ..denoiser import Denoiser, RowCounter, expand_sigma
from ..guidance import guided
from ..info import Info, measure
from ..randomness import Rng
from ..settings import setting
from .base import t_max_setting, t_min_setting
from .noising import Drawing


@dataclass(frozen=True)
class LUSD(Drawing):
    """Localized Update Score Distillation: an edit in steps of planned size, tied to the source; cfg is not used.

    Raises:
        ValueError: for a value out of range or times out of order; when called, for a denoiser without source, or one
            without guidance.
    """

    label: ClassVar[str] = "LUSD"
    needs: ClassVar[tuple[str, ...]] = ("source",)
    recommended: ClassVar[Mapping[str, object]] = {"steps": 300, "optimizer": "gd", "lr": 0.5, "pull": "latent"}

    t_min: float = t_min_setting(0.05)
    t_max: float = t_max_setting(0.95)
    keep: float = setting(0.02, "share of the way back to the source in every step", low=0, high=1, expert=True)
    strength: float = setting(
        0.15,
        "upper end of the sigmoid along which the gradients' sizes fall; a run begins 0.73 of the way up",
        above=0,
        usual=(0.001, 10),
    )
    strength_end: float = setting(
        0.01,
        "lower end of the sigmoid along which the gradients' sizes fall; a run ends 0.27 of the way up",
        above=0,
        usual=(0.001, 10),
        expert=True,
    )

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """The gradient (B, *), each row's scaled to the step's size; zero where there is nothing to scale.

        Raises:
            ValueError: the denoiser has no chain of levels, no source or no guidance.
        """
        direction, info = super().__call__(x, denoiser, step=step, steps=steps, rng=rng)
        spread = direction.flatten(1).std(dim=1).reshape(-1, *[1] * (direction.ndim - 1))
        gradient = torch.where(spread > 0, direction / spread, direction) * self.size(step, steps)
        return gradient, measure(gradient, info.evaluations, sigma=info.sigma)

    def size(self, step: int, steps: int) -> float:
        """s_k: the standard deviation of the gradient at iteration ``step`` of ``steps``."""
        u = 2 * step / max(steps - 1, 1) - 1
        return self.strength_end + (self.strength - self.strength_end) / (1 + math.exp(u))

    def at(self, x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        """d (N, *) at x + sigma noise."""
        source, spread = source_of(denoiser, "LUSD"), expand_sigma(sigma, x)
        given = source.like(x)
        ours, theirs = (RowCounter(guided(each, "LUSD").with_cfg(1.0)) for each in (denoiser.denoiser, source.denoiser))
        z = x + spread * noise
        difference = (theirs(z, sigma) - ours(z, sigma)) / spread
        denoiser.rows += ours.rows + theirs.rows
        return (1 - self.keep) * source.mask_like(x) * difference + self.keep * (x - given)
