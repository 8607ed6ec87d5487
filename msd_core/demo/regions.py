"""Regions of the plane as signed distances: the vocabulary that silhouettes are drawn with.

A region is a function of points (x, y), two tensors of one shape, to their signed distance, negative inside. Distances
of unions and cuts are exact outside of unions and near outlines, and bounds elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

Region = Callable[[Tensor, Tensor], Tensor]
"""(x, y), of one shape, to the signed distance there."""
Point = tuple[float, float]


def polygon(*corners: Point) -> Region:
    """The inside of a closed polygon."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        inside = torch.zeros_like(x, dtype=torch.bool)
        nearest = torch.full_like(x, math.inf)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            ex, ey = bx - ax, by - ay
            t = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0)
            nearest = torch.minimum(nearest, (x - ax - t * ex) ** 2 + (y - ay - t * ey) ** 2)
            if ay != by:  # even-odd rule: count the edges that a ray to the right crosses
                inside ^= ((y < ay) != (y < by)) & (x < ax + (y - ay) * ex / ey)
        return torch.where(inside, -1.0, 1.0) * nearest.sqrt()

    return distance


def smooth(*points: Point, pieces: int = 6) -> Region:
    """The inside of a closed Catmull-Rom curve through ``points``, each piece cut into ``pieces`` edges."""
    count, corners = len(points), []
    for i in range(count):
        p0, p1, p2, p3 = (points[(i + k) % count] for k in (-1, 0, 1, 2))
        for t in (j / pieces for j in range(pieces)):
            corners.append(
                tuple(
                    0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                    for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
                )
            )
    return polygon(*corners)


def circle(cx: float, cy: float, r: float) -> Region:
    """A disk."""
    return lambda x, y: ((x - cx) ** 2 + (y - cy) ** 2).sqrt() - r


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> Region:
    """A filled ellipse, turned clockwise by ``degrees``."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    around = [2 * math.pi * i / 40 for i in range(40)]
    local = [(rx * math.cos(a), ry * math.sin(a)) for a in around]
    return polygon(*((cx + c * u - s * v, cy + s * u + c * v) for u, v in local))


def box(left: float, top: float, right: float, bottom: float, r: float = 0.0) -> Region:
    """A rectangle with corners rounded by radius ``r``."""
    inner = ((left + r, top + r), (right - r, top + r), (right - r, bottom - r), (left + r, bottom - r))
    return grown(polygon(*inner), r)


def stroke(*points: Point, width: float) -> Region:
    """A line through ``points`` with round ends, of full width ``width``."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        nearest = torch.full_like(x, math.inf)
        for (ax, ay), (bx, by) in zip(points, points[1:], strict=False):
            ex, ey = bx - ax, by - ay
            t = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0)
            nearest = torch.minimum(nearest, (x - ax - t * ex) ** 2 + (y - ay - t * ey) ** 2)
        return nearest.sqrt() - width / 2

    return distance


def grown(region: Region, r: float) -> Region:
    """``region`` and all within ``r`` of it."""
    return lambda x, y: region(x, y) - r


def union(*regions: Region) -> Region:
    """What lies in any of ``regions``."""
    return lambda x, y: reduce(torch.minimum, (region(x, y) for region in regions))


def both(*regions: Region) -> Region:
    """What lies in all of ``regions``."""
    return lambda x, y: reduce(torch.maximum, (region(x, y) for region in regions))


def without(region: Region, *cut: Region) -> Region:
    """What lies in ``region`` and in none of ``cut``."""
    return lambda x, y: reduce(torch.maximum, (-c(x, y) for c in cut), region(x, y))


def ring(count: int, distance: float, cx: float = 0.0, cy: float = 0.0, first: float = 0.0) -> list[Point]:
    """``count`` points around (cx, cy), the first at ``first`` turns from the top."""
    turns = [2 * math.pi * (first + i / count) for i in range(count)]
    return [(cx + distance * math.sin(a), cy - distance * math.cos(a)) for a in turns]
