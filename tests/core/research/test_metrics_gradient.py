"""Bias, variance and efficiency of estimators whose distribution is known, and angles."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, mean_shift

pytest.importorskip("scipy")

from msd_core.research.metrics import angle, efficiency, fit_scale, gradient_error  # noqa: E402

pytestmark = pytest.mark.core
TRUTH = torch.tensor([[0.4, -0.1], [0.2, 0.3], [-0.5, 0.2]], dtype=torch.float64)
BIAS = torch.tensor([[0.05, 0.0], [0.0, 0.0], [-0.1, 0.2]], dtype=torch.float64)
SPREAD = torch.tensor([[0.3, 0.1], [0.2, 0.2], [0.5, 0.4]], dtype=torch.float64)


def known_draws(n: int, seed: int = 0, repeat: int = 1) -> Tensor:
    """Draws (n, 3 repeat, 2) of N(TRUTH + BIAS, SPREAD^2)."""
    centre, spread = (TRUTH + BIAS).repeat(repeat, 1), SPREAD.repeat(repeat, 1)
    noise = torch.randn(n, *centre.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return centre + spread * noise


def assert_unbiased(bias2: Callable[[Tensor, Tensor], Tensor], variance: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Averages over 20,000 repetitions of 4 draws, within 4 standard errors of bias^2 and variance of `known_draws`."""
    repeat = 20_000
    draws, truth = known_draws(4, repeat=repeat), TRUTH.repeat(repeat, 1)
    for estimate, expected in ((bias2, BIAS.square()), (variance, SPREAD.square())):
        values = estimate(draws, truth).reshape(repeat, 3)
        error = (values.mean(dim=0) - expected.sum(dim=1)).abs()
        assert bool((error < 4 * values.std(dim=0) / math.sqrt(repeat)).all())


def test_bias_and_variance_are_unbiased() -> None:
    def bias2(g: Tensor, t: Tensor) -> Tensor:
        return gradient_error(g, t, 1).bias2

    def variance(g: Tensor, t: Tensor) -> Tensor:
        return gradient_error(g, t, 1).variance

    assert_unbiased(bias2, variance)
    with pytest.raises(AssertionError):  # without the noise of the mean taken off
        assert_unbiased(lambda g, t: (g.mean(dim=0) - t).square().sum(dim=1), variance)
    with pytest.raises(AssertionError):  # negatives clipped
        assert_unbiased(lambda g, t: bias2(g, t).clamp(min=0), variance)
    with pytest.raises(AssertionError):  # divided by N
        assert_unbiased(bias2, lambda g, t: g.var(dim=0, correction=0).sum(dim=1))


def test_the_halves_add_up_to_the_mean_square() -> None:
    draws = known_draws(7)
    error = gradient_error(draws, TRUTH, 12)
    torch.testing.assert_close(error.mse, (draws - TRUTH).square().sum(dim=2).mean(dim=0))
    torch.testing.assert_close(error.signal, TRUTH.square().sum(dim=1))
    assert (error.evaluations, error.draws) == (12, 7)
    scaled = gradient_error(draws, 3 * TRUTH, 12, scale=3.0)
    torch.testing.assert_close(scaled.bias2, 9 * error.bias2)
    torch.testing.assert_close(scaled.variance, 9 * error.variance)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(gradient_error(draws[:, order], TRUTH[order], 1).bias2, error.bias2[order])


def test_by_hand() -> None:
    """Two draws (3, 0) and (5, 0) against (3, 0): mean 4, variance 2, |m - t|^2 = 1, less 2 / 2."""
    draws, truth = torch.tensor([[[3.0, 0.0]], [[5.0, 0.0]]]), torch.tensor([[3.0, 0.0]])
    error = gradient_error(draws, truth, 5)
    assert [float(v) for v in (error.bias2, error.variance, error.mse, error.signal)] == [0, 2, 2, 9]
    assert float(error.own_signal) == 15
    assert efficiency(draws, 5) == pytest.approx(math.log(15 / (2 * 5)))
    assert efficiency(draws, 5, truth=truth, reference="truth") == pytest.approx(math.log(9 / (2 * 5)))
    assert fit_scale(draws, truth) == pytest.approx(12 / 15)


def test_efficiency_of_several_points() -> None:
    """Ratios 15/2 and 60/2 at two points: ln of their mean, or mean of their ln."""
    draws = torch.tensor([[[3.0, 0.0], [0.0, 7.0]], [[5.0, 0.0], [0.0, 9.0]]])
    ratios = [15 / 2, (64 - 1) / 2]
    assert efficiency(draws, 1) == pytest.approx(math.log(sum(ratios) / 2))
    assert efficiency(draws, 1, average="logarithm") == pytest.approx(sum(map(math.log, ratios)) / 2)
    assert efficiency(torch.ones(4, 2, 2), 1) == math.inf


