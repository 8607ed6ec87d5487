"""Pseudo-inverse guidance (Song et al. 2023, Pi-GDM, Eq. 9, Alg. 1): the transposed Jacobian times an isotropic gain.

    K = r^2 J^T A^T (r^2 A A^T + s^2 I)^-1,   J = dD/dz,   r = sigma d / sqrt(d^2 + sigma^2)

d is the deviation of the data (`data_std`), 1 as published. J^T is one pass backwards through the denoiser, which has
to be differentiable. By itself it walks as published: the step takes the noise that the network says, as if nothing
were known, and jumps by all of K (b - A D),

    z' = D + sigma' n + K (b - A D),   n = sqrt(1 - eta^2 u) eps + eta sqrt(u) xi,   u = 1 - sigma'^2 / sigma^2

(in the coordinates of `jump`; the weight of K is 1 in them, as in the code of Mardani et al. 2024). As the gain of
a `PosteriorDenoiser` it gives D + K (b - A D) to any sampler, which takes a step's share of it. Where the covariance is
far from isotropic it overshoots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, ask, eps, expand_sigma, gaussian_error2
from ..dreamsampler import renoised
from ..measurement import Observation
from ..randomness import Rng
from ..settings import check_settings, setting
from .jump import check_backwards, noise_kept
from .solve import conjugate_gradients
from .walk import Step


@dataclass(frozen=True)
class PiGDM:
    """r² Jᵀ Aᵀ (r² A Aᵀ + s²)⁻¹, a backward pass through the network; by itself an ancestral step and a jump by it.

    Raises:
        ValueError: for an option out of range; when called or walked, for a denoiser that autograd may not go through.
    """

    backwards: ClassVar[bool] = True

    steps: int = setting(
        20, "conjugate-gradient steps at most; they cost no evaluation", flag="cg_steps", low=1, high=1000
    )

    eta: float = setting(
        1.0, "fresh noise of a step: 1 is that of an ancestral one, 0 none; not for a gain", low=0, high=1
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def rows(self) -> int:
        """Forwards, and backwards."""
        return 2

    def __call__(self, z: Tensor, sigma: Tensor, denoiser: Denoiser, observation: Observation) -> Tensor:
        """As `Gain`."""
        check_backwards(denoiser, "pigdm", "gain")
        denoised, correction = self._parts(z, sigma, denoiser, observation)
        return denoised + correction

    def walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        """As `PosteriorWalk`."""
        check_backwards(denoiser, "pigdm")
        return self._walk(z, denoiser, observation, levels, rng)

    def _walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            y, correction = self._parts(z, expand_sigma(sigma, z), denoiser, observation)
            kept = noise_kept(self.eta, sigma, sigma_next)
            z = renoised(y, eps(z, sigma, y), sigma_next, kept, rng) + correction
            yield sigma_next, z, y

    def _parts(self, z: Tensor, sigma: Tensor, denoiser: Denoiser, observation: Observation) -> tuple[Tensor, Tensor]:
        """D and K (b - A D), (B, *); ``sigma`` (B, 1, ...)."""
        measurement, error2 = observation.measurement, gaussian_error2(denoiser, sigma)
        with torch.inference_mode(False), torch.enable_grad():
            at = z.detach().clone().requires_grad_()
            denoised = ask(denoiser, at, sigma.flatten())

            def operator(u: Tensor) -> Tensor:
                return measurement.apply(measurement.adjoint(u)) * error2 + observation.noise**2 * u

            missing = observation.missing(denoised.detach())
            u = torch.zeros_like(missing)
            for alpha, p, _ in conjugate_gradients(operator, missing, self.steps):
                u = u + alpha * p
            (back,) = torch.autograd.grad(denoised, at, measurement.adjoint(u))
        return denoised.detach(), error2 * back
