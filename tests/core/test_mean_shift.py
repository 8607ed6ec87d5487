"""The estimators against the closed-form mean shift of an asymmetric mixture.

Two checks are functions, so that planted errors can be sent through them: `assert_unbiased` (within 4 standard errors
of 4,096 draws) and `assert_closed_form` (to 1e-5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import Tensor

from msd_core import (
    ESTIMATORS,
    Exact,
    GaussianMixture,
    IdealDenoiser,
    Info,
    ddim_invert,
    mean_shift,
    product_denoiser,
    sigma_schedule,
)
from msd_core.denoiser import Denoiser
from msd_core.mean_shift import product_sigmas
from msd_core.mean_shift.one_step import OneStep
from msd_core.settings import settings_of

pytestmark = pytest.mark.core
BANDWIDTHS = (1.0, 0.3, 0.1, 0.03)
DRAWS = 4096
Estimate = Callable[..., tuple[Tensor, Info]]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def closed_form(mixture: GaussianMixture, x: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
    """x' (B, 2) and the standard deviation of the product density (B, 2)."""
    means, stds = [], []
    for row in x:
        product = mixture.product(row, bandwidth)
        variance = torch.diagonal(product.covariances, dim1=1, dim2=2) + (product.means - product.mean()) ** 2
        means.append(product.mean())
        stds.append((product.weights @ variance).sqrt())
    return torch.stack(means), torch.stack(stds)


def assert_unbiased(
    estimate: Estimate, denoiser: Denoiser, mixture: GaussianMixture, x: Tensor, bandwidth: float, **options: object
) -> None:
    walk = {"estimator": "exact", "samples": DRAWS, "walk_from": "mean", **options}
    target, _ = estimate(x, denoiser, bandwidth, rng=seeded(), **walk)
    truth, std = closed_form(mixture, x, bandwidth)
    errors = (target - truth).abs() / (std / math.sqrt(DRAWS))
    assert float(errors.nan_to_num(math.inf).max()) < 4


