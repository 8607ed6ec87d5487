"""Which data can matter to which queries: compact blocks of points, and a bound on what lies outside them.

A softmax of -|z - y_i|^2/(2 sigma^2) over N points changes by less than a fraction N exp(-T) if every y_i is dropped
with

    |z - y_i|^2 > |z - y_near|^2 + 2 sigma^2 T.

Data is cut into blocks by recursive bisection along the widest axis (a k-d tree without the tree). A block is dropped
for a query if the distance to its bounding box exceeds the bound, where y_near is the nearest of one member a block: no
point is ever compared with all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_DIMENSIONS = 16
"""Above it, distances are too much alike for boxes to exclude anything."""


def bisect(points: Tensor, size: int) -> Tensor:
    """Order (N,) of ``points`` (N, D) in which consecutive runs of ``size`` are compact in space."""

    def halves(index: Tensor) -> list[Tensor]:
        if len(index) <= size:
            return [index]
        part = points[index]
        axis = int((part.amax(dim=0) - part.amin(dim=0)).argmax())
        index = index[part[:, axis].argsort()]
        middle = -(-len(index) // (2 * size)) * size
        return halves(index[:middle]) + halves(index[middle:])

    return torch.cat(halves(torch.arange(len(points), device=points.device)))


@dataclass(frozen=True)
class Blocks:
    """Points in compact blocks of equal size; the last one is filled up with copies of its last point.

    Attributes:
        points: (M, size, D).
        real: which of them are points and not copies, (M, size).
    """

    points: Tensor
    real: Tensor

    @classmethod
    def of(cls, points: Tensor, size: int) -> Blocks:
        """The blocks of ``points`` (N, D)."""
        order = bisect(points, size)
        missing = -len(order) % size
        real = torch.arange(len(order) + missing, device=points.device) < len(order)
        return cls(points[torch.cat([order, order[-1:].expand(missing)])].unflatten(0, (-1, size)), real.view(-1, size))

    def near(self, queries: Tensor, spread: Tensor) -> Tensor:
        """Which blocks may hold a point with |z - y|^2 <= |z - y_near|^2 + ``spread``: (B, M) for queries (B, D).

        In float32, with slack for its rounding: a block too many costs time only. A query that is not finite sees all.

        Args:
            queries: z, shape (B, D).
            spread: 2 sigma^2 T, shape (B, 1).
        """
        queries, points = queries.float(), self.points.float()
        member = points[:, points.shape[1] // 2]
        nearest = torch.cdist(queries, member, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1, keepdim=True)
        low, high = points.amin(dim=1), points.amax(dim=1)
        square = queries.new_zeros(())
        for axis in range(queries.shape[1]):
            z = queries[:, axis, None]
            square = square + torch.maximum(low[:, axis] - z, z - high[:, axis]).clamp_min(0).square()
        slack = 1e-5 * (nearest.square() + high.abs().max() ** 2)
        return ~(square > nearest.square() + spread + slack)
