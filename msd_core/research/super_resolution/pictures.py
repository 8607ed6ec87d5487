"""Pictures to learn super-resolution from: several things, many striped, on a ground that changes from side to side.

The things are six of the demo model's, in a palette of their own. A thing is plain or striped in two colours, with a
period of 3 to 8 pixels: after reduction by 4 the finer stripes are gone, so that what was there can only be guessed,
which is what makes a generative model of use. Low resolution is the mean of 4 × 4 pixels; bicubic interpolation of it
is the baseline and what the network is given.

Conventions: pictures (B, 3, S, S) in [0, 1]; places, radii and periods are fractions of the side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ...demo.scenes import SHAPES, coverage
from ...validation import check_count

FACTOR = 4
"""Pixels of a high-resolution side for each pixel of a low-resolution one."""
THINGS = 5
"""Things in a picture, some of them hidden by later ones."""
PALETTE = (
    *((0.86, 0.12, 0.14), (0.98, 0.56, 0.08), (0.98, 0.89, 0.20), (0.12, 0.62, 0.24)),
    *((0.12, 0.32, 0.86), (0.52, 0.18, 0.66), (0.08, 0.08, 0.10), (0.98, 0.98, 0.98)),
)
"""Red, orange, yellow, green, blue, purple, black and white."""
RADII = (0.10, 0.30)
PERIODS = (3 / 32, 8 / 32)


def _uniform(low: float, high: float, *shape: int, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def _colours(*shape: int, rng: torch.Generator) -> Tensor:
    """Palette colours, each a little lighter or darker: (*shape, 3)."""
    palette = torch.tensor(PALETTE)
    picked = palette[torch.randint(len(palette), shape, generator=rng)]
    return (picked + _uniform(-0.08, 0.08, *shape, 1, rng=rng)).clamp(0, 1)


def _along(angle: Tensor, side: int) -> Tensor:
    """Coordinate of each pixel along the direction ``angle`` (B,), 0 in the centre: (B, side, side)."""
    axis = (torch.arange(side) + 0.5) / side - 0.5
    return axis * angle.cos()[:, None, None] + axis[:, None] * angle.sin()[:, None, None]


def _fills(count: int, side: int, rng: torch.Generator) -> Tensor:
    """What things are painted with: (count, 3, side, side), half of them striped."""
    first, second = _colours(2, count, rng=rng)[..., None, None]
    period = _uniform(*PERIODS, count, rng=rng)[:, None, None]
    phase = _uniform(0, 2 * math.pi, count, rng=rng)[:, None, None]
    where = _along(_uniform(0, math.pi, count, rng=rng), side)
    wave = (2 * math.pi * where / period + phase).sin() * period * side / (2 * math.pi)  # edges one pixel wide
    striped = (torch.rand(count, generator=rng) < 0.5)[:, None, None]
    return torch.lerp(first, second, (striped * (0.5 + wave).clamp(0, 1))[:, None])


def draw_pictures(count: int, side: int, rng: torch.Generator) -> Tensor:
    """Draw ``count`` pictures, (count, 3, side, side) in [0, 1].

    Raises:
        ValueError: the side is not a positive multiple of `FACTOR`.
    """
    check_count("count", count)
    if side < FACTOR or side % FACTOR:
        raise ValueError(f"side: got {side}; allowed are positive multiples of {FACTOR}. Use 32, for example.")
    rows = count * THINGS
    shape = torch.randint(len(SHAPES), (rows,), generator=rng)
    x, y = _uniform(0.1, 0.9, 2, rows, rng=rng)
    radius = _uniform(*RADII, rows, rng=rng)
    masks = torch.empty(rows, side, side)
    for i, name in enumerate(SHAPES):
        of_it = shape == i
        masks[of_it] = coverage(name, x[of_it], y[of_it], radius[of_it], side)
    fills = _fills(rows, side, rng)
    share = (_along(_uniform(0, 2 * math.pi, count, rng=rng), side) + 0.5).clamp(0, 1)
    ends = _colours(2, count, rng=rng)[..., None, None]
    pictures = torch.lerp(ends[0], ends[1], share[:, None])
    for mask, fill in zip(
        masks.view(count, THINGS, 1, side, side).unbind(1),
        fills.view(count, THINGS, 3, side, side).unbind(1),
        strict=True,
    ):
        pictures = torch.lerp(pictures, fill, mask)
    return pictures


def reduce(pictures: Tensor) -> Tensor:
    """Low-resolution pictures (B, 3, S/4, S/4): the mean of each 4 × 4 pixels."""
    return F.avg_pool2d(pictures, FACTOR)


def enlarge(low: Tensor) -> Tensor:
    """Bicubic interpolation (B, 3, S, S) of low-resolution pictures (B, 3, S/4, S/4), clamped to [0, 1]."""
    return F.interpolate(low, scale_factor=FACTOR, mode="bicubic", align_corners=False).clamp(0, 1)
