"""Solids as signed distances: Y up, the front faces +Z; a ball of 1.35 times the size holds any of them.

    d(p) < 0 inside, |d(p)| <= distance to the surface, so that a ray may advance by it (Hart 1996)

The pyramid's and the cube's faces look along the axes; the torus stands, its hole open to the front.
"""

from __future__ import annotations

import torch
from torch import Tensor

SOLIDS = ("sphere", "cube", "cylinder", "cone", "pyramid", "torus")
ROUND = ("sphere", "cylinder", "cone")
"""Those that look the same from all around, but for their colours."""


def distance(solid: str, place: Tensor, size: Tensor | float) -> Tensor:
    """Signed distances (*) of positions (*, 3) to a solid.

    Args:
        solid: one of `SOLIDS`.
        place: positions.
        size: a number, or a tensor that broadcasts with (*).
    """
    scaled = place / (size[..., None] if isinstance(size, Tensor) else size)
    return _UNIT[solid](scaled) * size


def _sphere(p: Tensor) -> Tensor:
    return p.norm(dim=-1) - 0.9


def _cube(p: Tensor) -> Tensor:
    return _box(p.abs() - 0.66)


def _box(q: Tensor) -> Tensor:
    """Of a box of which ``q`` is how far each coordinate lies beyond it."""
    return q.clamp(min=0).norm(dim=-1) + q.amax(dim=-1).clamp(max=0)


def _cylinder(p: Tensor) -> Tensor:
    return _box(torch.stack([_radius(p) - 0.68, p[..., 1].abs() - 0.68], dim=-1))


def _cone(p: Tensor) -> Tensor:
    return torch.maximum(_slope(_radius(p), p[..., 1]), -0.72 - p[..., 1])


def _pyramid(p: Tensor) -> Tensor:
    widest = p[..., [0, 2]].abs().amax(dim=-1)
    return torch.maximum(_slope(widest, p[..., 1]), -0.72 - p[..., 1])


def _slope(across: Tensor, up: Tensor) -> Tensor:
    """Of the half-plane under the line from (0, 0.95) to (0.78, -0.72)."""
    length = (1.67**2 + 0.78**2) ** 0.5
    return (1.67 * across + 0.78 * (up - 0.95)) / length


def _torus(p: Tensor) -> Tensor:
    ring = p[..., :2].norm(dim=-1) - 0.64
    return torch.stack([ring, p[..., 2]], dim=-1).norm(dim=-1) - 0.27


def _radius(p: Tensor) -> Tensor:
    return p[..., [0, 2]].norm(dim=-1)


_UNIT = {
    "sphere": _sphere,
    "cube": _cube,
    "cylinder": _cylinder,
    "cone": _cone,
    "pyramid": _pyramid,
    "torus": _torus,
}