def assert_closed_form(
    estimate: Estimate, denoiser: Denoiser, mixture: GaussianMixture, x: Tensor, bandwidth: float, **options: object
) -> None:
    target, _ = estimate(x, denoiser, bandwidth, estimator="one-step", **options)
    truth, _ = closed_form(mixture, x, bandwidth)
    torch.testing.assert_close(target - x, truth - x, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("options", [{}, {"solver": "heun", "steps": 12}], ids=["default", "heun"])
def test_exact_is_unbiased(bandwidth: float, options: dict, mixture: GaussianMixture, points: Tensor) -> None:
    assert_unbiased(mean_shift, mixture, mixture, points, bandwidth, **options)


def test_exact_is_unbiased_on_given_levels(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 40, sigma_min=0.005, sigma_max=14.6)
    assert_unbiased(mean_shift, mixture, mixture, points, 1.0, sigmas=sigmas, solver="heun")


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_step_is_the_closed_form(
    bandwidth: float, dtype: torch.dtype, mixture: GaussianMixture, points: Tensor
) -> None:
    if dtype == torch.float64:
        assert_closed_form(mean_shift, mixture, mixture, points, bandwidth)
    target, _ = mean_shift(points.to(dtype), mixture, bandwidth, estimator="one-step")
    truth, _ = closed_form(mixture, points, bandwidth)
    torch.testing.assert_close(target.double(), truth, rtol=1e-5, atol=1e-7)


def away(x: Tensor, denoiser: Denoiser, bandwidth: float, **options: object) -> tuple[Tensor, Info]:
    """The estimator with the sign of the mean shift flipped."""
    target, info = mean_shift(x, denoiser, bandwidth, **options)  # type: ignore[arg-type]
    return 2 * x - target, info


def mirrored(x: Tensor, denoiser: Denoiser, bandwidth: float, **options: object) -> tuple[Tensor, Info]:
    """The estimator asked at -x."""
    return mean_shift(-x, denoiser, bandwidth, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("check", [assert_unbiased, assert_closed_form])
@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
def test_planted_sign_errors_fail(
    check: Callable[..., None], bandwidth: float, mixture: GaussianMixture, points: Tensor
) -> None:
    def uphill(z: Tensor, sigma: float | Tensor) -> Tensor:
        """The denoiser with the sign of its score flipped."""
        return 2 * z - mixture(z, sigma)

    for estimate, denoiser in ((away, mixture), (mirrored, mixture), (mean_shift, uphill)):
        with pytest.raises(AssertionError):
            check(estimate, denoiser, mixture, points, bandwidth, steps=6)


def test_a_sign_error_in_the_product_fails(
    monkeypatch: pytest.MonkeyPatch, mixture: GaussianMixture, points: Tensor
) -> None:
    exact = import_module("msd_core.mean_shift.exact")
    monkeypatch.setattr(exact, "product_denoiser", lambda d, x, b: product_denoiser(d, -x, b))
    with pytest.raises(AssertionError):
        assert_unbiased(mean_shift, mixture, mixture, points, 0.3)


@pytest.mark.parametrize("steps", [2, 4, 8, 32])
def test_what_a_start_at_x_leaves(steps: int, points: Tensor) -> None:
    """Of a Gaussian of spread s sin(delta) cos(delta)^steps of m, and nothing where it has none; no mode moves."""
    wide, spread, mean = 1e8, 0.5, torch.tensor([[0.4, -0.2]], dtype=torch.float64)

    def gaussian(z: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma, dtype=z.dtype).reshape(-1, 1)
        scale = torch.tensor([spread, 0.0], dtype=z.dtype) ** 2
        return mean + scale / (scale + level**2) * (z - mean)

    sigmas = product_sigmas(wide, steps, data_std=spread).double()
    drawn = {"estimator": "exact", "sigmas": sigmas, "samples": 2, "antithetic": True, "noise": points.flip(0)[None]}
    target, info = mean_shift(points, gaussian, wide, **drawn)
    delta = math.pi / 2 / (steps + 1)
    left = torch.tensor([math.sin(delta) * math.cos(delta) ** steps, 0.0], dtype=torch.float64)
    torch.testing.assert_close(target - mean, left * (points - mean), rtol=1e-5, atol=1e-7)
    exact, more = mean_shift(points, gaussian, wide, walk_from="mean", **drawn)
    torch.testing.assert_close(exact, mean.expand_as(points), rtol=1e-6, atol=1e-6)
    assert more.evaluations == info.evaluations + len(points)


def test_a_start_at_x_shortens_the_shift(mixture: GaussianMixture) -> None:
    """With 4 steps no part is left longer than .25; in the same direction, towards the same modes."""
    x = spread_points(mixture)
    for bandwidth in BANDWIDTHS:
        truth, _ = closed_form(mixture, x, bandwidth)
        options = {"estimator": "exact", "steps": 4, "samples": 2048, "antithetic": True}
        target, _ = mean_shift(x, mixture, bandwidth, rng=seeded(), **options)
        moved = ((target - x) * (truth - x)).sum() / (truth - x).square().sum()
        assert 0.74 < float(moved) < 1.02
        assert float(torch.cosine_similarity((target - x).flatten(), (truth - x).flatten(), 0)) > 0.99


def relative_error(target: Tensor, truth: Tensor, x: Tensor) -> float:
    return float((target - truth).norm(dim=1).mean() / (truth - x).norm(dim=1).mean())


def spread_points(mixture: GaussianMixture) -> Tensor:
    """Places near the mixture: a draw of it, and noise of .3."""
    y = mixture.sample(40, rng=seeded(1))
    return y + 0.3 * torch.randn(y.shape, generator=seeded(2), dtype=y.dtype)


@pytest.mark.parametrize(("bandwidth", "worst"), [(1.0, 0.6), (0.3, 0.35), (0.1, 0.45), (0.03, 0.5)])
def test_split_points_uphill_with_a_bias(bandwidth: float, worst: float, mixture: GaussianMixture) -> None:
    """Right direction, too short a step, and no dependence on the noise: the paper's solver as it is."""
    x = spread_points(mixture)
    truth, std = closed_form(mixture, x, bandwidth)
    target, _ = mean_shift(x, mixture, bandwidth, estimator="split", rng=seeded())
    other, _ = mean_shift(x, mixture, bandwidth, estimator="split", rng=seeded(3))
    assert float((target - other).norm(dim=1).max()) < 1e-6
    cosine = torch.cosine_similarity(target - x, truth - x)
    assert float(cosine.median()) > 0.95
    error = relative_error(target, truth, x)
    assert 0.05 < error < worst, "biased, but much closer to x' than x is"
    assert float((target - x).norm(dim=1).mean()) < float((truth - x).norm(dim=1).mean())


@pytest.mark.parametrize("bandwidth", [0.3, 0.1, 0.03])
def test_split_needs_variance_time(bandwidth: float, monkeypatch: pytest.MonkeyPatch, mixture: GaussianMixture) -> None:
    """With the other reading of Delta t, a difference of sigma, x' hardly leaves x."""
    x = spread_points(mixture)
    truth, _ = closed_form(mixture, x, bandwidth)
    sigmas = sigma_schedule("karras", 32, sigma_min=0.002, sigma_max=5.0)
    errors = []
    for contraction in (None, lambda a, b, width, interval: math.exp(-(a - b) / width**2)):
        if contraction is not None:
            monkeypatch.setattr(import_module("msd_core.mean_shift.split"), "contraction", contraction)
        target, _ = mean_shift(x, mixture, bandwidth, estimator="split", sigmas=sigmas, rng=seeded())
        errors.append(relative_error(target, truth, x))
    assert errors[0] < 0.6 * errors[1]


def flat(z: Tensor, sigma: float | Tensor) -> Tensor:
    """The denoiser of a flat density: no score at all."""
    return z


def test_split_solves_the_kernel_alone_exactly(points: Tensor) -> None:
    """z - x shrinks by exp(-sigma_0^2 / (2 lambda^2)) over the chain, however the levels are chosen."""
    noise = points.flip(0)
    for sigmas in (torch.tensor([0.8, 0.0]), torch.tensor([0.8, 0.5, 0.1, 0.0])):
        target, _ = mean_shift(points, flat, 0.4, estimator="split", sigmas=sigmas, noise=noise)
        torch.testing.assert_close(target, points + 0.8 * noise * math.exp(-2.0), rtol=1e-6, atol=1e-7)


def test_the_interval_limits_the_kernel(points: Tensor) -> None:
    noise, sigmas = points.flip(0), torch.tensor([0.8, 0.5, 0.1, 0.0])
    options = {"estimator": "split", "sigmas": sigmas, "noise": noise}
    target, _ = mean_shift(points, flat, 0.4, interval=(0.2, 0.6), **options)
    kept = math.exp(-(0.6**2 - 0.2**2) / (2 * 0.4**2))
    torch.testing.assert_close(target, points + 0.8 * noise * kept, rtol=1e-6, atol=1e-7)
    whole, _ = mean_shift(points, flat, 0.4, interval=(0.0, math.inf), **options)
    torch.testing.assert_close(whole, mean_shift(points, flat, 0.4, **options)[0])
    for estimator in ("split", "naive"):
        options["estimator"] = estimator
        outside, _ = mean_shift(points, flat, 0.4, interval=(0.9, 2.0), **options)
        torch.testing.assert_close(outside, points + 0.8 * noise, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bandwidth", [1.0, 0.3, 0.05])
def test_truncation_saves_steps_and_keeps_the_target(bandwidth: float, mixture: GaussianMixture) -> None:
    x = spread_points(mixture)
    truth, _ = closed_form(mixture, x, bandwidth)
    sigmas = sigma_schedule("karras", 32, sigma_min=0.002, sigma_max=5.0)
    options = {"estimator": "split", "sigmas": sigmas}
    whole, cost = mean_shift(x, mixture, bandwidth, rng=seeded(), **options)
    short, less = mean_shift(x, mixture, bandwidth, truncation=2, **options)
    longer, more = mean_shift(x, mixture, bandwidth, truncation=3, **options)
    assert relative_error(short, whole, x) < 0.1 * relative_error(whole, truth, x) + 0.02
    assert relative_error(longer, whole, x) < relative_error(short, whole, x)
    assert less.evaluations == len(x) * int((sigmas[:-1] <= 2 * bandwidth).sum()) < more.evaluations < cost.evaluations
    assert less.sigma is not None
    assert less.sigma <= 2 * bandwidth


def test_truncation_too_far_would_fail(mixture: GaussianMixture) -> None:
    """The negative control: starting at half lambda loses most of the shift."""
    x = spread_points(mixture)
    sigmas = sigma_schedule("karras", 32, sigma_min=0.002, sigma_max=5.0)
    whole, _ = mean_shift(x, mixture, 0.3, estimator="split", sigmas=sigmas, rng=seeded())
    short, _ = mean_shift(x, mixture, 0.3, estimator="split", sigmas=sigmas, truncation=0.5)
    assert relative_error(short, whole, x) > 0.3


def test_naive_and_split_follow_the_same_equation(mixture: GaussianMixture, points: Tensor) -> None:
    """From the same noise, their difference vanishes with the step, with order 1."""
    noise = points.flip(0)
    differences = []
    for steps in (100, 200, 400):
        pair = [
            mean_shift(
                points, mixture, 0.5, estimator=estimator, sigmas=torch.linspace(1.5, 0, steps + 1), noise=noise
            )[0]
            for estimator in ("naive", "split")
        ]
        differences.append(float((pair[0] - pair[1]).norm()))
    assert differences[-1] < 0.02
    for coarse, fine in zip(differences, differences[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.3)


def test_naive_diverges_where_the_paper_says(mixture: GaussianMixture, points: Tensor) -> None:
    """An explicit step amplifies z - x by 1 - sigma (sigma - sigma') / lambda^2; nothing hides the outcome."""
    sigmas = sigma_schedule("karras", 32, sigma_min=0.002, sigma_max=5.0)
    for bandwidth in (0.1, 0.03):
        truth, _ = closed_form(mixture, points, bandwidth)
        target, info = mean_shift(points, mixture, bandwidth, estimator="naive", sigmas=sigmas, rng=seeded())
        assert target.shape == points.shape
        assert not relative_error(target, truth, points) < 1e3
        assert not info.norm < 1e3 * float((truth - points).norm(dim=1).mean())


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
def test_naive_is_stable_on_its_default_levels(bandwidth: float, mixture: GaussianMixture) -> None:
    x = spread_points(mixture)
    truth, _ = closed_form(mixture, x, bandwidth)
    target, _ = mean_shift(x, mixture, bandwidth, estimator="naive", samples=16, rng=seeded())
    assert relative_error(target, truth, x) < 0.7


def test_the_inversion_as_centre(mixture: GaussianMixture, points: Tensor) -> None:
    """Split and naive contract to z*_sigma; a density without score keeps the whole trajectory at x."""
    sigmas = sigma_schedule("karras", 20, sigma_min=0.01, sigma_max=5.0)
    still = ddim_invert(points, flat, sigmas)
    for estimator in ("naive", "split", "one-step"):
        options = {"estimator": estimator, "sigmas": sigmas, "noise": points.flip(0)}
        at_x, _ = mean_shift(points, mixture, 2.0, **options)
        at_still, _ = mean_shift(points, mixture, 2.0, centre=still, **options)
        torch.testing.assert_close(at_still, at_x, rtol=1e-6, atol=1e-9)
    moving = ddim_invert(points, mixture, sigmas)
    target, _ = mean_shift(points, mixture, 0.3, estimator="one-step", centre=moving)
    torch.testing.assert_close(target, mixture(moving.at(0.3), 0.3))
    options = {"estimator": "split", "sigmas": sigmas, "centre": moving}
    pinned, _ = mean_shift(points, mixture, 1e-4, truncation=1e6, **options)
    torch.testing.assert_close(pinned, points, rtol=0, atol=1e-4)
    start, _ = mean_shift(points, flat, 1e6, truncation=1.0, **options)
    torch.testing.assert_close(start, moving.states[-1], rtol=1e-6, atol=1e-6)


def test_a_wide_kernel_is_plain_sampling(mixture: GaussianMixture) -> None:
    """lambda = 1000: the draws are those of p itself, for every estimator that draws."""
    n = 2000
    x = torch.tensor([[0.3, 0.2]], dtype=torch.float64).expand(n, 2)
    exact = mixture.sample(50_000, rng=seeded(1))
    for estimator in ("exact", "split"):
        y, _ = mean_shift(x, mixture, 1000.0, estimator=estimator, rng=seeded(), solver="heun")
        assert bool(((y.mean(dim=0) - exact.mean(dim=0)).abs() < 0.05).all())
        torch.testing.assert_close(y.std(dim=0), exact.std(dim=0), rtol=0.06, atol=0)


def test_a_model_is_never_asked_above_its_levels(mixture: GaussianMixture, points: Tensor) -> None:
    class Limited:
        sigma_max = 2.0

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            assert float(torch.as_tensor(sigma).max()) <= self.sigma_max * (1 + 1e-6)
            return mixture(z, sigma)

    for estimator in ESTIMATORS:
        for bandwidth in (0.3, 1.9, 2.0, 2.1, 1000.0):
            target, info = mean_shift(points, Limited(), bandwidth, estimator=estimator, rng=seeded())
            assert bool(torch.isfinite(target).all())
            assert info.sigma <= 2.0 * (1 + 1e-6)


@pytest.mark.parametrize("bandwidth", [0.3, 2.0, 2.1, 1000.0])
def test_one_step_is_asked_at_the_models_highest_level_at_most(
    bandwidth: float, mixture: GaussianMixture, points: Tensor
) -> None:
    class Limited:
        sigma_max = 2.0

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return mixture(z, sigma)

    level = min(bandwidth, 2.0)
    target, info = mean_shift(points, Limited(), bandwidth, estimator="one-step")
    assert info.sigma == level and info.bandwidth == bandwidth
    assert torch.equal(target, mixture(points, level))
    centred = OneStep(centre="inversion", steps=64)
    levels = centred.centre_levels(bandwidth, 2.0)
    assert levels[0] == level and levels[1] < 0.999 * level, "no step of no length"
    inverted, known = mean_shift(points, Limited(), bandwidth, estimator=centred)
    moved = ddim_invert(points, mixture, torch.linspace(level, 0, 257).double())
    torch.testing.assert_close(inverted, mixture(moved.states[-1], level), rtol=0.05, atol=0.02)
    assert known.sigma == level


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("solver", ["ddim", "heun"])
def test_a_batch_is_its_rows_and_its_samples(
    estimator: str, solver: str, mixture: GaussianMixture, points: Tensor
) -> None:
    noise = torch.randn(3, 5, 2, generator=seeded(), dtype=torch.float64)
    known = settings_of(ESTIMATORS[estimator])
    given = {name: value for name, value in {"steps": 20, "solver": solver}.items() if name in known}
    options, draws = {"estimator": estimator, **given}, {} if estimator == "one-step" else {"samples": 3}
    whole, info = mean_shift(points, mixture, 0.4, noise=noise, **draws, **options)
    rows = [
        torch.stack(
            [mean_shift(points[i : i + 1], mixture, 0.4, noise=noise[n, i : i + 1], **options)[0] for n in range(3)]
        )
        for i in range(5)
    ]
    torch.testing.assert_close(whole, torch.cat([row.mean(dim=0) for row in rows]), rtol=1e-9, atol=1e-11)
    shaped = points.reshape(5, 1, 2, 1)
    pictures, _ = mean_shift(shaped, mixture, 0.4, noise=noise.reshape(3, 5, 1, 2, 1), **draws, **options)
    torch.testing.assert_close(pictures.reshape(5, 2), whole)


def test_antithetic_pairs_cut_the_variance(mixture: GaussianMixture, points: Tensor) -> None:
    noise = torch.randn(2, 5, 2, generator=seeded(), dtype=torch.float64)
    pairs, info = mean_shift(points, mixture, 0.3, samples=4, antithetic=True, noise=noise)
    both, same = mean_shift(points, mixture, 0.3, samples=4, noise=torch.cat([noise, -noise]))
    assert torch.equal(pairs, both)
    assert info == same
    x = points[4:].expand(500, 2)
    stds = [
        mean_shift(x, mixture, 0.3, samples=2, antithetic=antithetic, rng=seeded())[0].std(dim=0).mean()
        for antithetic in (True, False)
    ]
    assert stds[0] < 0.8 * stds[1]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"estimator": "one-step"}, 1),
        ({"estimator": "exact"}, 32),
        ({"estimator": "exact", "walk_from": "mean"}, 1 + 32),
        ({"estimator": "exact", "samples": 3, "steps": 8}, 3 * 8),
        ({"estimator": "exact", "samples": 3, "steps": 8, "solver": "heun", "walk_from": "mean"}, 1 + 3 * 15),
        ({"estimator": "split", "samples": 3, "steps": 8}, 3 * 8),
        ({"estimator": "naive", "samples": 3, "steps": 8, "solver": "heun"}, 3 * 15),
        ({"estimator": "split", "samples": 3, "sigmas": torch.tensor([4.0, 1.0, 0.5, 0.0]), "truncation": 2}, 2),
    ],
)
def test_info(options: dict, rows: int, mixture: GaussianMixture, points: Tensor) -> None:
    class Guided:
        cost = 2

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return mixture(z, sigma)

    target, info = mean_shift(points, Guided(), 0.5, rng=seeded(), **options)
    assert info.evaluations == 2 * 5 * rows
    assert info.bandwidth == 0.5
    assert info.norm == pytest.approx(float((target - points).norm(dim=1).mean()))
    assert info.rms == pytest.approx(info.norm / math.sqrt(2))
    if options["estimator"] == "one-step" or options.get("walk_from") == "mean":
        assert info.sigma == 0.5
    elif options["estimator"] == "exact":
        assert info.sigma is not None and 0.49 < info.sigma < 0.5


