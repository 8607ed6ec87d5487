"""Which cells of the ball may hold anything, so that empty ones are never asked about (Müller et al. 2022, App. E.1).

    d <- max(.95 d, sigma at one position of the cell),   occupied where d > 0.3 in the cell or a neighbour of it

d is looked at every `EVERY` iterations, and is part of the generator's state; a cell that nobody has looked at counts
as occupied.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .march import Field

CELLS = 32
"""A side of the cube around the ball."""
EVERY, KEPT, LEAST = 16, 0.95, 0.3
"""Iterations between two looks, share of the last look that is kept, and density above which a cell is occupied."""
UNSEEN = -1.0


def unseen() -> Tensor:
    """d (32, 32, 32) before the first look; its axes are z, y, x."""
    return torch.full((CELLS,) * 3, UNSEEN)


@torch.no_grad()
def looked(before: Tensor, field: Field, offset: Tensor) -> Tensor:
    """d after a look at the position ``offset`` (32^3, 3), in [0, 1) of its cell, in each."""
    step = torch.arange(CELLS, device=before.device)
    z, y, x = torch.meshgrid(step, step, step, indexing="ij")
    corner = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    place = (corner + offset.to(before)) * (2 / CELLS) - 1
    inside = place.norm(dim=1) <= 1
    density = torch.zeros(CELLS**3, device=before.device).masked_scatter(inside, field(place[inside])[0])
    return torch.maximum(KEPT * before.clamp(min=0), density.reshape(before.shape))


def occupied(density: Tensor) -> Tensor:
    """Which cells (32, 32, 32) may hold anything, bool."""
    near = (density > LEAST) | (density < 0)
    return F.max_pool3d(near.float()[None, None], 3, 1, 1)[0, 0] > 0


def lookup(cells: Tensor, place: Tensor) -> Tensor:
    """Whether the cells that positions (N, 3) lie in are occupied, (N,) bool."""
    x, y, z = ((place + 1) * (CELLS / 2)).long().clamp(0, CELLS - 1).unbind(dim=1)
    return cells.flatten()[(z * CELLS + y) * CELLS + x]
