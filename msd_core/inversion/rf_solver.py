"""RF-Solver: second order in a flow model's time, up and down.

    x' = x + h u + h^2/2 du/dt,   du/dt = (u(x + h/2 u; t + h/2) - u) / (h/2)

(Wang et al. 2024.) Put together, that is x' = x + h u(x + h/2 u; t + h/2), the midpoint rule (`midpoint`). Two
evaluations a step. The way back is the same scheme: the leading errors of the two ways cancel, and the picture returns
with one of third order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..denoiser import Denoiser, RowCounter
from ..randomness import Rng
from .base import Rise
from .midpoint import midpoint_steps

if TYPE_CHECKING:
    from .trajectory import Trajectory


@dataclass(frozen=True)
class RFSolver:
    """The walk above; it draws nothing, and needs no settings."""

    sampler: ClassVar[str] = "rf-solver"

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first."""
        yield from map(Rise, midpoint_steps(x, denoiser, levels, reuse=False))

    def descend(self, trajectory: Trajectory, denoiser: Denoiser, top: int) -> Iterator[Tensor]:
        """Yield the state (B, *) after each step down from level number ``top``."""
        levels = trajectory.sigmas[: top + 1].flip(0).tolist()
        return midpoint_steps(trajectory.states[top], denoiser, levels, reuse=False)
