"""The Kalman gain, from the denoiser's own Jacobian, by conjugate gradients and finite differences. Ours.

    Cov[y | z] = sigma^2 J =: C,   J = dD/dz        (exact, for any p)
    K = C A^T (A C A^T + s^2 I)^-1

C v is one more evaluation, sigma^2 (D(z + h v / |v|) - D(z)) / h |v|, so that nothing goes backwards through the
network, and two or three steps of conjugate gradients, each one evaluation, are the solution where it matters: what
they leave out are directions in which the picture is already certain. Exact for a Gaussian p. J of a network is not
quite symmetric; a direction that it does not stretch is skipped.

Not exact for several modes: no gain is, for all of them are linear in b - A D, and modes' weights are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, ask, gaussian_error2
from ..measurement import Observation
from ..settings import check_settings, setting
from .solve import conjugate_gradients


@dataclass(frozen=True)
class Kalman:
    """The gain of a Gaussian with the model's own covariance at z.

    Raises:
        ValueError: for an option out of range.
    """

    steps: int = setting(2, "conjugate-gradient steps, each one more evaluation", flag="cg_steps", low=1, high=100)
    difference: float = setting(
        0.05, "of z, for the Jacobian, in units of its noise; half precision wants more", above=0, high=10, expert=True
    )
    floor: float = setting(
        0.02,
        "error of the model taken for noise of the measurement, as a share of that of Gaussian data",
        low=0,
        high=1,
        expert=True,
    )
    exact_known: bool = setting(True, "put what is measured without noise into the result as it is", expert=True)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def rows(self) -> int:
        """The evaluation at z, and one a step."""
        return 1 + self.steps

    def __call__(self, z: Tensor, sigma: Tensor, denoiser: Denoiser, observation: Observation) -> Tensor:
        """As `Gain`."""
        level, measurement = sigma.flatten(), observation.measurement
        denoised = ask(denoiser, z, level)
        h = self.difference * sigma * z[0].numel() ** 0.5
        found: list[Tensor] = []

        def covariance(v: Tensor) -> Tensor:
            length = v.flatten(1).norm(dim=1).reshape(sigma.shape)
            direction = v / torch.where(length > 0, length, 1.0)
            return sigma**2 * (ask(denoiser, z + h * direction, level) - denoised) / h * length

        def operator(u: Tensor) -> Tensor:
            found.append(covariance(measurement.adjoint(u)))
            noise2 = observation.noise**2 + self.floor**2 * gaussian_error2(denoiser, sigma)
            return measurement.apply(found[-1]) + noise2 * u

        y = denoised
        for alpha, _, _ in conjugate_gradients(operator, observation.missing(denoised), self.steps):
            y = y + alpha * found[-1]
        inverse = getattr(measurement, "inverse", None)
        if self.exact_known and observation.noise == 0 and inverse is not None:
            y = y + inverse(observation.missing(y))
        return y
