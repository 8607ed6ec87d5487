"""The ground truth of the core tier: a mixture without any symmetry in which a sign error could hide."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser


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
def smooth(mixture: GaussianMixture) -> GaussianMixture:
    """The mixture without its .02-wide ridges, which explicit steps cannot follow: noise of .2 added."""
    return GaussianMixture(mixture.weights, mixture.means, mixture.covariances + 0.04 * torch.eye(2))


@pytest.fixture(scope="session")
def prompted(smooth: GaussianMixture) -> GuidedDenoiser:
    """Two conditions: two of the smooth mixture's components as the prompt, all of them without one; cfg 3."""
    some = smooth.weights[:2] / smooth.weights[:2].sum()
    return GuidedDenoiser(GaussianMixture(some, smooth.means[:2], smooth.covariances[:2]), smooth, 3.0)


@pytest.fixture(scope="session")
def points() -> Tensor:
    """Five points on the flanks of the mixture, none of them a mode: (5, 2), float64."""
    return torch.tensor([[0.3, 0.2], [0.9, 0.1], [-0.55, 0.8], [0.6, -0.8], [-0.3, 0.25]], dtype=torch.float64)
