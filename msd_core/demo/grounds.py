"""Colours of the illustrated world, and the grounds on which its things stand.

A ground is a plain soft colour, or a scene of its own: a sky, a night, a sunset, the sea, a meadow, snow.

Conventions: colours are RGB in [0, 1]; pictures are (3, S, S) in [0, 1], y down.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (0.85, 0.24, 0.23),
    "orange": (0.95, 0.54, 0.16),
    "yellow": (0.98, 0.82, 0.25),
    "green": (0.24, 0.60, 0.36),
    "blue": (0.16, 0.40, 0.78),
    "purple": (0.49, 0.28, 0.66),
    "pink": (0.96, 0.57, 0.69),
    "brown": (0.53, 0.34, 0.22),
    "black": (0.15, 0.15, 0.19),
    "white": (0.99, 0.98, 0.95),
}
"""What the colour words mean for things."""

INK: Colour = (0.15, 0.15, 0.19)
ACCENTS: dict[str, Colour] = {
    "ink": INK,
    "trunk": (0.47, 0.33, 0.24),
    "slate": (0.36, 0.38, 0.48),
    "cream": (0.98, 0.91, 0.76),
    "gold": (0.97, 0.74, 0.26),
    "leaf": (0.36, 0.58, 0.33),
    "snow": (0.97, 0.98, 0.99),
    "glass": (0.77, 0.89, 0.95),
    "blush": (0.96, 0.70, 0.69),
}
"""Colours of the parts that are not the caption's."""

PAPER: Colour = (0.97, 0.96, 0.93)
PLAIN: Colour = (0.80, 0.80, 0.82)
"""The ground of a scene whose caption names none: a soft grey."""


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """``a`` with ``share`` of ``b``."""
    red, green, blue = ((1 - share) * u + share * v for u, v in zip(a, b, strict=True))
    return red, green, blue


GROUND_COLOURS: dict[str, Colour] = {
    name: mix(colour, PAPER, 0.45) if name != "black" else (0.20, 0.21, 0.26) for name, colour in COLOURS.items()
}
"""What the colour words mean for grounds: softer than for things, so that nothing is lost on its own colour."""


def fill(role: str, main: Colour) -> Colour:
    """The colour of a part: "main", "shade" and "tint" are of the thing's own colour, the rest are accents."""
    if role == "main":
        return main
    if role == "shade":
        return mix(main, INK, 0.28) if sum(main) > 0.8 else mix(main, PAPER, 0.22)
    if role == "tint":
        return mix(main, PAPER, 0.42)
    return ACCENTS[role]


def _gradient(side: int, *stops: tuple[float, Colour]) -> Tensor:
    """Rows that run through ``stops`` (height in [0, 1], colour), straight between them: (3, side, side)."""
    heights = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    rows = torch.tensor(stops[0][1])[:, None].expand(3, side).clone()
    for (a, first), (b, second) in zip(stops, stops[1:], strict=False):
        share = ((heights - a) / (b - a)).clamp(0, 1)
        here = torch.tensor(first)[:, None] * (1 - share) + torch.tensor(second)[:, None] * share
        rows = torch.where(heights >= a, here, rows)
    return rows[:, :, None].expand(3, side, side).clone()


def _axes(side: int) -> tuple[Tensor, Tensor]:
    axis = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def _over(picture: Tensor, depth: Tensor, colour: Colour) -> Tensor:
    """Fill with ``colour`` where ``depth``, in fractions of the side, is positive."""
    alpha = (0.5 + depth * picture.shape[-1]).clamp(0, 1)
    return picture * (1 - alpha) + torch.tensor(colour)[:, None, None] * alpha


def _sky(side: int) -> Tensor:
    return _gradient(side, (0.0, (0.52, 0.74, 0.93)), (1.0, (0.87, 0.94, 0.97)))


def _night(side: int) -> Tensor:
    picture = _gradient(side, (0.0, (0.09, 0.11, 0.26)), (1.0, (0.24, 0.25, 0.45)))
    x, y = _axes(side)
    for cx, cy in ((0.09, 0.10), (0.31, 0.05), (0.88, 0.08), (0.69, 0.13), (0.06, 0.55), (0.95, 0.47), (0.12, 0.90)):
        picture = _over(picture, 0.0105 - ((x - cx) ** 2 + (y - cy) ** 2).sqrt(), (0.95, 0.93, 0.80))
    return picture


def _sunset(side: int) -> Tensor:
    stops = (
        (0.0, (0.44, 0.35, 0.62)),
        (0.45, (0.89, 0.53, 0.55)),
        (0.8, (0.98, 0.75, 0.50)),
        (1.0, (0.99, 0.86, 0.62)),
    )
    return _gradient(side, *stops)


def _sea(side: int) -> Tensor:
    picture = _gradient(side, (0.0, (0.74, 0.88, 0.95)), (0.6, (0.92, 0.96, 0.96)))
    x, y = _axes(side)
    for height, colour in ((0.60, (0.33, 0.62, 0.78)), (0.73, (0.26, 0.54, 0.73)), (0.86, (0.20, 0.46, 0.67))):
        wave = height + 0.010 * torch.sin(2 * torch.pi * (4 * x + 3 * height)) * float(height > 0.6)
        picture = _over(picture, y - wave, colour)
    return picture


def _meadow(side: int) -> Tensor:
    picture = _gradient(side, (0.0, (0.70, 0.86, 0.94)), (0.7, (0.91, 0.95, 0.92)))
    x, y = _axes(side)
    picture = _over(picture, y - 0.62 - 0.035 * torch.sin(2 * torch.pi * (x - 0.05)), (0.70, 0.83, 0.50))
    return _over(picture, y - 0.76 + 0.04 * torch.sin(2 * torch.pi * (x - 0.15)), (0.60, 0.76, 0.42))


def _snow(side: int) -> Tensor:
    picture = _gradient(side, (0.0, (0.58, 0.66, 0.77)), (0.7, (0.80, 0.85, 0.90)))
    x, y = _axes(side)
    picture = _over(picture, y - 0.64 + 0.03 * torch.sin(2 * torch.pi * (x - 0.1)), (0.90, 0.93, 0.97))
    return _over(picture, y - 0.78 - 0.035 * torch.sin(2 * torch.pi * (x - 0.2)), (0.97, 0.98, 0.99))


PLACES: dict[str, Callable[[int], Tensor]] = {
    "in the sky": _sky,
    "at night": _night,
    "at sunset": _sunset,
    "at sea": _sea,
    "in a meadow": _meadow,
    "in the snow": _snow,
}
"""Grounds that are scenes, by their words."""

GROUNDS = ("", *COLOURS, *PLACES)
"""Every ground: "" is the plain one, a colour's word a plain ground of that colour, the others are places."""


@cache
def ground_picture(ground: str, side: int) -> Tensor:
    """The empty picture (3, side, side) of a ground; not to be written to."""
    if ground in PLACES:
        return PLACES[ground](side)
    colour = GROUND_COLOURS[ground] if ground else PLAIN
    return torch.tensor(colour)[:, None, None].expand(3, side, side)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance in RGB of pictures (3, H, W): (H, W)."""
    red, green, blue = a - b
    return (red * red + green * green + blue * blue).sqrt()


@cache
def contrast(colour: str, ground: str) -> float:
    """Least distance in RGB between a thing's colour and any pixel of a ground."""
    pixels = ground_picture(ground, 32).flatten(1).T
    return float((pixels - torch.tensor(COLOURS[colour])).norm(dim=1).min())
