"""Direct inversion: explicit DDIM upwards without guidance, and a correction kept for every step of the way back.

    z*_{i+1} = z*_i + (sigma_{i+1} - sigma_i) eps(z*_i; sigma_i)            at inversion_cfg
    o_i      = z*_i - down(z*_{i+1})                                        at the cfg of the denoiser that is given

(Ju et al. 2023.) Re-sampling adds o_i after each step (`offsets`): with the same denoiser, at whatever cfg, the picture
comes back to rounding. Invert with the denoiser that will sample; for an edit, re-sample with another prompt.
Kept: one offset a level, so a trajectory is twice as large (26 MB for 50 steps of a 4 x 128 x 128 latent).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, cost
from ..guidance import at_cfg
from ..randomness import Rng
from ..settings import check_settings, setting
from .base import Rise, ddim_down
from .explicit import ExplicitStep
from .offsets import descend_by_offsets

if TYPE_CHECKING:
    from .trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Direct:
    """The walk above; it draws nothing.

    One evaluation at inversion_cfg and one at the denoiser's own cfg a step. Where inversion_cfg is None both are the
    same, and asked once.

    Raises:
        ValueError: for a value out of range.
    """

    inversion_cfg: float | None = setting(
        1.0, "guidance scale of the way up; none takes the denoiser's own", kind=float, optional=True, low=0
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first; its kept "offset" belongs to the step back down.

        Raises:
            ValueError: inversion_cfg is neither None nor 1, and the denoiser has no guidance.
        """
        upward = RowCounter(at_cfg(denoiser.denoiser, self.inversion_cfg))
        own = upward.denoiser is denoiser.denoiser
        z, denoised, rows, counted = x, None, 0, denoiser.rows
        each = x.shape[0] * cost(denoiser)
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            if own and denoised is not None:
                above = ddim_down(z, denoised, sigma, sigma_next)
            else:
                above = ExplicitStep()(z, denoiser if own else upward, sigma, sigma_next)
            denoised = denoiser(above, sigma_next)
            offset, z = z - ddim_down(above, denoised, sigma_next, sigma), above
            residual = torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
            asked = (denoiser.rows - counted) // each + (upward.rows > rows)
            spent = torch.full((x.shape[0],), asked, dtype=torch.int64)
            yield Rise(z, residual, spent, {"offset": offset}, upward.rows - rows)
            rows, counted = upward.rows, denoiser.rows

    def descend(self, trajectory: Trajectory, denoiser: Denoiser, top: int) -> Iterator[Tensor]:
        """Yield the state (B, *) after each step down from level number ``top``."""
        return descend_by_offsets(trajectory, denoiser, top)
