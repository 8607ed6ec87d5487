"""An inversion: the levels, the states on the way up, and what it cost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, Sigma, at_least_float32
from ..randomness import Rng
from ..sampling import check_sigmas
from ..validation import check_floating
from .explicit import ExplicitStep


class UpwardStep(Protocol):
    """A step of an inversion."""

    def __call__(self, z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: Sigma, rng: Rng | None) -> Tensor:
        """The state (B, *) at ``sigma_next``, from ``z`` (B, *) at ``sigma``."""
        ...


@dataclass(frozen=True, eq=False)
class Trajectory:
    """States of an inversion, from x upwards.

    Attributes:
        sigmas: the levels, ascending, shape (N,), float32 or float64.
        states: the state at each level, shape (N, B, *); ``states[0]`` is x.
        evaluations: network rows that it took.
    """

    sigmas: Tensor
    states: Tensor
    evaluations: int = 0

    def __repr__(self) -> str:
        low, high = float(self.sigmas[0]), float(self.sigmas[-1])
        return f"Trajectory({len(self.sigmas)} levels from {low:g} to {high:g}, states {tuple(self.states.shape[1:])})"

    def at(self, sigma: float) -> Tensor:
        """The state (B, *) at ``sigma``, linear between levels: the Euler polygon itself.

        Raises:
            ValueError: outside the levels of the trajectory.
        """
        levels = self.sigmas.tolist()
        if not levels[0] <= sigma <= levels[-1]:
            raise ValueError(
                f"sigma: got {sigma}; allowed is {levels[0]:g} to {levels[-1]:g}, the levels of this trajectory. "
                "Invert with a schedule that reaches it."
            )
        i = max(bisect_left(levels, sigma), 1)
        weight = (sigma - levels[i - 1]) / (levels[i] - levels[i - 1])
        return torch.lerp(self.states[i - 1], self.states[i], weight)


def inversion_steps(
    x: Tensor, denoiser: Denoiser, levels: Sequence[Sigma], step: UpwardStep, rng: Rng | None = None
) -> Iterator[Tensor]:
    """Yield the state (B, *) at each of the ascending ``levels`` but the first, at which ``x`` lies.

    The last level may differ from row to row, shape (B,).
    """
    z = at_least_float32(x)
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        z = step(z, denoiser, float(sigma), sigma_next, rng)
        yield z


@torch.no_grad()
def invert(
    x: Tensor,
    denoiser: Denoiser,
    sigmas: Tensor,
    step: UpwardStep = ExplicitStep(),  # noqa: B008 - frozen
    rng: Rng | None = None,
) -> Trajectory:
    """Invert ``x`` and return every state; no gradient is recorded.

    Args:
        x: the state at the lowest level, shape (B, *): a clean picture if that level is 0, as it should be.
        denoiser: ``(z, sigma) -> E[y | z]``; guidance above cfg 1-2 makes the inversion inaccurate.
        sigmas: strictly increasing or strictly decreasing levels, shape (N,), N >= 2.
        step: the upward step, one of `INVERSIONS`; explicit DDIM if left out.
        rng: of a step that draws noise.

    Returns:
        The `Trajectory`; the explicit step takes ``N - 1`` evaluations per row.

    Raises:
        ValueError: for other ``sigmas`` or an ``x`` without batch dimension.
    """
    check_floating("x", x)
    if sigmas.ndim == 1 and sigmas.numel() > 1 and sigmas[0] < sigmas[-1]:
        sigmas = sigmas.flip(0)
    levels = check_sigmas(sigmas)[::-1]
    counted = RowCounter(denoiser)
    states = [at_least_float32(x), *inversion_steps(x, counted, levels, step, rng)]
    return Trajectory(sigmas.flip(0), torch.stack(states), counted.rows)


def ddim_invert(x: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Trajectory:
    """`invert` by explicit DDIM steps."""
    return invert(x, denoiser, sigmas)
