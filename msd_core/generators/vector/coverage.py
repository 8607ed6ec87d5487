"""Exact area coverage of closed outlines: a rasteriser that is differentiable without sampling.

A chord from (x_a, y_a) to (x_b, y_b), at most one pixel long in x and in y, with y_a < y_b, and s = 1 if it leads from
b to a, up the picture, else -1, adds to the pixel in row j and column i the area to its right,

    s int clamp(i + 1 - x(y), 0, 1) dy   over y in [j, j + 1] and [y_a, y_b]
      = s h (F(i + 1 - x_p) - F(i + 1 - x_q))/(x_q - x_p),   F(u) = clamp(u, 0, 1)^2/2 + max(u - 1, 0)

with h the height of its part in the row and x_p, x_q its ends there. Along a row that is 0, then two values, then h: so
three entries in each of at most two rows, summed along x. The sum over an outline is its winding number, averaged over
each pixel: exact for the polygon, and so is autograd's gradient. What is painted is min(|w|, 1), SVG's rule "nonzero";
wrong only in pixels where parts of opposite direction meet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .outline import Chords

STEEP = 1e-3
"""Below this many pixels in x a chord counts as vertical: its mean is that of its middle, to 1e-7."""
FLAT = 1e-6
"""Below this many pixels in y it is left out."""
PADDING = 5
"""Columns beside the picture: one to the left for what lies there, four for entries that run over its right edge."""


def windings(chords: Chords, count: int, height: int, width: int) -> Tensor:
    """Winding numbers (count, height, width) of closed outlines, averaged over each pixel; differentiable.

    Args:
        chords: in pixels from the top left corner; those of an outline close it.
        count: of the outlines.
        height, width: in pixels.
    """
    keep = _within(chords, height, width)
    begin, end, path = (part[keep] for part in chords)
    rising = end[:, 1] < begin[:, 1]
    sign = torch.where(rising, 1.0, -1.0).to(begin.dtype)
    top, low = torch.where(rising[:, None], end, begin), torch.where(rising[:, None], begin, end)
    across = low - top
    upright = across[:, 1] > FLAT
    slope = torch.where(upright, across[:, 0] / torch.where(upright, across[:, 1], torch.ones_like(sign)), 0.0)
    first, stride = top[:, 1].detach().floor(), width + PADDING
    places, shares = list[Tensor](), list[Tensor]()
    for part in range(2):
        row = first + part
        above, below = torch.maximum(top[:, 1], row), torch.minimum(low[:, 1], row + 1)
        weight = sign * (below - above).clamp(min=0) * ((row >= 0) & (row < height) & upright)
        ends = [(top[:, 0] + (y - top[:, 1]) * slope).clamp(-1, width + 1) for y in (above, below)]
        column = torch.minimum(*ends).detach().floor()
        near, far = (_mean_ramp(*(column + i - x for x in ends)) for i in (1, 2))
        place = (path * height + row.clamp(0, height - 1).long()) * stride + column.long() + 1
        for i, share in enumerate((near, far - near, 1 - far)):
            places.append(place + i)
            shares.append(weight * share)
    cells = begin.new_zeros(count * height * stride).index_add(0, torch.cat(places), torch.cat(shares))
    return cells.view(count, height, stride).cumsum(dim=-1)[..., 1 : width + 1]


def coverages(chords: Chords, count: int, height: int, width: int) -> Tensor:
    """Share of each pixel that is inside of each outline, (count, height, width), by the rule "nonzero".

    Arguments as for `windings`.
    """
    return windings(chords, count, height, width).abs().clamp(max=1)


def _within(chords: Chords, height: int, width: int) -> Tensor:
    """Which chords matter: not those above, below, or to the right of the picture."""
    with torch.no_grad():
        y, x = (torch.stack([chords.begin[:, k], chords.end[:, k]]) for k in (1, 0))
        return (y.amax(0) > 0) & (y.amin(0) < height) & (x.amin(0) < width)


def _mean_ramp(start: Tensor, stop: Tensor) -> Tensor:
    """Mean of clamp(u, 0, 1) over u between ``start`` and ``stop``."""
    across = stop - start
    steep = across.abs() < STEEP
    safe = torch.where(steep, torch.ones_like(across), across)
    return torch.where(steep, ((start + stop) / 2).clamp(0, 1), (_integral(stop) - _integral(start)) / safe)


def _integral(u: Tensor) -> Tensor:
    """F."""
    return u.clamp(0, 1).square() / 2 + (u - 1).relu()  # at 1 a clamp's gradient would count twice
