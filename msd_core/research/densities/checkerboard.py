"""A checkerboard: the eight dark squares of a 4 x 4 board over [-1, 1]^2, each nearly even, with soft edges."""

from __future__ import annotations

import torch

from ...densities import GaussianMixture
from .density import Density

SIDE, GRID = 4, 6
OVERLAP = 0.5
"""Standard deviation of a Gaussian, as a fraction of the distance between two: even inside to 2 %."""


def make_checkerboard() -> Density:
    """The density, of one class, "all"."""
    square, spacing = 2 / SIDE, 2 / SIDE / GRID
    offsets = (torch.arange(GRID, dtype=torch.float64) + 0.5) * spacing
    inside = torch.cartesian_prod(offsets, offsets)
    corners = [(i * square - 1, j * square - 1) for i in range(SIDE) for j in range(SIDE) if (i + j) % 2 == 0]
    means = torch.cat([inside + torch.tensor(corner, dtype=torch.float64) for corner in corners])
    covariances = ((OVERLAP * spacing) ** 2 * torch.eye(2, dtype=torch.float64)).repeat(len(means), 1, 1)
    weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
    return Density("checkerboard", {"all": GaussianMixture(weights, means, covariances)})
