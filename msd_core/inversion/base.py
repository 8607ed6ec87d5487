"""What an inversion is, and what its moves report.

Some inversions are a step (`UpwardStep`), walked by `trajectory`. Others need the whole list of levels, because they
carry something along or keep something for the way back; they have a method ``walk`` instead of ``__call__``:

    walk(x, denoiser, levels, rng) -> Iterator[Rise]         one rise a level, the levels ascending numbers

Either says which sampler leads back, in ``sampler`` (one of `resample.WALKS`, "ddim" if it says nothing), or has a
method ``descend`` that does it. The residual of a step from sigma_a up to sigma_b is how far one step of that sampler
misses its start, measured against the scale of a noisy state whose picture has unit variance:

    residual = RMS(z_a - down(z_b)) / sqrt(1 + sigma_b^2)          for each sample; 0 is an exact inverse
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ..denoiser import Denoiser, RowCounter, Sigma, as_level, check_denoiser, expand_sigma
from ..echo import shown
from ..randomness import Rng
from ..validation import as_floating, check_number, is_number

EXACT_AT_ANY_CFG = "Or use the inversion 'direct', which re-samples exactly at any cfg."


class UpwardStep(Protocol):
    """A step of an inversion."""

    def __call__(self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma, rng: Rng | None) -> Tensor:
        """The state (B, *) at ``sigma_next``, from ``z`` (B, *) at ``sigma``."""
        ...


@dataclass(frozen=True, eq=False)
class Rise:
    """One move up.

    Attributes:
        state: where it ends, (B, *).
        residual: of each sample, (B,); None where it was not measured.
        evaluations: of the denoiser, that each sample needed, (B,); None where all needed the same.
        kept: what the way back needs for this step, by name, each (B, *).
        extra_rows: network rows asked of another denoiser than the one given: another cfg, another embedding.
    """

    state: Tensor
    residual: Tensor | None = None
    evaluations: Tensor | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    extra_rows: int = 0


@dataclass(frozen=True, eq=False)
class Solved:
    """A solution: ``state`` (B, *), the residual of each sample (B,), the evaluations that each needed (B,)."""

    state: Tensor
    residual: Tensor
    evaluations: Tensor


class SolvedStep(Protocol):
    """A step that is solved for, and says how well."""

    def rise(self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma) -> Solved:
        """The state (B, *) at ``sigma_next`` from ``z`` (B, *) at ``sigma``, with residual and evaluations (B,)."""
        ...


class UpwardWalk(Protocol):
    """An inversion that needs the whole list of levels."""

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None) -> Iterator[Rise]:
        """A `Rise` for each of the ascending ``levels`` but the first, at which ``x`` (B, *) lies."""
        ...


Inversion = UpwardStep | UpwardWalk
"""What `INVERSIONS` holds and `invert` takes."""


def sampler_of(inversion: Any) -> str:  # noqa: ANN401 - an inversion, or None
    """The sampler that leads back from what ``inversion`` makes."""
    return getattr(inversion, "sampler", "ddim")


def upward(z: Any, denoiser: object, sigma: Any, sigma_next: Any) -> tuple[Tensor, float, Sigma]:  # noqa: ANN401
    """The arguments ``z``, ``sigma`` and ``sigma_next`` of an `UpwardStep`: a tensor (B, *) and two levels.

    Raises:
        ValueError: they are none, the second level is not above the first, or ``denoiser`` cannot be called.
    """
    z = as_floating("z", z)
    check_denoiser(denoiser)
    check_number("sigma", sigma, "It is where z lies.", low=0)
    sigma = float(sigma)
    if not isinstance(sigma_next, (int, float)):
        return z, sigma, as_level(sigma_next, "sigma_next")
    if not is_number(sigma_next) or not sigma < sigma_next < math.inf:
        raise ValueError(
            f"sigma_next: got {shown(sigma_next)} after {sigma}; allowed is a higher level. Walk down with ddim_steps."
        )
    return z, sigma, float(sigma_next)


def rms(values: Tensor) -> Tensor:
    """Root mean square of each row of ``values`` (B, *): shape (B,)."""
    rows = values.flatten(1) if values.ndim > 1 else values[:, None]
    return rows.square().mean(dim=1).sqrt()


def residual_of(missed: Tensor, sigma_next: Sigma) -> Tensor:
    """The residual (B,) of the equation above; ``missed`` is z_a - down(z_b), (B, *)."""
    return rms(missed) / (1 + expand_sigma(sigma_next, missed).flatten() ** 2).sqrt()


def ddim_down(z: Tensor, denoised: Tensor, sigma: Sigma, sigma_next: float) -> Tensor:
    """The DDIM step from ``z`` (B, *) at ``sigma`` > 0, a number or one a row, down to ``sigma_next`` >= 0."""
    return denoised + (z - denoised) * (sigma_next / expand_sigma(sigma, z))


def same_variance(z: Tensor, sigma: Sigma, sigma_next: Sigma) -> Tensor:
    """``z`` (B, *) scaled from the size of states at ``sigma`` to that at ``sigma_next``, if x has unit variance."""
    low, high = expand_sigma(sigma, z), expand_sigma(sigma_next, z)
    return z * ((1 + high**2) / (1 + low**2)).sqrt()
