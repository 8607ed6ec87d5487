"""Uni-Inv: the noise predicted where the step will end, at one evaluation a step and one more in all.

    y = z_i + h e_i,   e_{i+1} = eps(y; sigma_{i+1}),   z_{i+1} = z_i + h e_{i+1},   h = sigma_{i+1} - sigma_i

(Jiao et al. 2025, written there for flow models.) The slope of the step before predicts the place y; the step then goes
from its start with the slope found there. Re-sampling returns x with an error of second order, where the explicit step
has first. Here it steps in sigma; in a flow model's t the predicted y differs, in second order, since the slope that is
carried along is another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..denoiser import RowCounter, eps
from ..randomness import Rng
from .base import Rise


@dataclass(frozen=True)
class UniInv:
    """The walk above; it draws nothing, and needs no settings."""

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first; the first slope is asked at the lowest level above 0."""
        asked = levels[0] if levels[0] > 0 else levels[1]
        z, slope = x, eps(x, asked, denoiser(x, asked))
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            predicted = z + (sigma_next - sigma) * slope
            slope = eps(predicted, sigma_next, denoiser(predicted, sigma_next))
            z = z + (sigma_next - sigma) * slope
            yield Rise(z)
