"""FireFlow: second order in a flow model's time at one evaluation a step, up and down.

    x' = x + h u_i,   u_i = u(x + h/2 u_{i-1}; t + h/2)

(Deng et al. 2024.) The midpoint rule (`midpoint`), whose slope towards the middle is that of the step before; the first
step asks for one more. The way back is the same scheme: the leading errors of the two ways cancel, and the picture
returns with one of third order.
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
class FireFlow:
    """The walk above; it draws nothing, and needs no settings."""

    sampler: ClassVar[str] = "fireflow"

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first."""
        yield from map(Rise, midpoint_steps(x, denoiser, levels, reuse=True))

    def descend(self, trajectory: Trajectory, denoiser: Denoiser, top: int) -> Iterator[Tensor]:
        """Yield the state (B, *) after each step down from level number ``top``."""
        levels = trajectory.sigmas[: top + 1].flip(0).tolist()
        return midpoint_steps(trajectory.states[top], denoiser, levels, reuse=True)
