"""Eight round Gaussians on a circle: as many modes, known beforehand."""

from __future__ import annotations

import math

import torch

from ...densities import GaussianMixture
from .density import Density

COUNT, RADIUS, WIDTH = 8, 1.0, 0.05


def make_ring() -> Density:
    """The density, of one class, "all"."""
    angle = 2 * math.pi * torch.arange(COUNT, dtype=torch.float64) / COUNT
    means = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    covariances = (WIDTH**2 * torch.eye(2, dtype=torch.float64)).repeat(COUNT, 1, 1)
    weights = torch.full((COUNT,), 1 / COUNT, dtype=torch.float64)
    return Density("ring", {"all": GaussianMixture(weights, means, covariances)})
