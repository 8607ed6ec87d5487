"""Denoising Diffusion Restoration (Kawar et al. 2022, Eqs. 7 and 8): each coordinate of A's SVD gets its own step.

Along a direction that A sees with the singular value a, b says c = (A^+ b) with noise t = s/a. With the denoised D, its
noise eps and fresh xi, the next state is, direction by direction,

    not seen     D + sigma' (sqrt(1 - eta^2) eps + eta xi)
    t <= sigma'  (1 - eta_b) D + eta_b c + sqrt(sigma'^2 - eta_b^2 t^2) xi
    t >  sigma'  D + sigma' (sqrt(1 - eta^2) (c - D)/t + eta xi)

The walk starts at c + sqrt(sigma^2 - t^2) xi where t <= sigma, whatever eta_b is, and at noise alone elsewhere.

An operator needs ``singular``, a for each number of y, and ``inverse``, A^+; what A sees of y is then A^+ A y, and the
noise in those directions is the same in any basis, so none is ever formed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, ask, eps
from ..measurement import Observation
from ..randomness import Rng, draw_normal
from ..settings import check_settings, setting
from .walk import Step


@dataclass(frozen=True)
class DDRM:
    """A step of its own for each direction that the measurement sees; for masks, smaller and grey pictures.

    Raises:
        ValueError: for an option out of range; when walked, for an operator without singular values.
    """

    eta: float = setting(0.85, "fresh noise of a step, where the measurement is worse or missing", low=0, high=1)
    eta_b: float = setting(1.0, "share of the measurement, where it is better than the state", low=0, high=1)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def rows(self) -> int:
        """One evaluation."""
        return 1

    def walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        """As `PosteriorWalk`."""
        operator = observation.measurement
        if not (hasattr(operator, "singular") and hasattr(operator, "inverse")):
            raise ValueError(
                f"solver: 'ddrm' with {type(operator).__name__}, which has no singular values; allowed are Mask, Pool "
                "and Grey. Use 'kalman' or 'proximal'."
            )
        observation.missing(z)
        return self._walk(z, denoiser, observation, levels, rng)

    def _walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        operator: object = observation.measurement
        apply, inverse, a = operator.apply, operator.inverse, operator.singular(z)  # pyright: ignore[reportAttributeAccessIssue]
        t = observation.noise / torch.where(a > 0, a, 1.0)
        c = inverse(observation.b.to(z))

        def told(y: Tensor, sigma: float, xi: Tensor) -> Tensor:
            better = (1 - self.eta_b) * y + self.eta_b * c + (sigma**2 - (self.eta_b * t) ** 2).clamp(min=0).sqrt() * xi
            pull = math.sqrt(1 - self.eta**2) * (c - y) / torch.where(t > 0, t, 1.0)
            return torch.where(t <= sigma, better, y + sigma * (pull + self.eta * xi))

        def known(untold: Tensor, told: Tensor) -> Tensor:
            return untold + inverse(apply(told - untold))

        begun = c + (levels[0] ** 2 - t**2).clamp(min=0).sqrt() * draw_normal(z, rng)[0]
        z = known(z, torch.where(t <= levels[0], begun, z))
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            y, xi = ask(denoiser, z, sigma), draw_normal(z, rng)[0]
            untold = y + sigma_next * (math.sqrt(1 - self.eta**2) * eps(z, sigma, y) + self.eta * xi)
            z = known(untold, told(y, sigma_next, xi))
            yield sigma_next, z, y
