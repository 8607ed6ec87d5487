"""A proximal step: the picture nearest to the denoised one and to the measurement at once.

    D_post = argmin_y |b - A y|^2 / s^2 + |y - D|^2 / r^2,   K = r^2 A^T (r^2 A A^T + s^2 I)^-1

It is the Kalman gain where the covariance is taken for r^2 I (DiffPIR, Zhu et al. 2023, Eq. 13a; the inner problem of
DreamSampler's inpainting, with r = 1). r = sigma d / sqrt(d^2 + sigma^2) is the error of a denoiser of Gaussian data of
the deviation d, its `data_std`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..denoiser import Denoiser, ask, gaussian_error2
from ..measurement import Observation
from ..settings import check_settings, setting
from .solve import conjugate_gradients


@dataclass(frozen=True)
class Proximal:
    """The gain of an isotropic covariance r².

    Raises:
        ValueError: for an option out of range.
    """

    error: float | None = setting(
        None, "r, the denoiser's error; none is that of Gaussian data", kind=float, above=0, high=1e6, optional=True
    )
    steps: int = setting(
        20, "conjugate-gradient steps at most; they cost no evaluation", flag="cg_steps", low=1, high=1000
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def rows(self) -> int:
        """The evaluation at z."""
        return 1

    def __call__(self, z: Tensor, sigma: Tensor, denoiser: Denoiser, observation: Observation) -> Tensor:
        """As `Gain`."""
        denoised, measurement = ask(denoiser, z, sigma.flatten()), observation.measurement
        error2 = gaussian_error2(denoiser, sigma) if self.error is None else self.error**2

        def operator(u: Tensor) -> Tensor:
            return measurement.apply(measurement.adjoint(u)) * error2 + observation.noise**2 * u

        y = denoised
        for alpha, p, _ in conjugate_gradients(operator, observation.missing(denoised), self.steps):
            y = y + alpha * error2 * measurement.adjoint(p)
        return y
