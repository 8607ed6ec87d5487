"""Which modes of a density a set of points has reached, and how far each point is from its nearest mode.

The modes come from the caller (`densities.modes.find_modes`), and so does the radius that counts as reached: the answer
depends on it, so state it with the result. scipy's KDTree finds the neighbours.
"""

from __future__ import annotations

import torch
from scipy.spatial import KDTree
from torch import Tensor

from ...validation import check_positive
from .points import check_points


def distance_to_nearest(points: Tensor, modes: Tensor) -> Tensor:
    """Euclidean distance of each point to its nearest mode, shape (N,), float64.

    Args:
        points: shape (N, D).
        modes: shape (M, D).

    Raises:
        ValueError: for shapes that do not fit, or rows that are not finite.
    """
    rows = check_points("points", points)
    places = check_points("modes", modes, dimension=rows.shape[1])
    distances, _ = KDTree(places.numpy()).query(rows.numpy())
    return torch.from_numpy(distances)


def modes_reached(points: Tensor, modes: Tensor, radius: float) -> float:
    """Share of the modes that have at least one point within ``radius``, in 0..1.

    Args:
        points: shape (N, D).
        modes: shape (M, D).
        radius: largest distance that counts as reached, > 0, in units of the points.

    Raises:
        ValueError: for shapes that do not fit, rows that are not finite, or a radius that is not positive.
    """
    check_positive("radius", radius)
    check_points("points", points)
    return float((distance_to_nearest(modes, points) <= float(radius)).double().mean())
