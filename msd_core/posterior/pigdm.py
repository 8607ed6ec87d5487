"""Pseudo-inverse guidance (Song et al. 2023, Pi-GDM, Eq. 9): the transposed Jacobian times an isotropic gain.

    K = r^2 J^T A^T (r^2 A A^T + s^2 I)^-1,   J = dD/dz,   r = sigma / sqrt(1 + sigma^2)

J^T is one pass backwards through the denoiser, which has to be differentiable. Where the covariance is far from
isotropic it overshoots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, ask
from ..measurement import Observation
from ..settings import check_settings, setting
from .jump import check_backwards
from .solve import conjugate_gradients


@dataclass(frozen=True)
class PiGDM:
    """r² Jᵀ Aᵀ (r² A Aᵀ + s²)⁻¹; a backward pass through the network.

    Raises:
        ValueError: for an option out of range; when called, for a denoiser that autograd may not go through.
    """

    backwards: ClassVar[bool] = True

    steps: int = setting(
        20, "conjugate-gradient steps at most; they cost no evaluation", flag="cg_steps", low=1, high=1000
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
        measurement, error2 = observation.measurement, sigma**2 / (1 + sigma**2)
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
        return denoised.detach() + error2 * back
