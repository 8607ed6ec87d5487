"""The way back down from an inversion, with the sampler that it inverts, and how close the picture comes.

`resample` with the same denoiser gives the picture back as far as the inversion is exact; with another prompt it edits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, ask, check_denoiser
from ..echo import shown
from ..multistep import dpmpp_2m_steps
from ..sampling import ddim_steps, heun_steps
from ..validation import as_floating, check_instance, check_positive, check_same_shape, is_number
from .base import sampler_of
from .masked import MaskedDenoiser
from .trajectory import Trajectory

ROUNDING = 1e-6
"""Relative: a level that float32 holds may be so much above the number that was meant."""

Walk = Callable[[Tensor, Denoiser, Tensor], Iterator[tuple[float, Tensor, Tensor]]]
WALKS: dict[str, Walk] = {"ddim": ddim_steps, "heun": heun_steps, "dpmpp_2m": dpmpp_2m_steps}
"""The samplers that have no other way down: ``(z, denoiser, descending levels)`` to their moves."""


def resample_steps(
    trajectory: Trajectory, denoiser: Denoiser, below: float = math.inf
) -> Iterator[tuple[float, Tensor]]:
    """Yield ``(sigma, z)`` after each step down; arguments and errors of `resample`. Gradients flow through."""
    check_instance("trajectory", trajectory, Trajectory, "a Trajectory, as invert returns it")
    check_denoiser(denoiser)
    top, outside = _top(trajectory, below), trajectory.outside
    counted = RowCounter(denoiser if outside is None else MaskedDenoiser(denoiser, outside))
    for sigma, z in _walked(trajectory, counted, top):
        yield sigma, z if outside is None else outside.filled(z, sigma)


def _walked(trajectory: Trajectory, denoiser: RowCounter, top: int) -> Iterator[tuple[float, Tensor]]:
    """The steps down from level number ``top``."""
    inversion, levels = cast("Any", trajectory.inversion), trajectory.sigmas.tolist()
    if hasattr(inversion, "descend"):
        down = inversion.descend(trajectory, denoiser, top)
        yield from zip(levels[top - 1 :: -1] if top > 1 else levels[:1], down, strict=True)
        return
    walk = WALKS[sampler_of(inversion)]
    if walk is dpmpp_2m_steps and top + 1 < len(levels):  # its step is made with what the model said one level higher
        above = ask(denoiser, trajectory.states[top + 1], levels[top + 1])
        walk = partial(dpmpp_2m_steps, before=(levels[top + 1], above))
    for sigma, z, _ in walk(trajectory.states[top], denoiser, trajectory.sigmas[: top + 1].flip(0)):
        yield sigma, z


@torch.no_grad()
def resample(trajectory: Trajectory, denoiser: Denoiser, below: float = math.inf) -> Tensor:
    """The state (B, *) at the trajectory's lowest level, walked down from its highest; no gradient is recorded.

    Args:
        trajectory: an inversion of B samples.
        denoiser: the same as for the inversion to get the pictures back, another (prompt, cfg) to edit them. It must
            take B rows.
        below: start at the highest level up to this one, and keep what the picture is above it: less of an edit.

    Raises:
        ValueError: no level but the lowest is at most ``below``, or the denoiser does not fit.
    """
    return deque(resample_steps(trajectory, denoiser, below), maxlen=1)[0][1]


def round_trip_psnr(x: Tensor, back: Tensor, peak: float | None = None) -> Tensor:
    """Peak signal-to-noise ratio of ``back`` against ``x``, both (B, *): in dB, (B,) float64 on the CPU;
    infinite if they are equal.

    Args:
        x, back: pictures or latents.
        peak: the range of values, 1 for pictures in [0, 1]; the range of each sample of ``x`` if left out.

    Raises:
        ValueError: the shapes differ, or they are no pictures; ``peak`` is not above 0.
    """
    x, back = as_floating("x", x), as_floating("back", back)
    check_same_shape("back", back, "x", x)
    if peak is not None:
        check_positive("peak", peak)
    x, back = x.cpu().double(), back.cpu().double()
    rows, error = x.flatten(1), (back - x).flatten(1).square().mean(dim=1)
    span = rows.max(dim=1).values - rows.min(dim=1).values if peak is None else torch.full_like(error, float(peak))
    return 10 * (span.square() / error).log10()


def _top(trajectory: Trajectory, below: float) -> int:
    """Number of the highest level of ``trajectory`` that is at most ``below``."""
    levels = trajectory.sigmas.tolist()
    top = sum(level <= float(below) * (1 + ROUNDING) for level in levels) - 1 if is_number(below) else 0
    if top < 1:
        raise ValueError(
            f"below: got {shown(below)}; allowed is at least {levels[1]:g}, the first level above the picture's own. "
            "Raise it."
        )
    return top
