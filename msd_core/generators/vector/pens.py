"""Strokes as parameters: where they begin, and how wide they are.

    width = a (b/a)^sigmoid(SWELL q),   a = THINNEST, b = THICKEST

so that a width stays between the two, and one step of Adam at 0.01 changes it by at most 5 % of itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .draft import Bars, Discs
from .outline import circles
from .settings import THICKEST, THINNEST

SWELL = 3.0
"""Steepness of a width in its parameter."""
EDGE = 1e-4
"""Share of the range that a parameter keeps off its ends, where it could not move."""
LONGEST, SHORTEST = 0.5, 0.15
"""Lengths at the start, in longer sides of the picture."""
BEND = 0.3
"""How far the middle of a stroke lies off the line between its ends at most, in lengths."""


def wide(parameter: Tensor) -> Tensor:
    """The width, in longer sides."""
    return THINNEST * (THICKEST / THINNEST) ** torch.sigmoid(SWELL * parameter)


def widened(width: Tensor) -> Tensor:
    """The parameter of a width in longer sides; `THINNEST` and `THICKEST` to 1 per mille."""
    return torch.logit((width / THINNEST).log() / math.log(THICKEST / THINNEST), eps=EDGE) / SWELL


def bows(centres: Tensor, turns: Tensor, bends: Tensor, segments: int) -> Tensor:
    """Strokes (Q, 3T + 1, 2) from long to short: parabolas.

    Args:
        centres: (Q, 2), in longer sides.
        turns: their directions in turns, (Q,).
        bends: 0 to 1, (Q,): a half is straight.
        segments: T curves each.
    """
    lengths = torch.logspace(math.log10(LONGEST), math.log10(SHORTEST), len(centres)).to(centres)
    angle = 2 * math.pi * turns
    along = torch.stack([angle.cos(), angle.sin()], dim=-1) * lengths[:, None]
    across = torch.stack([-along[:, 1], along[:, 0]], dim=-1) * (BEND * (2 * bends - 1))[:, None]
    s = torch.linspace(-0.5, 0.5, segments + 1, dtype=centres.dtype, device=centres.device)
    third = 1 / (3 * segments)
    # of a parabola u(s) the control points of a part are u, u + h u'/3 and v - h v'/3
    steps = torch.stack([s[:-1], s[:-1] + third, s[1:] - third], dim=1).flatten()
    heights = torch.stack([4 * s[:-1] ** 2, 4 * s[:-1] ** 2 + 8 * s[:-1] * third, 4 * s[1:] ** 2 - 8 * s[1:] * third])
    steps, heights = torch.cat([steps, s[-1:]]), torch.cat([heights.T.flatten(), 4 * s[-1:] ** 2])
    return centres[:, None] + along[:, None] * steps[:, None] + across[:, None] * heights[:, None]


def loops(centres: Tensor, segments: int) -> Tensor:
    """Rings (Q, 3T, 2) from large to small."""
    radii = torch.logspace(math.log10(LONGEST / 2), math.log10(SHORTEST / 2), len(centres)).to(centres)
    return circles(centres, radii, segments).flatten(1, 2)


def straight(bars: Bars, sides: Tensor, segments: int) -> Tensor:
    """Strokes (Q, 3T + 1, 2) in longer sides along bars."""
    share = torch.linspace(-1, 1, 3 * segments + 1, dtype=bars.halves.dtype, device=bars.halves.device)
    return (bars.centres * sides)[:, None] + bars.halves[:, None] * share[:, None]


def ringed(rings: Discs, sides: Tensor, segments: int) -> Tensor:
    """Closed strokes (Q, 3T, 2) in longer sides along rings."""
    return circles(rings.centres * sides, rings.radii, segments).flatten(1, 2)
