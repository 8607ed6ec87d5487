"""The midpoint rule in a flow model's time, with a fresh slope towards the middle or that of the last step's middle.

    x' = x + h u(x + h/2 s; t + h/2),   h = t' - t

with s = u(x; t) (two evaluations a step), or s = the u that the step before used (one; the first step takes u(x; t)).
Either is of second order in h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from ..denoiser import Denoiser
from .flow import time_of, velocity


def midpoint_steps(z: Tensor, denoiser: Denoiser, levels: Sequence[float], reuse: bool) -> Iterator[Tensor]:
    """Yield the state z (B, *) at each of ``levels`` (sigma, either way) but the first, at which ``z`` lies."""
    t, slope = time_of(levels[0]), None
    state = (1 - t) * z
    for sigma_next in levels[1:]:
        t_next = time_of(sigma_next)
        middle, half = (t + t_next) / 2, (t_next - t) / 2
        if slope is None or not reuse:
            slope = velocity(denoiser, state, t, instead=middle)
        slope = velocity(denoiser, state + half * slope, middle)
        state, t = state + 2 * half * slope, t_next
        yield state / (1 - t)
