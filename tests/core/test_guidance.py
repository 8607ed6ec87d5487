"""Guidance is the affine combination of two denoisers, in ComfyUI's convention, and costs what it evaluates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser, cost, eps, sigma_range

pytestmark = pytest.mark.core


def refuse(z: Tensor, sigma: float | Tensor) -> Tensor:
    raise AssertionError("must not be called")


@pytest.fixture
def uncond(mixture: GaussianMixture) -> GaussianMixture:
    """A wider density than the mixture."""
    return GaussianMixture(torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2).double()[None])


@pytest.mark.parametrize("cfg", [0.0, 1.0, 2.0, 7.5, -7.5])
def test_closed_form(cfg: float, mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, uncond, cfg)
    # The paper's Eq. 13 in w = cfg - 1, on predicted noise.
    w = cfg - 1
    cond_eps, uncond_eps = (eps(points, 0.5, d(points, 0.5)) for d in (mixture, uncond))
    truth = (1 + w) * cond_eps - w * uncond_eps
    torch.testing.assert_close(eps(points, 0.5, guided(points, 0.5)), truth, rtol=1e-10, atol=1e-10)


def test_swapped_arguments_are_noticed(mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    right, wrong = GuidedDenoiser(mixture, uncond, 3.0), GuidedDenoiser(uncond, mixture, 3.0)
    assert (right(points, 0.5) - wrong(points, 0.5)).abs().max() > 0.1


def test_one_is_off_and_costs_nothing(mixture: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, refuse)
    assert torch.equal(guided(points, 0.5), mixture(points, 0.5))
    assert cost(guided) == 1
    assert cost(guided.with_cfg(2.0)) == 2
    assert cost(GuidedDenoiser(guided.with_cfg(2.0), mixture, 3.0)) == 3


def test_with_cfg_leaves_the_original_alone(mixture: GaussianMixture, uncond: GaussianMixture) -> None:
    guided = GuidedDenoiser(mixture, uncond, 7.5)
    assert guided.with_cfg(-7.5) == GuidedDenoiser(mixture, uncond, -7.5)
    assert guided.cfg == 7.5


def test_a_batch_is_its_rows(mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, uncond, 4.0)
    rows = torch.cat([guided(row[None], 0.3) for row in points])
    torch.testing.assert_close(guided(points, 0.3), rows, rtol=1e-10, atol=1e-12)


def test_gradients_reach_both(mixture: GaussianMixture, uncond: GaussianMixture, points: Tensor) -> None:
    guided = GuidedDenoiser(mixture, uncond, 4.0)
    assert torch.autograd.gradcheck(lambda z: guided(z, 0.4), points.clone().requires_grad_())


def test_levels_are_those_both_know(mixture: GaussianMixture) -> None:
    class Ranged:
        def __init__(self, low: float, high: float) -> None:
            self.sigma_min, self.sigma_max = low, high

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return z

    assert sigma_range(GuidedDenoiser(Ranged(0.1, 10.0), Ranged(0.2, 20.0), 2.0)) == (0.2, 10.0)
    assert sigma_range(GuidedDenoiser(mixture, mixture)) == (0.0, math.inf)


@pytest.mark.parametrize("cfg", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_refused(cfg: float, mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="cfg: got .* 1 = off"):
        GuidedDenoiser(mixture, mixture, cfg)
