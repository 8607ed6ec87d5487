"""What a document draws, and the vector picture that begins as it.

A picture's strokes are all open or all closed. If a document has both, its closed ones come as open ones whose ends
meet, which look the same: under a round pen there is no other difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ...validation import check_count
from ..paint import toned
from . import pens
from .outline import contained, curves, halved
from .settings import MOST_PATHS, MOST_SEGMENTS, THICKEST, THINNEST
from .shapes import DENSE, OUTSIDE, REACH, Vector


class Shape(NamedTuple):
    """An outline (S, 3, 2) in pixels, its colour (3,) and opacity in [0, 1]."""

    outline: Tensor
    colour: tuple[float, float, float]
    opacity: float


class Stroke(NamedTuple):
    """Curves (T, 4, 2) in a row, in pixels, their colour (3,) and opacity in [0, 1], the pen's width, and whether it is
    closed: the last ends where the first begins."""

    curves: Tensor
    colour: tuple[float, float, float]
    opacity: float
    width: float
    closed: bool


@dataclass
class Drawing:
    """What a document draws: its size in pixels, the ground's colour, and shapes and strokes in painting order."""

    width: float = 0.0
    height: float = 0.0
    ground: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shapes: list[Shape | Stroke] = field(default_factory=list)


OWN = ("paths", "segments", "strokes", "stroke_segments", "closed_strokes")
"""Settings of a vector picture that a document decides."""
SHORT = 0.1
"""Sides of the document: the length of a curve that may cross the edge of where points count."""


@torch.no_grad()
def of_drawing(drawing: Drawing, width: int, height: int, **options: str | float) -> Vector:
    """The shapes and strokes of a document on a canvas, stretched to it; those with fewer curves are divided.

    Args:
        drawing: as `read_svg` gives it.
        width, height: of the canvas, in pixels.
        options: of `VectorSettings`, but for those in `OWN`.

    Raises:
        ValueError: it draws nothing, more than `MOST_PATHS` shapes or strokes, one of more than `MOST_SEGMENTS` curves,
            or with a pen that is too thin or too thick.
    """
    paths = [path for path in drawing.shapes if isinstance(path, Shape)]
    strokes = [path for path in drawing.shapes if isinstance(path, Stroke)]
    if not drawing.shapes:
        raise ValueError("svg: draws no path; allowed is one or more, filled or stroked. Choose another document.")
    for name, listed in (("shapes", paths), ("strokes", strokes)):
        check_count(f"svg: {name}", len(listed), minimum=0, maximum=MOST_PATHS)
    closed = bool(strokes) and all(stroke.closed for stroke in strokes)
    filled = [_contained(curves(shape.outline[None])[0], drawing) for shape in paths]
    stroked = [_contained(stroke.curves, drawing) for stroke in strokes]
    segments = max([2, *map(len, filled)])
    pieces = max([2 if closed else 1, *map(len, stroked)])
    check_count("svg: curves of a path", max(segments, pieces), maximum=MOST_SEGMENTS)
    own = dict(zip(OWN, (len(paths), segments, len(strokes), pieces, closed), strict=True))
    made = Vector(width, height, **options, **own)  # pyright: ignore[reportArgumentType]
    least = min(path.opacity for path in drawing.shapes)
    if made.opacities is None and least < 1:
        raise ValueError(
            f"svg: has a path of the opacity {least:g} with paint 'opaque'; allowed is 1 there. Set paint to "
            "'translucent'."
        )
    scale = made.sides / torch.tensor([drawing.width, drawing.height]) / REACH
    if paths:
        made.points.copy_(torch.stack([halved(whole, segments)[:, :3] for whole in filled]) * scale)
    if strokes and made.strokes is not None and made.widths is not None and made.order is not None:
        listed = [_points(halved(whole, pieces), closed) for whole in stroked]
        made.strokes.copy_(torch.stack(listed) * scale)
        made.widths.copy_(pens.widened(_widths(strokes, drawing, made)))
        behind = [i for kind in (Shape, Stroke) for i, path in enumerate(drawing.shapes) if isinstance(path, kind)]
        made.order.copy_(torch.tensor(behind, dtype=torch.float32))
    both = [*paths, *strokes]
    made.colours.copy_(toned(torch.tensor([path.colour for path in both])))
    if made.opacities is not None:
        made.opacities.copy_(toned(torch.tensor([path.opacity for path in both])) - toned(torch.tensor(DENSE)))
    made.ground.copy_(toned(torch.tensor(drawing.ground)))
    return made


def _contained(whole: Tensor, drawing: Drawing) -> Tensor:
    """Curves (S, 4, 2) as more of them where they leave the part of the plane whose points count."""
    sides = drawing.width, drawing.height
    low, high = [-OUTSIDE * side for side in sides], [(1 + OUTSIDE) * side for side in sides]
    return contained(whole, low, high, [SHORT * side for side in sides], MOST_SEGMENTS)


def _points(whole: Tensor, closed: bool) -> Tensor:
    """Control points (3T + 1, 2) of curves (T, 4, 2) in a row, or (3T, 2) of closed ones."""
    points = whole[:, :3].flatten(0, 1)
    return points if closed else torch.cat([points, whole[-1:, 3]])


def _widths(strokes: list[Stroke], drawing: Drawing, made: Vector) -> Tensor:
    """In longer sides of the canvas; where it is of another shape than the document, of equal area."""
    scale = math.sqrt(float(made.sides.prod()) / (drawing.width * drawing.height))
    widths = [stroke.width * scale for stroke in strokes]
    for stroke, width in zip(strokes, widths, strict=True):
        if not THINNEST <= width <= THICKEST:
            raise ValueError(
                f"svg: stroke-width: got {stroke.width:g} in a picture of {drawing.width:g} x {drawing.height:g}; "
                f"allowed are {100 * THINNEST:g} to {100 * THICKEST:g} % of the longer side. Change the width."
            )
    return torch.tensor(widths)
