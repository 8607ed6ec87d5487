"""Edit-friendly noise maps: not the noise of one path, but the noise of every step that leads through given states.

    z*_i = x + sigma_i n_i,   n_i ~ N(0, I), drawn anew at every level
    o_i  = z*_i - down(z*_{i+1})                      the noise map of the step down to level i, times its deviation

(Huberman-Spiegelglas et al. 2024.) Re-sampling adds the maps where an ancestral sampler would add noise (`offsets`), so
the picture comes back to rounding at any cfg; the maps carry more of the picture than those of a drawn sample, which is
what makes edits keep its layout. The step to sigma = 0 has no noise; its offset is kept too, where the paper's code has
zero there. Kept: one offset a level, as large as the states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter
from ..randomness import Rng, draw_normal
from ..settings import check_settings, setting
from .base import Rise
from .offsets import descend_by_offsets, quiet_down

if TYPE_CHECKING:
    from .trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class EditFriendly:
    """The walk above; one evaluation a level.

    Raises:
        ValueError: for a value out of range.
    """

    eta: float = setting(1.0, "share of an ancestral step's noise that the maps stand for; 1 is DDPM", low=0, high=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first; its kept "offset" belongs to the step back down."""
        z = x
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            above = x + sigma_next * draw_normal(x, rng)[0]
            offset = z - quiet_down(above, denoiser(above, sigma_next), sigma_next, sigma, self.eta)
            z = above
            yield Rise(z, torch.zeros(x.shape[0], dtype=x.dtype, device=x.device), kept={"offset": offset})

    def descend(self, trajectory: Trajectory, denoiser: Denoiser, top: int) -> Iterator[Tensor]:
        """Yield the state (B, *) after each step down from level number ``top``."""
        return descend_by_offsets(trajectory, denoiser, top, self.eta)
