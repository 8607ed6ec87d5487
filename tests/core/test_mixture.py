"""The mixture against independent forms: torch.distributions, autograd, quadrature on a grid, its own samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from msd_core import GaussianMixture

pytestmark = pytest.mark.core


def reference(mixture: GaussianMixture, sigma: float) -> MixtureSameFamily:
    noised = mixture.covariances + sigma**2 * torch.eye(2, dtype=torch.float64)
    return MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(mixture.means, noised))


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.3, 5.0])
def test_density(sigma: float, mixture: GaussianMixture, points: Tensor) -> None:
    truth = reference(mixture, sigma).log_prob(points)
    torch.testing.assert_close(mixture.log_prob(points, sigma), truth, rtol=1e-9, atol=1e-9)


def assert_score(score: Callable[[Tensor, float], Tensor], mixture: GaussianMixture, points: Tensor) -> None:
    for sigma in (0.0, 0.01, 0.3, 5.0):
        z = points.clone().requires_grad_()
        (truth,) = torch.autograd.grad(reference(mixture, sigma).log_prob(z).sum(), z)
        torch.testing.assert_close(score(points, sigma), truth, rtol=1e-8, atol=1e-8)


def test_score_is_the_gradient_of_the_density(mixture: GaussianMixture, points: Tensor) -> None:
    assert_score(mixture.score, mixture, points)
    with pytest.raises(AssertionError):
        assert_score(lambda z, sigma: -mixture.score(z, sigma), mixture, points)


def test_the_box_holds_every_component_and_no_more(mixture: GaussianMixture) -> None:
    low, high = mixture.box(3.0)
    inside = mixture.sample(20_000, rng=torch.Generator().manual_seed(2)).double()
    assert float(((inside > low) & (inside < high)).all(dim=1).double().mean()) > 0.99
    deviations = mixture.covariances.diagonal(dim1=1, dim2=2).sqrt()
    for corner, sign in ((low, -1), (high, 1)):
        gaps = (sign * (corner - mixture.means) / deviations).amin(dim=0)
        torch.testing.assert_close(gaps, torch.full_like(gaps, 3.0))


def quadrature(mixture: GaussianMixture, log_weight: Callable[[Tensor], Tensor]) -> Tensor:
    """E[y] under ``p(y) exp(log_weight(y))``, summed over a fine grid of the plane."""
    axis = torch.arange(-4, 4, 0.01, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    return (reference(mixture, 0).log_prob(grid) + log_weight(grid)).softmax(dim=0) @ grid


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_denoiser_is_the_posterior_mean(sigma: float, mixture: GaussianMixture, points: Tensor) -> None:
    z = points[4] * (1 + sigma)
    truth = quadrature(mixture, lambda y: -(y - z).square().sum(dim=1) / (2 * sigma**2))
    torch.testing.assert_close(mixture.denoise(z[None], sigma)[0], truth, rtol=1e-5, atol=1e-6)


def test_denoiser_is_score_and_callable(mixture: GaussianMixture, points: Tensor) -> None:
    sigma = torch.tensor([5.0, 1.0, 0.3, 0.1, 0.01], dtype=torch.float64)
    tweedie = points + sigma[:, None] ** 2 * mixture.score(points, sigma)
    torch.testing.assert_close(mixture.denoise(points, sigma), tweedie, rtol=1e-10, atol=1e-12)
    assert torch.equal(mixture(points, sigma), mixture.denoise(points, sigma))


def test_denoiser_at_both_ends(mixture: GaussianMixture, points: Tensor) -> None:
    torch.testing.assert_close(mixture(points, 0.0), points)
    torch.testing.assert_close(mixture(points, 1e7), mixture.mean().expand(5, 2), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mixture.mean(), mixture.weights @ mixture.means)


@pytest.mark.parametrize("bandwidth", [1.0, 0.3, 0.1])
def test_product(bandwidth: float, mixture: GaussianMixture, points: Tensor) -> None:
    """Density up to a constant, mean by quadrature, and the mean-shift identity lambda^2 score = mean - x."""
    x = points[4]
    product = mixture.product(x, bandwidth)
    kernel = MultivariateNormal(x, bandwidth**2 * torch.eye(2, dtype=torch.float64)).log_prob
    constant = product.log_prob(points) - (mixture.log_prob(points) + kernel(points))
    torch.testing.assert_close(constant, constant[:1].expand(5), rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(product.mean(), quadrature(mixture, kernel), rtol=1e-5, atol=1e-6)
    shift = bandwidth**2 * mixture.score(x[None], bandwidth)[0]
    torch.testing.assert_close(product.mean() - x, shift, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(mixture.product(x[None], bandwidth).means, product.means)


def test_samples_have_its_moments(mixture: GaussianMixture) -> None:
    n = 50_000
    y = mixture.sample(n, rng=torch.Generator().manual_seed(0))
    error = (y.mean(dim=0) - mixture.mean()).abs()
    assert bool((error < 4 * y.std(dim=0) / math.sqrt(n)).all())
    offsets = mixture.means - mixture.mean()
    second = mixture.covariances + offsets[:, :, None] * offsets[:, None, :]
    covariance = (mixture.weights[:, None, None] * second).sum(dim=0)
    deviations = y - mixture.mean()
    products = deviations[:, :, None] * deviations[:, None, :]
    error = (products.mean(dim=0) - covariance).abs()
    assert bool((error < 4 * products.std(dim=0) / math.sqrt(n)).all())
    assert torch.equal(y, mixture.sample(n, rng=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("method", ["score", "denoise", "log_prob"])
def test_a_batch_is_its_rows(method: str, mixture: GaussianMixture, points: Tensor) -> None:
    sigma = torch.tensor([5.0, 1.0, 0.3, 0.1, 0.01], dtype=torch.float64)
    function = getattr(mixture, method)
    rows = torch.cat([function(points[i : i + 1], float(sigma[i])) for i in range(5)])
    torch.testing.assert_close(function(points, sigma), rows, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["score", "denoise", "log_prob"])
def test_gradients(method: str, mixture: GaussianMixture, points: Tensor) -> None:
    function = getattr(mixture, method)
    assert torch.autograd.gradcheck(lambda z: function(z, 0.4), points.clone().requires_grad_())


def test_rows_of_any_shape_and_precision(mixture: GaussianMixture, points: Tensor) -> None:
    shaped = points.reshape(5, 1, 2, 1)
    torch.testing.assert_close(mixture(shaped, 0.3), mixture(points, 0.3).reshape(5, 1, 2, 1))
    single = GaussianMixture(mixture.weights.float(), mixture.means.float(), mixture.covariances.float())
    assert single(points.float(), 0.01).dtype == torch.float32
    torch.testing.assert_close(single(points.float(), 0.01).double(), mixture(points, 0.01), rtol=1e-4, atol=1e-4)
    assert single.sample(3, rng=torch.Generator()).dtype == torch.float32


def test_nearly_singular_components_and_far_points_stay_exact() -> None:
    """A needle 10^-6 wide, asked 10^3 away, where every component's density underflows."""
    needle = torch.tensor([[1.0, 0.0], [0.0, 1e-12]], dtype=torch.float64)
    mixture = GaussianMixture(torch.tensor([0.3, 0.7]), torch.tensor([[0.0, 0.0], [0.0, 1.0]]), needle.expand(2, 2, 2))
    z = torch.tensor([[1e3, 1e3]], dtype=torch.float64)
    torch.testing.assert_close(mixture(z, 1.0), torch.tensor([[500.0, 1.0]], dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert bool(torch.isfinite(mixture.score(z, 0.0)).all())


def test_a_component_without_weight_changes_nothing(mixture: GaussianMixture, points: Tensor) -> None:
    weights = torch.cat([mixture.weights, torch.zeros(1).double()])
    more = GaussianMixture(weights, mixture.means[[0, 1, 2, 3, 0]], mixture.covariances[[0, 1, 2, 3, 0]])
    torch.testing.assert_close(more(points, 0.3), mixture(points, 0.3))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("weights", lambda w: w[:3], "weights: got shape"),
        ("weights", lambda w: 2 * w, "weights: got .* sum 1"),
        ("weights", lambda w: w - torch.tensor([0.1, -0.1, 0.0, 0.0]) * 6, "weights: got .* >= 0"),
        ("means", lambda m: m[:, 0], "weights: got shape|means: got shape"),
        ("means", lambda m: m * math.nan, "means: got shape .* not finite"),
        ("covariances", lambda c: c[:, 0], "covariances: got shape"),
        ("covariances", lambda c: -c, "covariances: got smallest eigenvalue"),
        ("covariances", lambda c: c + torch.tensor([[0.0, 0.1], [0.0, 0.0]]), "covariances: got .* asymmetry"),
    ],
)
def test_wrong_arguments_are_refused(name: str, change: Callable, message: str, mixture: GaussianMixture) -> None:
    arguments = {key: getattr(mixture, key) for key in ("weights", "means", "covariances")}
    arguments[name] = change(arguments[name])
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**arguments)


def test_wrong_points_are_refused(mixture: GaussianMixture, points: Tensor) -> None:
    with pytest.raises(ValueError, match=r"z: got 3 numbers per row, shape \(4, 3\); allowed are 2"):
        mixture(torch.zeros(4, 3), 0.5)
    with pytest.raises(ValueError, match="x: got shape .* one point of 2 numbers"):
        mixture.product(points, 0.5)
    with pytest.raises(ValueError, match="bandwidth: got -1"):
        mixture.product(points[0], -1)
    with pytest.raises(ValueError, match="n: got 0"):
        mixture.sample(0, rng=torch.Generator())


def test_the_digest_is_that_of_the_parameters(mixture: GaussianMixture) -> None:
    same = GaussianMixture(mixture.weights.clone(), mixture.means.clone(), mixture.covariances.clone())
    moved = GaussianMixture(mixture.weights, mixture.means + 1e-12, mixture.covariances)
    assert mixture.digest() == same.digest() != moved.digest()
