"""Where discs, bars and rings show most of a picture that is not there yet: a draft, or the next place for a path.

A stencil s_p, such as a disc around p, in the mean colour m of the wanted picture y under it, changes the squared error
of the picture x that is there by

    gain(p) = sum_i s_p,i ( |y_i - x_i|^2 - |y_i - m|^2 ),   mean |y - m|^2 = mean |y|^2 - |mean y|^2

All places and a few stencils are compared at once, the best is drawn, and the next looked for: matching pursuit. Discs
are for filled shapes, bars of a pen's width for open strokes, rings for closed ones. (LIVE, Ma et al. 2022, puts its
shapes on the largest region of one error level.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

RADII = (0.35, 0.25, 0.177, 0.125, 0.088, 0.0625, 0.044, 0.031, 0.022)
"""Of the discs that are tried, in longer sides of the picture."""
LENGTHS, ANGLES = (0.35, 0.21, 0.125, 0.075), 8
"""Of the bars that are tried, and how many directions they have."""
RINGS = (0.25, 0.177, 0.125, 0.088, 0.0625, 0.044)
"""Radii of the rings that are tried."""
LOOKED_AT = 64
"""Pixels of the longer side of the picture that places are looked for in."""
BINS = 8
"""Levels a channel, of the histogram of colours."""


class Discs(NamedTuple):
    """``centres`` (N, 2) in [0, 1]^2, ``radii`` (N,) in longer sides of the picture, ``colours`` (N, 3) in [0, 1].

    Rings are the same.
    """

    centres: Tensor
    radii: Tensor
    colours: Tensor


class Bars(NamedTuple):
    """``centres`` (N, 2) in [0, 1]^2, ``halves`` (N, 2), from there to an end, in longer sides, ``colours`` (N, 3)."""

    centres: Tensor
    halves: Tensor
    colours: Tensor


def where(wanted: Tensor, there: Tensor, count: int) -> Discs:
    """The ``count`` discs that bring ``there`` nearest to ``wanted``, both (3, H, W), one after the other."""
    side = max(_looked_at(wanted))
    centres, which, colours = _pursued(wanted, there, count, [_disc(radius * side, wanted) for radius in RADII])
    return Discs(centres, _chosen(RADII, which, colours), colours)


def rings(wanted: Tensor, there: Tensor, count: int, width: float) -> Discs:
    """The ``count`` rings of a pen's ``width``, in longer sides, that do."""
    side = max(_looked_at(wanted))
    stencils = [
        _stroked(_about(radius * side, wanted, width * side / 2), radius * side, width * side) for radius in RINGS
    ]
    centres, which, colours = _pursued(wanted, there, count, stencils)
    return Discs(centres, _chosen(RINGS, which, colours), colours)


def bars(wanted: Tensor, there: Tensor, count: int, width: float) -> Bars:
    """The ``count`` bars of a pen's ``width``, in longer sides, with round ends, that do."""
    side, turns = max(_looked_at(wanted)), [math.pi * i / ANGLES for i in range(ANGLES)]
    halves = [(length / 2 * math.cos(a), length / 2 * math.sin(a)) for length in LENGTHS for a in turns]
    stencils = [_stroked(_about((x * side, y * side), wanted, width * side / 2), 0.0, width * side) for x, y in halves]
    centres, which, colours = _pursued(wanted, there, count, stencils)
    return Bars(centres, _chosen(halves, which, colours), colours)


def _looked_at(picture: Tensor) -> tuple[int, int]:
    """Rows and columns that places are looked for in."""
    longest = max(picture.shape[-2:])
    rows, cols = (max(1, round(side * min(1.0, LOOKED_AT / longest))) for side in picture.shape[-2:])
    return rows, cols


def _chosen(listed: tuple[float, ...] | list[tuple[float, float]], which: list[int], like: Tensor) -> Tensor:
    """Those of a list that were chosen."""
    one = torch.tensor(listed, dtype=like.dtype, device=like.device)
    return one[which] if which else one[:0]


