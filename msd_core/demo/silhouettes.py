"""Silhouettes of the things that the demo model draws, as signed distances, and the parts that each thing is made of.

A part is a region of the plane and the colour it is filled with: "main" (the colour that the caption says), "shade" and
"tint" (the main colour, darker and lighter), or the name of a fixed accent. Parts are painted in their order.

Conventions: a thing lives in the square [-1, 1]², x to the right, y down; its centre is (0, 0). Distances are negative
inside. `distance_field` holds every part as a picture of its distance, from which it is drawn at any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .regions import Point, Region, both, box, circle, ellipse, grown, polygon, ring, smooth, stroke, union, without

EXTENT = 1.3
"""Half the side of the square that a distance field covers."""
CELLS = 192
"""Cells a side of a distance field."""


def _star(points: int, outer: float, inner: float) -> list[Point]:
    corners = []
    for tip, dent in zip(ring(points, outer), ring(points, inner, first=0.5 / points), strict=True):
        corners += [tip, dent]
    return corners


def _ray(turn: float) -> Region:
    a = 2 * math.pi * turn
    out, side = (math.sin(a), -math.cos(a)), (math.cos(a), math.sin(a))
    corners = [(0.68, -0.15), (0.68, 0.15), (1.06, 0.0)]
    return polygon(*((u * out[0] + v * side[0], u * out[1] + v * side[1]) for u, v in corners))


@dataclass(frozen=True)
class Part:
    """A region and what it is filled with: "main", "shade", "tint", or an accent's name."""

    colour: str
    region: Region


_ARM = 0.36
_CROSS = (
    *((-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)),
    *((_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)),
)


def _main(region: Region) -> tuple[Part, ...]:
    return (Part("main", region),)


def _shapes() -> dict[str, tuple[Part, ...]]:
    return {
        "circle": _main(circle(0.0, 0.0, 1.0)),
        "square": _main(polygon((-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84))),
        "triangle": _main(polygon((0.0, -1.0), (1.0, 0.84), (-1.0, 0.84))),
        "diamond": _main(polygon((0.0, -1.1), (0.74, 0.0), (0.0, 1.1), (-0.74, 0.0))),
        "star": _main(polygon(*_star(5, 1.12, 0.4704))),
        "cross": _main(polygon(*_CROSS)),
    }


def _sky() -> dict[str, tuple[Part, ...]]:
    puffs = [circle(-0.56, 0.18, 0.38), circle(-0.08, -0.14, 0.52), circle(0.5, 0.1, 0.42)]
    heart = [(0.0, -0.45), (0.28, -0.78), (0.68, -0.78), (0.95, -0.42), (0.8, 0.08), (0.42, 0.52), (0.0, 0.92)]
    return {
        "sun": (Part("shade", union(*(_ray(i / 8) for i in range(8)))), Part("main", circle(0.0, 0.0, 0.56))),
        "moon": _main(without(circle(0.0, 0.0, 0.95), circle(0.44, -0.16, 0.76))),
        "cloud": _main(union(*puffs, box(-0.9, 0.14, 0.9, 0.56, 0.2))),
        "heart": _main(smooth(*heart[1:], *((-x, y) for x, y in reversed(heart[1:-1])), heart[0])),
        "balloon": (
            Part("ink", stroke((0.0, 0.52), (0.07, 0.7), (-0.05, 0.86), (0.0, 1.05), width=0.07)),
            Part("main", union(ellipse(0.0, -0.26, 0.64, 0.76), polygon((0.0, 0.4), (0.14, 0.62), (-0.14, 0.62)))),
            Part("tint", ellipse(-0.24, -0.52, 0.11, 0.22, 28)),
        ),
        "bird": (
            Part("gold", polygon((0.62, -0.42), (1.02, -0.26), (0.62, -0.12))),
            Part(
                "main",
                union(
                    smooth((-0.6, 0.1), (-0.2, -0.2), (0.3, -0.3), (0.66, 0.1), (0.4, 0.6), (-0.1, 0.72), (-0.5, 0.5)),
                    circle(0.4, -0.3, 0.37),
                    polygon((-0.4, 0.05), (-1.02, -0.2), (-0.98, 0.28), (-0.4, 0.5)),
                ),
            ),
            Part("shade", ellipse(-0.1, 0.2, 0.36, 0.22, 12)),
            Part("ink", circle(0.5, -0.36, 0.085)),
        ),
    }