def test_the_seed_decides(mixture: GaussianMixture, points: Tensor) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (mean_shift(points, mixture, 0.3, rng=seeded(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_nothing_is_differentiated(estimator: str, mixture: GaussianMixture, points: Tensor) -> None:
    x = points.clone().requires_grad_()
    target, _ = mean_shift(x, mixture, 0.3, estimator=estimator, rng=seeded())
    assert not target.requires_grad


def test_the_distillation_gradient_descends(mixture: GaussianMixture, points: Tensor) -> None:
    """x - x' is -lambda^2 grad log (p * N(0, lambda^2)), by autograd of the density."""
    x = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(-(0.3**2) * mixture.log_prob(x, 0.3).sum(), x)
    target, _ = mean_shift(points, mixture, 0.3, estimator="one-step")
    torch.testing.assert_close(points - target, gradient, rtol=1e-8, atol=1e-10)


def test_precision(mixture: GaussianMixture, points: Tensor) -> None:
    for dtype, promoted in ((torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        target, _ = mean_shift(points.to(dtype), mixture, 0.3, rng=seeded())
        assert target.dtype == promoted


def test_a_nan_of_the_model_is_returned(points: Tensor) -> None:
    target, info = mean_shift(points, lambda z, sigma: z * math.nan, 0.3, rng=seeded())
    assert bool(target.isnan().all())
    assert math.isnan(info.norm)


def test_a_data_set_as_density(mixture: GaussianMixture, points: Tensor) -> None:
    """The ideal denoiser's own mean-shift step (Comaniciu & Meer 2002)."""
    data = mixture.sample(500, rng=seeded())
    weights = (-(points[:, None] - data).square().sum(dim=2) / (2 * 0.3**2)).softmax(dim=1)
    target, _ = mean_shift(points, IdealDenoiser(data), 0.3, estimator="one-step")
    torch.testing.assert_close(target, weights @ data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "exakt"}, "estimator: got 'exakt'; allowed are 'naive', 'split', 'exact', 'one-step'"),
        ({"bandwidth": 0.0}, "bandwidth: got 0.0"),
        ({"bandwidth": -1.0}, "bandwidth: got -1.0"),
        ({"bandwidth": math.nan}, "bandwidth: got nan"),
        ({"bandwidth": torch.ones(5)}, "bandwidth: got shape"),
        ({"samples": 0}, "samples: got 0"),
        ({"samples": 3, "antithetic": True}, "samples: got 3 with antithetic; allowed is an even number"),
        ({"steps": 0}, "steps: got 0"),
        ({"steps": 8, "sigmas": torch.tensor([1.0, 0.0])}, "steps: got 8 together with sigmas"),
        ({"sigmas": torch.tensor([1.0, 0.5])}, "sigmas: the last entry is 0.5; allowed is 0"),
        ({"sigmas": torch.tensor([0.0, 1.0])}, "sigmas: entry 1 is 1.0"),
        ({"solver": "euler"}, "solver: got 'euler'; allowed are 'ddim', 'heun'"),
        ({"rng": None}, "rng: got None"),
        ({"noise": torch.zeros(5, 3)}, r"noise: got shape \(5, 3\)"),
        ({"noise": torch.zeros(5, 2), "samples": 2}, r"noise: got shape \(5, 2\); allowed is \(2, 5, 2\)"),
        ({"truncation": 2.0}, "truncation: got 2.0 with the estimator 'exact'; allowed with split"),
        (
            {"samples": 3, "estimator": "one-step"},
            "samples: got 3 with the estimator 'one-step'; allowed with naive, split",
        ),
        ({"solver": "heun", "estimator": "one-step"}, "solver: got 'heun' with the estimator 'one-step'"),
        ({"sigmas": torch.tensor([1.0, 0.5]), "estimator": "one-step"}, "sigmas: the last entry is 0.5; allowed is 0"),
        ({"colour": 3}, "colour: got 3 with the estimator 'exact'; allowed with none"),
        ({"estimator": Exact(), "steps": 8}, "steps: got beside Exact.*, which holds its own options"),
        ({"estimator": Exact(), "samples": 2}, "samples: got beside Exact.*, which holds its own options"),
        ({"interval": (0.1, 1.0)}, "interval: got .* allowed with naive, split"),
        ({"interval": (1.0, 0.1), "estimator": "split"}, "interval: got .* 0 <= low < high"),
        ({"truncation": 0.0, "estimator": "split"}, "truncation: got 0.0"),
        ({"truncation": 1e-6, "estimator": "split"}, "truncation: got 1e-06 with bandwidth 0.3"),
        ({"x": torch.zeros(5, 2, dtype=torch.int64)}, "x: got torch.int64"),
        ({"x": torch.tensor(1.0)}, "x: got torch.float32, shape"),
    ],
)
def test_wrong_arguments_are_refused(options: dict, message: str, mixture: GaussianMixture, points: Tensor) -> None:
    arguments = {"x": points, "denoiser": mixture, "bandwidth": 0.3, "rng": seeded(), **options}
    with pytest.raises(ValueError, match=message):
        mean_shift(**arguments)


def test_a_wrong_centre_is_refused(mixture: GaussianMixture, points: Tensor) -> None:
    trajectory = ddim_invert(points[:4], mixture, torch.tensor([1.0, 0.5, 0.0]))
    with pytest.raises(ValueError, match=r"centre: got shape \(4, 2\)"):
        mean_shift(points, mixture, 0.3, estimator="split", centre=trajectory, rng=seeded())
    with pytest.raises(ValueError, match="centre: got .* with the estimator 'exact'"):
        mean_shift(points[:4], mixture, 0.3, centre=trajectory, rng=seeded())
    sigmas = torch.tensor([4.0, 2.0, 0.0])
    with pytest.raises(ValueError, match="sigma: got 2.0; allowed is 0 to 1, the levels of this trajectory"):
        mean_shift(points[:4], mixture, 0.3, estimator="split", sigmas=sigmas, centre=trajectory, rng=seeded())
