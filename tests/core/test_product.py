"""The moved denoiser is the denoiser of p(y) N(y; x, lambda^2), at every level and to the last digits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, ProductDenoiser, cost, product_denoiser

pytestmark = pytest.mark.core
LEVELS = (1e-6, 0.003, 0.05, 0.4, 3.0, 80.0)


def assert_product(
    make: Callable[[GaussianMixture, Tensor, float], Callable[[Tensor, float], Tensor]],
    mixture: GaussianMixture,
    points: Tensor,
) -> None:
    """``make(mixture, x, bandwidth)`` is the denoiser of the closed-form product, at every level and bandwidth."""
    for bandwidth in (1.0, 0.3, 0.03):
        for x in points:
            truth = mixture.product(x, bandwidth)
            moved = make(mixture, x[None], bandwidth)
            for sigma in LEVELS:
                z = x[None] + math.hypot(sigma, bandwidth) * points
                torch.testing.assert_close(moved(z, sigma), truth(z, sigma), rtol=1e-7, atol=1e-7)


def test_closed_form(mixture: GaussianMixture, points: Tensor) -> None:
    assert_product(product_denoiser, mixture, points)


def wrong_sign(mixture: GaussianMixture, x: Tensor, bandwidth: float) -> Callable[[Tensor, float], Tensor]:
    """The kernel pushes away from x."""
    return product_denoiser(mixture, -x, bandwidth)


def wrong_level(mixture: GaussianMixture, x: Tensor, bandwidth: float) -> Callable[[Tensor, float], Tensor]:
    """The right place, but the level of z itself."""
    return lambda z, sigma: mixture(product_denoiser(mixture, x, bandwidth).to_model(z, sigma)[0], sigma)


def wrong_unit(mixture: GaussianMixture, x: Tensor, bandwidth: float) -> Callable[[Tensor, float], Tensor]:
    """The paper's other kernel, exp(-|x - y|^2 / lambda^2), of standard deviation lambda / sqrt 2."""
    return product_denoiser(mixture, x, bandwidth / math.sqrt(2))


@pytest.mark.parametrize("plant", [wrong_sign, wrong_level, wrong_unit])
def test_planted_errors_fail(plant: Callable, mixture: GaussianMixture, points: Tensor) -> None:
    with pytest.raises(AssertionError):
        assert_product(plant, mixture, points)


def test_limits(mixture: GaussianMixture, points: Tensor) -> None:
    moved = product_denoiser(mixture, points, 0.2)
    z = points.flip(0)
    torch.testing.assert_close(moved(z, 0.0), z)
    torch.testing.assert_close(moved(z, math.inf), mixture(points, 0.2))
    torch.testing.assert_close(moved(points + 1e9 * z, 1e9), mixture(points, 0.2), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(product_denoiser(mixture, points, 1e9)(z, 0.3), mixture(z, 0.3))


@pytest.mark.parametrize("sigma", [1e-20, 1e-6, 1e-3, 1.0, 1e3, 1e9])
@pytest.mark.parametrize("bandwidth", [1e-3, 1.0, 1e6])
def test_float32_keeps_its_digits(sigma: float, bandwidth: float, points: Tensor) -> None:
    z = points.flip(0) * (1 + sigma)
    mu, s = product_denoiser(lambda z, sigma: z, points.float(), bandwidth).to_model(z.float(), sigma)
    weight = bandwidth**2 / (sigma**2 + bandwidth**2)
    torch.testing.assert_close(mu.double(), points + weight * (z - points), rtol=3e-6, atol=1e-7)
    torch.testing.assert_close(s.double(), torch.full((5,), sigma * bandwidth / math.hypot(sigma, bandwidth)).double())


def test_a_batch_is_its_rows(mixture: GaussianMixture, points: Tensor) -> None:
    bandwidth = torch.tensor([1.0, 0.5, 0.3, 0.1, 0.05], dtype=torch.float64)
    sigma = bandwidth.flip(0)
    z = points.flip(0)
    whole = ProductDenoiser(mixture, points, bandwidth)(z, sigma)
    rows = [
        ProductDenoiser(mixture, points[i : i + 1], float(bandwidth[i]))(z[i : i + 1], float(sigma[i]))
        for i in range(5)
    ]
    torch.testing.assert_close(whole, torch.cat(rows), rtol=1e-10, atol=1e-12)


def test_gradients_reach_z_and_x(mixture: GaussianMixture, points: Tensor) -> None:
    z, x = points.flip(0).clone().requires_grad_(), points.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z, x: product_denoiser(mixture, x, 0.3)(z, 0.4), (z, x))


def test_it_costs_what_the_denoiser_costs(points: Tensor) -> None:
    class Double:
        cost = 2

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return z

    assert cost(product_denoiser(Double(), points, 0.3)) == 2


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan, math.inf, torch.tensor([0.1, 0.0])])
def test_a_bandwidth_that_is_not_positive_is_refused(
    bandwidth: float | Tensor, mixture: GaussianMixture, points: Tensor
) -> None:
    with pytest.raises(ValueError, match="bandwidth: got .* finite number > 0"):
        product_denoiser(mixture, points, bandwidth)


def test_shapes_that_do_not_match_are_refused(mixture: GaussianMixture, points: Tensor) -> None:
    with pytest.raises(ValueError, match=r"z: got shape \(4, 2\); allowed is \(B, \*\) that matches x, \(5, 2\)"):
        product_denoiser(mixture, points, 0.3)(points[:4], 0.5)
    with pytest.raises(ValueError, match="x: got torch.int64"):
        product_denoiser(mixture, torch.zeros(2, 2, dtype=torch.int64), 0.3)