def _land() -> dict[str, tuple[Part, ...]]:
    tiers = [((0.0, -1.0), 0.52, -0.3), ((0.0, -0.6), 0.7, 0.2), ((0.0, -0.15), 0.86, 0.68)]
    return {
        "fir": (
            Part("trunk", box(-0.14, 0.6, 0.14, 1.0)),
            Part("main", union(*(polygon(tip, (half, low), (-half, low)) for tip, half, low in tiers))),
        ),
        "tree": (
            Part("trunk", polygon((-0.13, 0.1), (0.13, 0.1), (0.2, 1.0), (-0.2, 1.0))),
            Part("main", union(circle(0.0, -0.45, 0.53), circle(-0.4, -0.08, 0.42), circle(0.4, -0.08, 0.42))),
        ),
        "house": (
            Part("main", box(-0.68, -0.15, 0.68, 0.9)),
            Part("slate", polygon((0.0, -0.98), (0.96, -0.04), (-0.96, -0.04))),
            Part("cream", box(-0.42, 0.3, -0.06, 0.9)),
            Part("gold", box(0.16, 0.24, 0.48, 0.56)),
        ),
        "mountain": (
            Part("main", polygon((-1.08, 0.78), (-0.28, -0.86), (0.16, -0.06), (0.44, -0.46), (1.08, 0.78))),
            Part(
                "snow",
                polygon((-0.28, -0.86), (0.0, -0.36), (-0.12, -0.22), (-0.28, -0.36), (-0.44, -0.2), (-0.53, -0.35)),
            ),
        ),
        "flower": (
            Part("leaf", union(stroke((0.0, 0.0), (0.0, 0.98), width=0.13), ellipse(0.28, 0.62, 0.28, 0.12, -32))),
            Part("main", union(*(circle(x, y, 0.3) for x, y in ring(6, 0.42, 0.0, -0.3)))),
            Part("gold", circle(0.0, -0.3, 0.25)),
        ),
        "mushroom": (
            Part("cream", smooth((-0.24, 0.0), (0.24, 0.0), (0.28, 0.6), (0.34, 0.88), (-0.34, 0.88), (-0.28, 0.6))),
            Part("main", both(ellipse(0.0, 0.16, 0.98, 1.0), box(-1.2, -1.2, 1.2, 0.2))),
            Part("snow", union(circle(-0.46, -0.14, 0.15), circle(0.08, -0.46, 0.18), circle(0.52, -0.08, 0.13))),
        ),
        "cat": (
            Part(
                "main",
                union(
                    ellipse(0.0, 0.2, 0.88, 0.7),
                    polygon((-0.84, 0.2), (-0.8, -0.86), (-0.2, -0.4)),
                    polygon((0.84, 0.2), (0.8, -0.86), (0.2, -0.4)),
                ),
            ),
            Part(
                "blush",
                union(
                    polygon((-0.68, -0.16), (-0.68, -0.58), (-0.4, -0.36)),
                    polygon((0.68, -0.16), (0.68, -0.58), (0.4, -0.36)),
                    ellipse(0.0, 0.36, 0.11, 0.08),
                ),
            ),
            Part("snow", union(ellipse(-0.36, 0.1, 0.17, 0.19), ellipse(0.36, 0.1, 0.17, 0.19))),
            Part("ink", union(ellipse(-0.34, 0.1, 0.085, 0.16), ellipse(0.34, 0.1, 0.085, 0.16))),
        ),
    }


