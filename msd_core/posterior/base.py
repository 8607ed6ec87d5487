"""The denoiser of p(y) N(b; A y, s^2 I), from that of p, and what a gain is.

Exact it would be D(mu; Lambda^-1), the model's denoiser for noise of the covariance Lambda^-1, Lambda = I/sigma^2 +
A^T A/s^2. An ordinary denoiser knows one level for all of the picture; so a gain takes what it says at z,

    D_post = D + K (b - A D),

and approximates. What is exact: `Kalman` for a Gaussian p, and every gain where b says nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..denoiser import (
    Denoiser,
    Sigma,
    Wrapped,
    at_least_float32,
    check_denoiser,
    checked,
    cost,
    differentiable,
    expand_sigma,
)
from ..measurement import Observation
from ..validation import as_floating, check_instance


class Gain(Protocol):
    """K, as a frozen dataclass of its options; ``rows`` are network rows a row of z, a backward pass counted as one."""

    @property
    def rows(self) -> int: ...

    def __call__(self, z: Tensor, sigma: Tensor, denoiser: Denoiser, observation: Observation) -> Tensor:
        """D_post (B, *) for z (B, *), at least float32, and sigma > 0, (B, 1, ...)."""
        ...


@dataclass(frozen=True)
class PosteriorDenoiser(Wrapped):
    """Denoiser of the pictures that agree with ``observation``; at another guidance scale, of those that do there.

    It has no ``parts`` and no ``uncond``: those of ``denoiser`` know nothing of the observation. For a method that
    needs them pass ``GuidedDenoiser(PosteriorDenoiser(cond, ...), PosteriorDenoiser(uncond, ...), cfg)``.

    Args:
        denoiser: of p, ``(z (B, *), sigma) -> (B, *)``.
        observation: b, A and s.
        gain: one of `GAINS`, or its name.

    Raises:
        ValueError: for something of another kind; when called, for a b that does not fit z.
    """

    denoiser: Denoiser
    observation: Observation
    gain: Gain | str = "kalman"

    def __post_init__(self) -> None:
        from . import GAINS

        check_denoiser(self.denoiser)
        check_instance("observation", self.observation, Observation, "an Observation. Make one with observe(y, A)")
        object.__setattr__(self, "gain", GAINS.made("gain", self.gain))

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z, b], approximately; ``sigma`` > 0."""
        z = at_least_float32(as_floating("z", z))
        found = self.gain(z, expand_sigma(sigma, z), self.denoiser, self.observation)  # pyright: ignore[reportCallIssue]
        return checked("gain", found, z)

    @property
    def differentiable(self) -> bool:
        """Whether autograd may go through it: not where the gain itself goes backwards through the network."""
        return differentiable(self.denoiser) and not getattr(self.gain, "backwards", False)

    @property
    def cost(self) -> int:
        """Network rows per row of z."""
        return cost(self.denoiser) * self.gain.rows  # pyright: ignore[reportAttributeAccessIssue]
