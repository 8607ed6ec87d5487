"""Where discs show most of a picture that is not there yet: a draft, or the next place for a shape.

A disc of radius r around p, in the mean colour m of the wanted picture y under it, changes the squared error of the
picture x that is there by

    gain(p, r) = area mean_disc( |y - x|^2 - |y - m|^2 ),   mean |y - m|^2 = mean |y|^2 - |mean y|^2

All places and a few radii are compared at once, the best disc is drawn, and the next looked for: matching pursuit.
(LIVE, Ma et al. 2022, puts its shapes on the largest region of one error level.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

RADII = (0.35, 0.25, 0.177, 0.125, 0.088, 0.0625, 0.044, 0.031, 0.022)
"""Of the discs that are tried, in longer sides of the picture."""
LOOKED_AT = 64
"""Pixels of the longer side of the picture that places are looked for in."""
BINS = 8
"""Levels a channel, of the histogram of colours."""


class Discs(NamedTuple):
    """``centres`` (N, 2) in [0, 1]^2, ``radii`` (N,) in longer sides of the picture, ``colours`` (N, 3) in [0, 1]."""

    centres: Tensor
    radii: Tensor
    colours: Tensor


@torch.no_grad()
def where(wanted: Tensor, there: Tensor, count: int) -> Discs:
    """The ``count`` discs that bring ``there`` nearest to ``wanted``, both (3, H, W), one after the other."""
    longest = max(wanted.shape[-2:])
    rows, cols = (max(1, round(side * min(1.0, LOOKED_AT / longest))) for side in wanted.shape[-2:])
    size = rows, cols
    y, x = (F.adaptive_avg_pool2d(picture[None].float(), size)[0] for picture in (wanted, there))
    discs = [_disc(radius * max(size), y) for radius in RADII]
    found = []
    for _ in range(count):
        place, which, colour = _best(y, x, discs)
        found.append((place, RADII[which], colour))
        x = _drawn(x, place, RADII[which] * max(size), colour)
    centres = torch.tensor([[(col + 0.5) / size[1], (row + 0.5) / size[0]] for (row, col), _, _ in found])
    radii = torch.tensor([radius for _, radius, _ in found])
    return Discs(centres.to(y), radii.to(y), torch.stack([colour for _, _, colour in found]))


def ground_of(picture: Tensor) -> Tensor:
    """The most frequent colour (3,) of a picture (3, H, W) in [0, 1]: the mean of its fullest bin."""
    pixels = picture.flatten(1).T
    levels = (pixels * BINS).long().clamp(0, BINS - 1)
    number = (levels * torch.tensor([BINS * BINS, BINS, 1], device=pixels.device)).sum(dim=1)
    return pixels[number == torch.bincount(number).argmax()].mean(dim=0)


def _disc(radius: float, like: Tensor) -> Tensor:
    """A disc's share of each pixel around its centre, (1, 1, k, k)."""
    reach = max(1, int(radius + 0.5))
    along = torch.arange(-reach, reach + 1, dtype=like.dtype, device=like.device)
    distance = (along[:, None].square() + along.square()).sqrt()
    return (radius + 0.5 - distance).clamp(0, 1)[None, None]


def _best(y: Tensor, x: Tensor, discs: list[Tensor]) -> tuple[tuple[int, int], int, Tensor]:
    """Row and column, number of the radius, and colour of the best disc."""
    gains, colours = [], []
    parts = torch.cat(
        [y, (y - x).square().sum(0, keepdim=True), y.square().sum(0, keepdim=True), torch.ones_like(y[:1])]
    )
    for disc in discs:
        reach = disc.shape[-1] // 2
        *mean, error, square, area = F.conv2d(parts[:, None], disc, padding=reach)[:, 0]
        colour = torch.stack(mean) / area
        gains.append(error - (square - area * colour.square().sum(0)))
        colours.append(colour)
    best = int(torch.stack(gains).argmax())
    which, place = divmod(best, y[0].numel())
    row, col = divmod(place, y.shape[-1])
    return (row, col), which, colours[which][:, row, col]


def _drawn(x: Tensor, place: tuple[int, int], radius: float, colour: Tensor) -> Tensor:
    rows, cols = (torch.arange(side, dtype=x.dtype, device=x.device) for side in x.shape[-2:])
    distance = ((rows[:, None] - place[0]).square() + (cols - place[1]).square()).sqrt()
    return torch.lerp(x, colour[:, None, None].expand_as(x), (radius + 0.5 - distance).clamp(0, 1).expand_as(x))
