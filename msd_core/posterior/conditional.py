"""A gain with guidance: that of the conditional model alone, on the guided picture.

    D_post = D_cfg + K (b - A D_cfg),   K from the Jacobian of D_cond

Guidance stretches the Jacobian, and makes it negative in places: no covariance of anything, and conjugate gradients on
it end anywhere, the more so in half precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..denoiser import Denoiser, Sigma, Wrapped, ask, cost
from ..guidance import with_cfg
from ..measurement import Observation
from . import GAINS, INVERSE_SOLVERS, Gain, Solver


@dataclass(frozen=True)
class OfConditional:
    """``gain``, one of `GAINS`, of the conditional part of a guided denoiser.

    Raises:
        ValueError: for no gain; when called, for a denoiser without guidance.
    """

    gain: Gain | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", GAINS.made("gain", self.gain))

    @property
    def rows(self) -> int:
        """Of the conditional model; the guided one is asked once more (`rows_of`)."""
        return self.gain.rows  # pyright: ignore[reportAttributeAccessIssue]

    def __call__(self, z: Tensor, sigma: Tensor, denoiser: Denoiser, observation: Observation) -> Tensor:
        """As `Gain`."""
        level, alone = sigma.flatten(), with_cfg(denoiser, 1.0)
        wanted, known = ask(denoiser, z, level), ask(alone, z, level)

        shifted = _Shifted(alone, z, wanted, known)
        return self.gain(z, sigma, shifted, observation)  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True, eq=False)
class _Shifted(Wrapped):
    """``denoiser``, so shifted that it is ``wanted`` at ``z``, where it is ``known``; there nothing is asked again."""

    denoiser: Denoiser
    z: Tensor
    wanted: Tensor
    known: Tensor

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        return self.wanted if z is self.z else self.wanted + ask(self.denoiser, z, sigma) - self.known


def rows_of(solver: Solver | str, denoiser: Denoiser) -> int:
    """Network rows of one step of ``solver``, one of `INVERSE_SOLVERS` or its name, a row of z."""
    solver = INVERSE_SOLVERS.made("solver", solver)
    rows: int = solver.rows  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(solver, OfConditional):
        return cost(denoiser) + rows * cost(with_cfg(denoiser, 1.0))
    return rows * cost(denoiser)