@torch.no_grad()
def _pursued(wanted: Tensor, there: Tensor, count: int, stencils: list[Tensor]) -> tuple[Tensor, list[int], Tensor]:
    """Places in [0, 1]^2, numbers and colours of the ``count`` stencils that bring ``there`` nearest to ``wanted``."""
    size = _looked_at(wanted)
    y, x = (F.adaptive_avg_pool2d(picture[None].float(), size)[0] for picture in (wanted, there))
    places, which, colours = [], [], []
    for _ in range(count):
        (row, col), number, colour = _best(y, x, stencils)
        places.append([(col + 0.5) / size[1], (row + 0.5) / size[0]])
        which.append(number)
        colours.append(colour)
        x = _drawn(x, row, col, stencils[number][0, 0], colour)
    found = torch.tensor(places).reshape(-1, 2).to(y), torch.stack(colours) if colours else y.new_empty(0, 3)
    return found[0], which, found[1]


def ground_of(picture: Tensor) -> Tensor:
    """The most frequent colour (3,) of a picture (3, H, W) in [0, 1]: the mean of its fullest bin."""
    pixels = picture.flatten(1).T
    levels = (pixels * BINS).long().clamp(0, BINS - 1)
    number = (levels * torch.tensor([BINS * BINS, BINS, 1], device=pixels.device)).sum(dim=1)
    return pixels[number == torch.bincount(number).argmax()].mean(dim=0)


def _disc(radius: float, like: Tensor) -> Tensor:
    """A disc's share of each pixel around its centre, (1, 1, k, k)."""
    return (radius + 0.5 - _about(radius, like)).clamp(0, 1)[None, None]


def _about(half: float | tuple[float, float], like: Tensor, margin: float = 0.0) -> Tensor:
    """Distance (k, k) of pixels from a point, as far as ``half`` and a margin go; or from a bar from -half to half."""
    x, y = half if isinstance(half, tuple) else (half, 0.0)
    reach = max(1, int(max(abs(x), abs(y)) + margin + 0.5))
    along = torch.arange(-reach, reach + 1, dtype=torch.float32, device=like.device)
    across, down = along[None, :], along[:, None]
    if isinstance(half, tuple):
        share = ((across * x + down * y) / (x**2 + y**2)).clamp(-1, 1)
        across, down = across - share * x, down - share * y
    return (down.square() + across.square()).sqrt()


def _stroked(distance: Tensor, radius: float, width: float) -> Tensor:
    """What a pen covers of each pixel that is so far from its line, or from the centre of its ring, (1, 1, k, k)."""
    off, half = (distance - radius).abs(), width / 2
    return ((off + 0.5).clamp(-half, half) - (off - 0.5).clamp(-half, half))[None, None]


def _best(y: Tensor, x: Tensor, stencils: list[Tensor]) -> tuple[tuple[int, int], int, Tensor]:
    """Row and column, number, and colour of the best stencil."""
    gains, colours = [], []
    parts = torch.cat(
        [y, (y - x).square().sum(0, keepdim=True), y.square().sum(0, keepdim=True), torch.ones_like(y[:1])]
    )
    for stencil in stencils:
        reach = stencil.shape[-1] // 2
        *mean, error, square, area = F.conv2d(parts[:, None], stencil, padding=reach)[:, 0]
        colour = torch.stack(mean) / area
        gains.append(error - (square - area * colour.square().sum(0)))
        colours.append(colour)
    best = int(torch.stack(gains).argmax())
    which, place = divmod(best, y[0].numel())
    row, col = divmod(place, y.shape[-1])
    return (row, col), which, colours[which][:, row, col]


def _drawn(x: Tensor, row: int, col: int, stencil: Tensor, colour: Tensor) -> Tensor:
    """``x`` (3, H, W) with a stencil's colour around a place."""
    reach, (rows, cols) = len(stencil) // 2, x.shape[-2:]
    top, left = max(0, row - reach), max(0, col - reach)
    share = stencil[top - row + reach : rows - row + reach, left - col + reach : cols - col + reach]
    part = (slice(None), slice(top, top + share.shape[0]), slice(left, left + share.shape[1]))
    made = x.clone()
    made[part] = torch.lerp(x[part], colour[:, None, None].expand_as(x[part]), share.expand_as(x[part]))
    return made
