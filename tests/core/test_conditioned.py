"""A mixture after a measurement, against the formulas of the noisy point and of the denoiser of anisotropic noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, ProductDenoiser, ddim_sample, sigma_schedule
from msd_core.densities import conditioned

pytestmark = pytest.mark.core
D, NOISE = 3, 0.3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(components: int = 3) -> GaussianMixture:
    """Asymmetric, with covariances that commute neither with each other nor with A."""
    parts = random(components, D, D, seed=2)
    covariances = 0.05 * parts @ parts.mT + 0.05 * torch.eye(D)
    weights = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)[:components]
    return GaussianMixture(weights / weights.sum(), random(components, D, seed=3), covariances)


A, B = random(2, D, seed=4), 0.4 * random(2, seed=5)


def anisotropic(p: GaussianMixture, mu: Tensor, spread: Tensor) -> Tensor:
    """D(mu; S): the denoiser for noise of the covariance S."""
    joint = p.covariances + spread
    seen = torch.distributions.MultivariateNormal(p.means, joint).log_prob(mu) + p.weights.log()
    means = p.means + (p.covariances @ torch.linalg.solve(joint, (mu - p.means)[..., None]))[..., 0]
    return seen.softmax(0) @ means


def shares(p: GaussianMixture, x: Tensor) -> Tensor:
    """Mean responsibilities of the components for the points x."""
    normals = [torch.distributions.MultivariateNormal(*pair).log_prob(x) for pair in zip(p.means, p.covariances)]  # noqa: B905
    return (torch.stack(normals, dim=1) + p.weights.log()).softmax(dim=1).mean(dim=0)


def covariance_of(p: GaussianMixture) -> Tensor:
    apart = p.means - p.mean()
    return torch.einsum("k,kij->ij", p.weights, p.covariances + apart[:, :, None] * apart[:, None, :])


def posterior_mean(z: Tensor, sigma: float, x: Tensor | None = None, width: float = 1.0) -> Tensor:
    """The exact statement: D(mu; Lambda^-1), with the kernel at ``x`` if there is one."""
    lam = torch.eye(D).double() / sigma**2 + A.T @ A / NOISE**2
    pulled = z / sigma**2 + A.T @ B / NOISE**2
    if x is not None:
        lam, pulled = lam + torch.eye(D) / width**2, pulled + x / width**2
    inverse = torch.linalg.inv(lam)
    return anisotropic(mixture(), inverse @ pulled, inverse)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
def test_its_denoiser_is_the_anisotropic_one_of_the_prior(sigma: float) -> None:
    """E[y | z, b] = D(mu; Lambda^-1), with and without a kernel at x."""
    posterior, z, x = conditioned(mixture(), A, B, NOISE), random(4, D, seed=6), random(D, seed=7)
    wanted = torch.stack([posterior_mean(row, sigma) for row in z])
    torch.testing.assert_close(posterior(z, sigma), wanted, rtol=1e-10, atol=1e-10)
    near = ProductDenoiser(posterior, x[None], 0.5)(z, sigma)
    wanted = torch.stack([posterior_mean(row, sigma, x, 0.5) for row in z])
    torch.testing.assert_close(near, wanted, rtol=1e-10, atol=1e-10)
    wrong = conditioned(mixture(), A, -B, NOISE)
    assert (wrong(z, sigma) - posterior(z, sigma)).abs().max() > 0.01


def test_from_all_noise_it_is_the_mean_in_one_evaluation() -> None:
    posterior = conditioned(mixture(), A, B, NOISE)
    torch.testing.assert_close(posterior(random(1, D), 1e4)[0], posterior.mean(), rtol=0, atol=1e-4)
    torch.testing.assert_close(posterior_mean(random(D), 1e4), posterior.mean(), rtol=0, atol=1e-4)


def test_nothing_measured_and_all_measured() -> None:
    p, b = mixture(), random(D, seed=8)
    nothing = conditioned(p, torch.zeros(1, D), torch.zeros(1), 1.0)
    torch.testing.assert_close(nothing.means, p.means)
    torch.testing.assert_close(nothing.weights, p.weights)
    everything, product = conditioned(p, torch.eye(D), b, 0.4), p.product(b, 0.4)
    for name in ("weights", "means", "covariances"):
        torch.testing.assert_close(getattr(everything, name), getattr(product, name), rtol=1e-9, atol=1e-12)


def test_the_chain_on_its_denoiser_draws_the_posterior() -> None:
    """Mean, covariance and the modes' weights; those of b with its sign swapped are others."""
    posterior, count = conditioned(mixture(), A, B, NOISE), 4000
    sigmas = sigma_schedule("karras", 60, sigma_min=0.01, sigma_max=30.0).double()
    drawn = ddim_sample(30 * random(count, D, seed=1), posterior, sigmas)
    error = (posterior.weights * (1 - posterior.weights) / count).sqrt()
    assert float(posterior.weights.max()) < 0.9, "or there is nothing to divide"
    assert ((shares(posterior, drawn) - posterior.weights).abs() < 4 * error + 0.005).all()
    torch.testing.assert_close(drawn.mean(0), posterior.mean(), rtol=0, atol=0.04)
    torch.testing.assert_close(torch.cov(drawn.T), covariance_of(posterior), rtol=0.1, atol=0.02)
    swapped = conditioned(mixture(), A, -B, NOISE)
    assert (shares(swapped, drawn) - swapped.weights).abs().max() > 0.05


