"""The ground truth of the core tier: a mixture without any symmetry in which a sign error could hide."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture


def _covariance(angle: float, major: float, minor: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    axes = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return axes @ torch.diag(torch.tensor([major, minor], dtype=torch.float64) ** 2) @ axes.T


@pytest.fixture(scope="session")
def mixture() -> GaussianMixture:
    """Four anisotropic Gaussians in the plane, of weights .5 to .05 and widths .02 to .6; float64."""
    return GaussianMixture(
        weights=torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64),
        means=torch.tensor([[0.0, 0.0], [1.1, 0.4], [-0.6, 1.0], [0.3, -1.2]], dtype=torch.float64),
        covariances=torch.stack(
            [
                _covariance(0.3, 0.4, 0.05),
                _covariance(1.2, 0.25, 0.1),
                _covariance(2.0, 0.15, 0.02),
                _covariance(0, 0.6, 0.3),
            ]
        ),
    )


@pytest.fixture(scope="session")
def points() -> Tensor:
    """Five points on the flanks of the mixture, none of them a mode: (5, 2), float64."""
    return torch.tensor([[0.3, 0.2], [0.9, 0.1], [-0.55, 0.8], [0.6, -0.8], [-0.3, 0.25]], dtype=torch.float64)
