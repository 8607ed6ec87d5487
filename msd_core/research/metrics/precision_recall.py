"""Improved precision and recall of two sets of points (Kynkaanniemi et al. 2019, Algorithm 1).

Each set stands for its manifold: the union of the closed balls around its points c that reach to the k-th nearest other
point of the same set,

    manifold(C) = {x : |x - c| <= r_k(c) for some c in C}.

Precision is the share of the generated points inside the reference's manifold, recall the share of the reference points
inside the generated one's. A point is not its own neighbour. A point that coincides with k or more others has radius 0;
its ball then holds exactly the points equal to it. So a sample collapsed onto a few modes keeps its precision and has a
recall of nearly 0, as it should. Points near each other but not equal are no special case.

scipy's KDTree finds the neighbours and the points inside each ball. The answer is exact, not that of the nearest
centres only: all points inside every ball are listed. The list is short, because in the plane a point lies in at most
6 k + 1 balls of this kind, whatever the two sets are, with the huge balls of far outliers: that at its own place, and
those of at most k centres in each sector of 60 degrees around it (a further centre has these k nearer to it than the
point). Equal points are merged first.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from ...validation import as_floating, check_count
from .points import check_points

_CHUNK = 4096  # balls at a time


def precision_recall(generated: Tensor, reference: Tensor, k: int = 3) -> tuple[float, float]:
    """Precision and recall of ``generated``, each in 0..1.

    Both depend on the sizes of the sets: compare only values of the same sizes. Two samples of one density do not give
    1: the balls miss the sparse rim (about .97 for 10^4 points in the plane and k = 3).

    Args:
        generated: shape (N, D), N > k.
        reference: samples of the truth, shape (M, D), M > k; best M = N.
        k: which neighbour's distance is the radius; 3 as in the paper.

    Raises:
        ValueError: for shapes that do not fit, too few points, rows that are not finite, or a k below 1.
    """
    check_count("k", k)
    fake = check_points("generated", generated, minimum=k + 1)
    true = check_points("reference", reference, minimum=k + 1, dimension=fake.shape[1])
    precision = covered(fake, true, radii(true, k))
    recall = covered(true, fake, radii(fake, k))
    return float(precision.double().mean()), float(recall.double().mean())


def radii(points: Tensor, k: int = 3) -> Tensor:
    """Distance of each point to its k-th nearest other point, shape (N,), float64.

    Args:
        points: shape (N, D), N > k; equal points are neighbours at distance 0.
        k: which neighbour, counted from 1 without the point itself.

    Raises:
        ValueError: for another shape, k or fewer points, rows that are not finite, or a k below 1.
    """
    check_count("k", k)
    rows = check_points("points", points, minimum=k + 1).numpy()
    places, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    wanted = min(k + 1, len(places))  # the nearest one is the place itself
    distances, found = (np.reshape(answer, (-1, wanted)) for answer in KDTree(places).query(places, k=wanted))
    enough = np.cumsum(counts[found], axis=1) >= k + 1  # points within this distance, the point itself included
    chosen = np.take_along_axis(distances, enough.argmax(axis=1)[:, None], axis=1)[:, 0]
    return torch.from_numpy(chosen[inverse.reshape(-1)])


def covered(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Whether each point is inside at least one closed ball, bool of shape (N,).

    Fast for the radii of `radii`; correct for any, in memory proportional to the pairs of a ball and a point in it.

    Args:
        points: shape (N, D).
        centres: of the balls, shape (M, D).
        radii: of the balls, shape (M,), at least 0.

    Raises:
        ValueError: for shapes that do not fit, entries that are not finite, or negative radii.
    """
    queries = check_points("points", points).numpy()
    balls = check_points("centres", centres, dimension=queries.shape[1]).numpy()
    radii = as_floating("radii", radii)
    if tuple(radii.shape) != (len(balls),) or not bool((torch.isfinite(radii) & (radii >= 0)).all()):
        raise ValueError(
            f"radii: got shape {tuple(radii.shape)}, smallest {float(radii.min()) if radii.numel() else None}; allowed "
            f"are {len(balls)} finite numbers >= 0, one a centre. Take them from `radii`."
        )
    places, inverse = np.unique(queries, axis=0, return_inverse=True)
    balls, reach = _distinct(balls, radii.detach().double().cpu().numpy())
    inside = np.zeros(len(places), dtype=bool)
    tree = KDTree(places)
    for start in range(0, len(balls), _CHUNK):
        part = slice(start, start + _CHUNK)
        for found in tree.query_ball_point(balls[part], reach[part]):
            inside[found] = True
    return torch.from_numpy(inside[inverse.reshape(-1)])


def _distinct(balls: NDArray[np.float64], reach: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """The largest ball at each place."""
    places, inverse = np.unique(balls, axis=0, return_inverse=True)
    largest = np.zeros(len(places))
    np.maximum.at(largest, inverse.reshape(-1), reach)
    return places, largest