def test_split_gibbs_at_a_fixed_width_has_the_law_of_a_noisier_measurement() -> None:
    """y ~ p(y) N(y; x, lambda^2), x ~ N(x; y, lambda^2) N(b; A x, s^2): y has the noise s^2 I + lambda^2 A A^T."""
    p, width, count = mixture(), 0.6, 600
    precision = torch.eye(D).double() / width**2 + A.T @ A / NOISE**2
    covariance = torch.linalg.inv(precision)
    root, sigmas = torch.linalg.cholesky(covariance), torch.tensor([3.0, 1.5, 0.8, 0.4, 0.2, 0.1, 0.05, 0.0]).double()
    y, x = p.sample(count, rng=torch.Generator().manual_seed(0)), random(count, D)
    for step in range(80):
        y = ddim_sample(x + 3.0 * random(count, D, seed=100 + step), ProductDenoiser(p, x, width), sigmas)
        mean = (y / width**2 + A.T @ B / NOISE**2) @ covariance
        x = mean + random(count, D, seed=200 + step) @ root.T
    law = _with_noise(p, NOISE**2 * torch.eye(2) + width**2 * A @ A.T)
    torch.testing.assert_close(y.mean(0), law.mean(), rtol=0, atol=0.08)
    torch.testing.assert_close(shares(law, y), law.weights, rtol=0, atol=0.07)
    assert (y.mean(0) - conditioned(p, A, B, NOISE).mean()).norm() > 0.1, "which is not the posterior"


def _with_noise(p: GaussianMixture, noise: Tensor) -> GaussianMixture:
    """`conditioned` for noise of any covariance: whitened first."""
    white = torch.linalg.inv(torch.linalg.cholesky(noise))
    return conditioned(p, white @ A, white @ B, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conditioned(mixture(), A, B, 0.0), "noise: got 0.0"),
        (lambda: conditioned(mixture(), A.T, B, 0.1), r"matrix: got shape \(3, 2\) with a b of 2"),
        (lambda: conditioned(mixture(), A, torch.ones(3), 0.1), "matrix: got shape"),
        (lambda: conditioned("p", A, B, 0.1), "mixture: got 'p'"),  # type: ignore[arg-type]
        (lambda: conditioned(mixture(), A, torch.tensor([[float("nan"), 0.0]]), 0.1), "b: "),
    ],
)
def test_wrong_input(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        call()
