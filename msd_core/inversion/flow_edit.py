"""FlowEdit: from the picture to its edit along the difference of two velocities, without inverting anything.

    up     z_i = x + sigma_i n_i,  u_i = (1 + sigma_i) eps(z_i; sigma_i) - z_i,    n_i drawn anew at every level
    down   y' = y + (t' - t) (u(y_t; t) - u_i),   y_t = y + (1 - t) z_i - x,       from y = x, t = sigma/(1 + sigma)

(Kulikov et al. 2024, in the coordinates of `flow`, with one draw a level.) "Up" keeps the source's velocities, "down"
asks another prompt. With the source itself every difference is 0, and the picture comes back as it was, at any cfg.
A lower highest level edits less. Kept: a velocity a level, as large as the states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter
from ..randomness import Rng, draw_normal
from .base import Rise
from .flow import time_of, velocity

if TYPE_CHECKING:
    from .trajectory import Trajectory


@dataclass(frozen=True)
class FlowEdit:
    """The walk above; one evaluation a level each way."""

    sampler: ClassVar[str] = "flow-edit"

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first, with the source's "velocity" kept.

        Raises:
            ValueError: the lowest level is not 0, or there is no ``rng``.
        """
        if levels[0] != 0:
            raise ValueError(
                f"sigmas: got {levels[0]:g} as the lowest level; allowed is 0, since an edit starts from the clean "
                "picture. Append 0 to the levels."
            )
        residual = torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
        for sigma in levels[1:]:
            z = x + sigma * draw_normal(x, rng)[0]
            t = time_of(sigma)
            yield Rise(z, residual, kept={"velocity": velocity(denoiser, (1 - t) * z, t)})

    def descend(self, trajectory: Trajectory, denoiser: Denoiser, top: int) -> Iterator[Tensor]:
        """Yield the edit so far (B, *), a clean picture, after each step down from level number ``top``."""
        times = [time_of(level) for level in trajectory.sigmas.tolist()]
        x = edited = trajectory.states[0]
        for i in range(top - 1, -1, -1):
            t = times[i + 1]
            target = edited - x + (1 - t) * trajectory.states[i + 1]
            change = velocity(denoiser, target, t) - trajectory.kept["velocity"][i]
            edited = edited + (times[i] - t) * change
            yield edited
