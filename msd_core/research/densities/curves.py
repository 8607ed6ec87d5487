"""Mixtures that follow a curve: Gaussians along it, each as long as its distance to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from ...densities import GaussianMixture

OVERLAP = 0.7
"""Standard deviation along the curve, as a fraction of the distance between two centres: the ridge is level to .1 %."""


def oriented(directions: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Covariances (K, 2, 2) with standard deviation ``along`` a direction (K, 2) and ``across`` it, each (K,)."""
    u = directions / directions.norm(dim=1, keepdim=True)
    normal = torch.stack([-u[:, 1], u[:, 0]], dim=1)
    parts = ((u, along), (normal, across))
    return sum((s[:, None, None] ** 2 * v[:, :, None] * v[:, None, :] for v, s in parts), torch.zeros(()))


def along_curve(points: Tensor, width: Tensor, weights: Tensor) -> GaussianMixture:
    """A filament through ``points``: a Gaussian between every two neighbours, turned along the curve.

    Args:
        points: along the curve, close together, (K + 1, 2).
        width: standard deviation across it, (K,).
        weights: of the pieces, (K,), before they are brought to sum 1.
    """
    steps = points[1:] - points[:-1]
    covariances = oriented(steps, OVERLAP * steps.norm(dim=1), width)
    return GaussianMixture(weights / weights.sum(), (points[1:] + points[:-1]) / 2, covariances)
