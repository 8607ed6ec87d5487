"""The ancestral upward step: an explicit step, and ``eta`` times the noise that an ancestral sampler would have added.

From sigma_a to sigma_b, with alpha_bar = 1/(1 + sigma^2) and in the coordinates z = x + sigma n,

    z_b = z_a + (sigma_b - sigma_a) eps(z_a; sigma_a) + eta s n,
    s^2 = sigma_a^2 (sigma_b^2 - sigma_a^2)/sigma_b^2 * (1 + sigma_b^2)/(1 + sigma_a^2)   (Song et al. 2021, Eq. 16)

The step from sigma = 0 adds none. It is the step of Score Distillation via Inversion (Lukoianov et al. 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, Sigma, expand_sigma
from ..randomness import Rng, draw_normal
from ..settings import check_settings, setting
from .explicit import ExplicitStep


@dataclass(frozen=True)
class AncestralStep:
    """The step above.

    Raises:
        ValueError: for an ``eta`` that is negative or not finite.
    """

    eta: float = setting(0.3, "noise of an inversion step; 1 is that of an ancestral one, 0 adds none", low=0)

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(
        self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma, rng: Rng | None = None
    ) -> Tensor:
        """The state (B, *) at ``sigma_next``, a number or a level per row (B,), from ``z`` (B, *) at ``sigma``."""
        up = ExplicitStep()(z, denoiser, sigma, sigma_next)
        if self.eta == 0 or sigma == 0:
            return up
        levels = torch.as_tensor(sigma_next, dtype=torch.float64).reshape(-1).tolist()
        added = torch.tensor([self.eta * _spread(sigma, level) for level in levels], dtype=torch.float64)
        return up + expand_sigma(added, z) * draw_normal(z, rng)[0]


def _spread(low: float, high: float) -> float:
    """s of the equation above, from ``low`` up to ``high``."""
    return low / high * math.sqrt((high**2 - low**2) * (1 + high**2) / (1 + low**2))