def test_efficiency_converges_and_scales() -> None:
    draws = known_draws(4000)
    own = (TRUTH + BIAS).square().sum(dim=1) / SPREAD.square().sum(dim=1)
    true = TRUTH.square().sum(dim=1) / (SPREAD.square() + BIAS.square()).sum(dim=1)
    assert efficiency(draws, 1) == pytest.approx(math.log(float(own.mean())), abs=0.1)
    assert efficiency(draws, 1, truth=TRUTH, reference="truth") == pytest.approx(math.log(float(true.mean())), abs=0.1)
    assert efficiency(draws, 8) == pytest.approx(efficiency(draws, 1) - math.log(8))
    assert efficiency(1e3 * draws, 1) == pytest.approx(efficiency(draws, 1))
    assert efficiency(-draws, 1) == pytest.approx(efficiency(draws, 1))  # blind to bias, even of sign
    assert efficiency(-draws, 1, truth=TRUTH, reference="truth") < efficiency(draws, 1, truth=TRUTH, reference="truth")
    averaged = draws.reshape(10, 400, 3, 2).mean(dim=0)  # 10 draws at 10 times the cost: equally efficient
    assert efficiency(averaged, 10) == pytest.approx(efficiency(draws, 1), abs=0.3)


def assert_scale(fit: Callable[[Tensor, Tensor], float]) -> None:
    """12 draws of 40 times the truth at each of 30,000 points, in noise three times as large; the bound is 3 errors."""
    truth = TRUTH.repeat(10_000, 1)
    noise = torch.randn(12, *truth.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert fit(40 * truth + 40 * noise, truth) == pytest.approx(1 / 40, rel=0.03)


def test_fit_scale() -> None:
    assert_scale(fit_scale)
    with pytest.raises(AssertionError):

        def attenuated(g: Tensor, t: Tensor) -> float:
            return float((g.mean(dim=0) * t).sum() / g.mean(dim=0).square().sum())

        assert_scale(attenuated)
    draws = known_draws(50)
    best = fit_scale(draws, TRUTH)
    errors = [float(gradient_error(draws, TRUTH, 1, scale=best * c).bias2.sum()) for c in (0.98, 1.0, 1.02)]
    assert errors[1] == min(errors)
    assert fit_scale(7 * draws, TRUTH) == pytest.approx(best / 7)


def test_angle() -> None:
    g = torch.tensor([[1.0, 0], [1, 0], [1, 0], [2, 2], [1, 1e-9], [0, 0]], dtype=torch.float64)
    t = torch.tensor([[3.0, 0], [0, -2], [-5, 0], [1, 0], [1, 0], [1, 0]], dtype=torch.float64)
    expected = torch.tensor([0, 90, 180, 45, math.degrees(1e-9), math.nan], dtype=torch.float64)
    torch.testing.assert_close(angle(g, t), expected, rtol=1e-6, atol=1e-14, equal_nan=True)
    torch.testing.assert_close(angle(t, 7 * g), expected, rtol=1e-6, atol=1e-14, equal_nan=True)
    assert angle(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)).tolist() == [0, 0]
    with pytest.raises(AssertionError):  # the cosine alone loses small angles
        cosine = torch.cosine_similarity(g, t).clamp(-1, 1).acos().rad2deg()
        torch.testing.assert_close(cosine[:5], expected[:5], rtol=1e-6, atol=1e-14)


def test_on_the_mean_shift_of_a_mixture(mixture: GaussianMixture, points: Tensor) -> None:
    """Draws from the product density itself: no bias, and variance tr Cov of the product, in closed form."""
    bandwidth, n = 0.4, 3000
    products = [mixture.product(x, bandwidth) for x in points]
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([p.sample(n, rng=generator) for p in products], dim=1) - points
    truth = bandwidth**2 * mixture.score(points, bandwidth)
    error = gradient_error(draws, truth, 1)
    noise = (error.variance / n).sqrt()
    assert bool((error.bias2.abs() < 4 * noise**2 + 4 * noise * error.bias2.abs().sqrt()).all())
    for i, p in enumerate(products):
        second = p.weights @ (p.covariances.diagonal(dim1=1, dim2=2).sum(dim=1) + p.means.square().sum(dim=1))
        trace = float(second - p.mean().square().sum())
        assert float(error.variance[i]) == pytest.approx(trace, rel=0.12)
    smoothed, _ = mean_shift(points, mixture, bandwidth, estimator="one-step")
    assert float(angle(smoothed - points, truth).max()) < 1e-5


def test_wrong_input() -> None:
    draws = known_draws(5)
    for bad in (draws[0], draws[:1], draws[:, :2], draws[:, :, :1], torch.zeros(5, 0, 2)):
        with pytest.raises(ValueError, match="^draws: got shape"):
            gradient_error(bad, TRUTH, 1)
    with pytest.raises(ValueError, match="^draws: got entries that are not finite"):
        gradient_error(draws / 0, TRUTH, 1)
    with pytest.raises(ValueError, match="^evaluations: got 0"):
        efficiency(draws, 0)
    with pytest.raises(ValueError, match="^scale: got -1"):
        gradient_error(draws, TRUTH, 1, scale=-1.0)
    with pytest.raises(ValueError, match="^truth: got None"):
        efficiency(draws, 1, reference="truth")
    with pytest.raises(ValueError, match="^reference: got 'mean'"):
        efficiency(draws, 1, reference="mean")
    with pytest.raises(ValueError, match="^average: got 'median'"):
        efficiency(draws, 1, average="median")
    with pytest.raises(ValueError, match="Check the sign"):
        fit_scale(-draws, TRUTH)
    with pytest.raises(ValueError, match="Draw more"):  # mean 0: the unbiased signal is below 0
        efficiency(torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]]), 1)
    with pytest.raises(ValueError, match="^truth: got shape"):
        angle(TRUTH, TRUTH[:2])