def _made() -> dict[str, tuple[Part, ...]]:
    return {
        "boat": (
            Part("trunk", box(-0.05, -0.98, 0.05, 0.4)),
            Part(
                "cream",
                union(
                    polygon((0.12, -0.92), (0.84, 0.24), (0.12, 0.24)),
                    polygon((-0.12, -0.6), (-0.12, 0.24), (-0.68, 0.24)),
                ),
            ),
            Part("main", smooth((-0.98, 0.36), (-0.5, 0.38), (0.5, 0.38), (0.98, 0.36), (0.66, 0.82), (-0.66, 0.82))),
        ),
        "fish": (
            Part(
                "shade",
                union(
                    polygon((0.42, 0.0), (1.02, -0.5), (0.88, 0.0), (1.02, 0.5)),
                    smooth((-0.2, -0.4), (0.02, -0.72), (0.36, -0.6), (0.3, -0.3)),
                ),
            ),
            Part(
                "main",
                smooth(
                    (-0.98, 0.06),
                    (-0.62, -0.36),
                    (-0.1, -0.52),
                    (0.36, -0.28),
                    (0.66, 0.0),
                    (0.36, 0.3),
                    (-0.1, 0.54),
                    (-0.62, 0.44),
                ),
            ),
            Part("tint", smooth((-0.06, -0.34), (0.1, 0.0), (-0.06, 0.36), (0.14, 0.34), (0.3, 0.0), (0.14, -0.32))),
            Part("snow", circle(-0.52, -0.06, 0.15)),
            Part("ink", circle(-0.55, -0.06, 0.08)),
        ),
        "cup": (
            Part(
                "main",
                union(
                    without(ellipse(0.62, 0.1, 0.4, 0.38), ellipse(0.62, 0.1, 0.2, 0.19)),
                    polygon((-0.8, -0.5), (0.6, -0.5), (0.46, 0.6), (0.3, 0.78), (-0.5, 0.78), (-0.66, 0.6)),
                ),
            ),
            Part("shade", ellipse(-0.1, -0.5, 0.7, 0.17)),
            Part("trunk", ellipse(-0.1, -0.48, 0.56, 0.1)),
        ),
        "car": (
            Part(
                "main",
                union(
                    box(-1.04, -0.06, 1.04, 0.46, 0.16),
                    grown(polygon((-0.52, -0.06), (-0.34, -0.48), (0.34, -0.48), (0.62, -0.06)), 0.1),
                ),
            ),
            Part(
                "glass",
                union(
                    polygon((-0.44, -0.06), (-0.3, -0.42), (-0.04, -0.42), (-0.04, -0.06)),
                    polygon((0.08, -0.06), (0.08, -0.42), (0.3, -0.42), (0.5, -0.06)),
                ),
            ),
            Part("ink", union(circle(-0.54, 0.46, 0.28), circle(0.54, 0.46, 0.28))),
            Part("snow", union(circle(-0.54, 0.46, 0.12), circle(0.54, 0.46, 0.12))),
        ),
        "umbrella": (
            Part(
                "ink", stroke((0.0, -0.9), (0.0, 0.72), (0.06, 0.86), (0.2, 0.92), (0.34, 0.84), (0.38, 0.7), width=0.1)
            ),
            Part(
                "main",
                without(
                    circle(0.0, 0.1, 0.98),
                    box(-1.2, 0.12, 1.2, 1.2),
                    *(ellipse(x, 0.14, 0.245, 0.14) for x in (-0.735, -0.245, 0.245, 0.735)),
                ),
            ),
            Part(
                "tint",
                without(
                    both(ellipse(0.0, 0.1, 0.49, 0.98), box(-1.2, -1.2, 1.2, 0.12)),
                    *(ellipse(x, 0.14, 0.245, 0.14) for x in (-0.245, 0.245)),
                ),
            ),
        ),
    }


PARTS: dict[str, tuple[Part, ...]] = {**_shapes(), **_sky(), **_land(), **_made()}
"""The parts of each thing, in the order of painting."""

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
THINGS = tuple(PARTS)
"""Every thing's word: the six plain shapes first."""


def signed_distance(thing: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (negative inside) of points ``x``, ``y`` (one shape) to the outline of ``thing``, all parts."""
    return union(*(part.region for part in PARTS[thing]))(x, y)


@cache
def distance_field(thing: str) -> Tensor:
    """Signed distances of every part of ``thing``, (parts, CELLS, CELLS), at the cells' centres of the square
    [-EXTENT, EXTENT]².
    """
    axis = EXTENT * (2 * (torch.arange(CELLS, dtype=torch.float32) + 0.5) / CELLS - 1)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([part.region(x, y) for part in PARTS[thing]])


@cache
def profile(thing: str) -> tuple[float, float]:
    """Where ``thing`` begins on its vertical axis (y of its top at x = 0), and y of its lowest point."""
    inside = distance_field(thing).amin(dim=0) < 0
    axis = EXTENT * (2 * (torch.arange(CELLS, dtype=torch.float32) + 0.5) / CELLS - 1)
    middle = inside[:, CELLS // 2 - 1 : CELLS // 2 + 1].any(dim=1)
    return float(axis[middle].min()), float(axis[inside.any(dim=1)].max())


def outline(parts: Sequence[Tensor]) -> Tensor:
    """Distance (0 on them) to the visible outlines of ``parts`` in their order of painting, each of one shape."""
    lines = parts[0].abs()
    for part in parts[1:]:
        lines = torch.where(part < 0, part.abs(), torch.minimum(lines, part.abs()))
    return lines
