"""SDS, SDI and MSD against what they must be on densities known in closed form.

SDS: its expectation, by Gauss quadrature over noise and time, within 4 standard errors. SDI: the exact inversion of a
Gaussian, approached at first order. MSD: x minus the closed-form mean of the product density.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from msd_core import (
    ESTIMATORS,
    METHODS,
    MSD,
    SDI,
    SDS,
    AncestralStep,
    Estimator,
    Exact,
    Exponential,
    GaussianMixture,
    GuidedDenoiser,
    Naive,
    OneStep,
    Source,
    Split,
    bandwidth_schedule,
    ddim_invert,
    mean_shift,
    sd15_schedule,
    with_companions,
    with_levels,
)
from msd_core.denoiser import Denoiser, eps
from msd_core.distillation import WEIGHTINGS, Method, sds_gradient
from msd_core.distillation.base import annealed_t
from msd_core.inversion.trajectory import inversion_steps
from msd_core.settings import build

pytestmark = pytest.mark.core
SCHEDULE = sd15_schedule()


def level(t: float) -> float:
    return SCHEDULE.percent_to_sigma(1 - t)


X = torch.tensor([[0.6, -0.4]], dtype=torch.float64)
DRAWS = 6_000


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bandwidths(steps: int = 4) -> Tensor:
    return bandwidth_schedule("exponential", 1.0, 0.1, steps)


def call(method: Method, x: Tensor, denoiser: Denoiser, step: int = 0, steps: int = 4, seed: int = 0) -> Tensor:
    return method(x, with_levels(denoiser, SCHEDULE), step=step, steps=steps, rng=rng(seed))[0]


def guided_by(cond: Denoiser) -> Denoiser:
    """A denoiser with everything that any method may ask of one: two parts, a scale, a chain of levels, companions."""
    guided = with_levels(GuidedDenoiser(cond, lambda z, sigma: 0.5 * cond(z, sigma), cfg=2.0), SCHEDULE)
    other = GuidedDenoiser(lambda z, sigma: 0.8 * cond(z, sigma), lambda z, sigma: 0.5 * cond(z, sigma), cfg=2.0)
    return with_companions(guided, source=Source(X, other), negative=lambda z, sigma: 0.3 * cond(z, sigma))


# --- what holds for all that are registered ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_pure_and_detached(name: str, mixture: GaussianMixture, points: Tensor) -> None:
    method, x, before = METHODS[name](), points.clone().requires_grad_(), points.clone()
    denoiser = guided_by(mixture)
    first, info = method(x, denoiser, step=1, steps=4, rng=rng())
    state = torch.get_rng_state()
    second, again = method(x, denoiser, step=1, steps=4, rng=rng())
    assert torch.equal(first, second) and info == again
    assert torch.equal(torch.get_rng_state(), state), "the global random state was used"
    assert not first.requires_grad and first.shape == x.shape and x.grad is None
    assert torch.equal(x.detach(), before)
    torch.testing.assert_close(info.norm, float(first.norm(dim=1).mean()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anneal = "sqrt"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", METHODS)
def test_evaluations_are_what_the_model_saw(name: str, mixture: GaussianMixture, points: Tensor) -> None:
    rows = 0

    def counting(z: Tensor, sigma: Tensor) -> Tensor:
        nonlocal rows
        rows += len(z)
        return mixture(z, sigma)

    _, info = METHODS[name]()(points, guided_by(counting), step=1, steps=4, rng=rng())
    assert info.evaluations == rows > 0


@pytest.mark.parametrize("name", METHODS)
def test_rows_with_their_own_randomness_are_their_single_runs(
    name: str, mixture: GaussianMixture, points: Tensor
) -> None:
    method, denoiser = METHODS[name](), guided_by(mixture)
    together = method(points, denoiser, step=1, steps=4, rng=[rng(i) for i in range(len(points))])[0]
    alone = [method(row[None], denoiser, step=1, steps=4, rng=rng(i))[0] for i, row in enumerate(points)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-12)
    shared = method(points, denoiser, step=1, steps=4, rng=rng())[0]
    assert not torch.allclose(shared[1:], torch.cat(alone)[1:]), "a planted shared source must show"


def test_evaluations_count_both_halves_of_guidance(mixture: GaussianMixture) -> None:
    guided = GuidedDenoiser(with_levels(mixture, SCHEDULE), lambda z, sigma: z, cfg=2.0)
    assert SDS()(X, guided, step=0, steps=1, rng=rng())[1].evaluations == 2
    sdi = SDI(jitter=False)(X, guided, step=0, steps=1, rng=rng())[1]
    assert sdi.evaluations == 2 * (10 + 1) + 2
    msd = MSD(bandwidths(1), Split(centre="inversion", steps=8, truncation=2.0))
    split = msd(X, guided, step=0, steps=1, rng=rng())[1]
    assert split.evaluations == 2 * 2 * 6, "a truncated walk of 6 steps, and an inversion over the same levels"


DETERMINISTIC: dict[str, Callable[[], Method]] = {
    "sdi": lambda: SDI(inversion_cfg=None, eta=0.0, jitter=False),
    "one-step": lambda: MSD(bandwidths(), "one-step"),
    "one-step, inverted": lambda: MSD(bandwidths(), OneStep(centre="inversion")),
    "split, inverted": lambda: MSD(bandwidths(), Split(centre="inversion", truncation=2.0)),
}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_batch_is_its_rows(name: str, mixture: GaussianMixture, points: Tensor) -> None:
    method = DETERMINISTIC[name]()
    rows = [call(method, row[None], mixture, step=2) for row in points]
    torch.testing.assert_close(call(method, points, mixture, step=2), torch.cat(rows))


# --- SDS --------------------------------------------------------------------------------------------------------------


def sds_at(x: Tensor, mixture: GaussianMixture, t: float, weighting: str) -> Tensor:
    """E_n[w (eps_hat - n)] at time t, by 40 x 40 Gauss-Hermite points, from the mixture's score: (1, 2)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    node, weight = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    noise = torch.cartesian_prod(node, node)
    sigma = level(t)
    alpha_bar = 1 / (1 + sigma**2)
    w = {"uniform": 1.0, "sigma": 1 - alpha_bar, "dreamfusion": math.sqrt(alpha_bar) * (1 - alpha_bar)}[weighting]
    difference = -sigma * mixture.score(x + sigma * noise, sigma) - noise
    return w * (torch.cartesian_prod(weight, weight).prod(dim=1)[:, None] * difference).sum(dim=0, keepdim=True)


def sds_expectation(x: Tensor, mixture: GaussianMixture, weighting: str) -> Tensor:
    """E_t of the above for t ~ U(.02, .98), by 40 Gauss-Legendre points."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    values = [w / 2 * sds_at(x, mixture, 0.5 + 0.48 * u, weighting) for u, w in zip(nodes, weights, strict=True)]
    return torch.stack(values).sum(dim=0)


def assert_expected(method: SDS, denoiser: Denoiser, truth: Tensor) -> None:
    gradients = call(method, X.expand(DRAWS, 2), denoiser)
    standard_error = gradients.std(dim=0) / math.sqrt(DRAWS)
    assert bool(((gradients.mean(dim=0) - truth).abs() < 4 * standard_error).all())


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_sds_expectation(weighting: str, mixture: GaussianMixture) -> None:
    truth = sds_expectation(X, mixture, weighting)
    method = SDS(weighting)
    assert_expected(method, mixture, truth)
    others = [name for name in WEIGHTINGS if name != weighting]
    planted = [(SDS(name), mixture) for name in others]
    planted += [(method, lambda z, sigma: 2 * z - mixture(z, sigma)), (SDS(weighting, t_max=0.8), mixture)]
    for wrong_method, wrong_denoiser in planted:
        with pytest.raises(AssertionError):
            assert_expected(wrong_method, wrong_denoiser, truth)


def test_sds_at_one_time(mixture: GaussianMixture) -> None:
    method = SDS(t_min=0.5, t_max=0.5)
    assert_expected(method, mixture, sds_at(X, mixture, 0.5, "sigma"))
    with pytest.raises(AssertionError):
        assert_expected(method, mixture, sds_at(X, mixture, 0.45, "sigma"))


def test_sds_is_the_difference_of_noises(mixture: GaussianMixture, points: Tensor) -> None:
    noise = torch.randn(points.shape, generator=rng(), dtype=points.dtype)
    sigma = torch.tensor([0.1, 0.5, 1.0, 3.0, 10.0], dtype=points.dtype)
    z = points + sigma[:, None] * noise
    whole = sds_gradient(points, mixture, sigma, noise, "uniform")
    torch.testing.assert_close(whole, eps(z, sigma, mixture(z, sigma)) - noise)
    rows = [sds_gradient(points[i : i + 1], mixture, float(sigma[i]), noise[i : i + 1], "uniform") for i in range(5)]
    torch.testing.assert_close(whole, torch.cat(rows))


def test_sds_draws_a_time_for_every_row(mixture: GaussianMixture) -> None:
    seen: list[Tensor] = []

    def watch(z: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma)
        return z

    call(SDS(), X.expand(6, 2), watch)
    assert seen[0].shape == (6,) and seen[0].unique().numel() == 6
    assert level(0.02) <= float(seen[0].min()) and float(seen[0].max()) <= level(0.98)


def test_sds_averages_its_samples(mixture: GaussianMixture) -> None:
    """As many draws as one per copy of the row: equal in expectation, with a sixteenth of the variance."""
    x = X.expand(1000, 2)
    one, many = (call(SDS(samples=samples), x, mixture) for samples in (1, 16))
    standard_error = one.std(dim=0) / math.sqrt(1000)
    assert bool(((one.mean(dim=0) - many.mean(dim=0)).abs() < 4 * standard_error).all())
    ratio = one.var(dim=0) / many.var(dim=0)
    assert bool(((ratio > 12) & (ratio < 21)).all())
    info = SDS(samples=16)(X, with_levels(mixture, SCHEDULE), step=0, steps=1, rng=rng())[1]
    assert info.evaluations == 16
    with pytest.raises(ValueError, match="samples: got 0"):
        SDS(samples=0)


def test_levels_may_be_a_function(mixture: GaussianMixture) -> None:
    ours, function = (
        SDS()(X, with_levels(mixture, levels), step=0, steps=4, rng=rng())[0]
        for levels in (SCHEDULE, SCHEDULE.percent_to_sigma)
    )
    assert torch.equal(ours, function)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "msd"])
def test_a_denoiser_without_levels_is_refused(name: str, mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="denoiser: .* has no levels of its own.*with_levels.denoiser, sd15_schedule"):
        METHODS[name]()(X, GuidedDenoiser(mixture, mixture), step=0, steps=4, rng=rng())


def test_annealing() -> None:
    for name, middle in (("linear", 0.5), ("sqrt", 0.9 - 0.8 * math.sqrt(0.5))):
        times = [annealed_t(name, 0.1, 0.9, step, 5) for step in range(5)]
        assert times[0] == pytest.approx(0.9) and times[2] == pytest.approx(middle) and times[4] == pytest.approx(0.1)
        assert times == sorted(times, reverse=True)
    assert annealed_t("linear", 0.1, 0.9, 0, 1) == 0.9


# --- SDI --------------------------------------------------------------------------------------------------------------

GAUSSIAN = GaussianMixture(
    torch.ones(1, dtype=torch.float64),
    torch.tensor([[0.2, 0.5]], dtype=torch.float64),
    torch.eye(2, dtype=torch.float64)[None] * 0.6**2,
)


def sdi_error(steps: int, **options: object) -> float:
    """Distance of the gradient to (x - m)(1 - s/sqrt(s^2 + sigma^2)): D at the exact inversion of a Gaussian."""
    settings = {"inversion_cfg": None, "eta": 0.0, "jitter": False} | options
    gradient = call(SDI(inversion_steps=steps, **settings), X, GAUSSIAN, step=1, steps=3)
    sigma = level(0.5)
    exact = (X - GAUSSIAN.mean()) * (1 - 0.6 / math.sqrt(0.6**2 + sigma**2))
    return float((gradient - exact).norm() / exact.norm())


def assert_first_order() -> None:
    errors = [sdi_error(steps) for steps in (10, 20, 40, 80)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 1.6 < coarse / fine < 2.4


def test_sdi_approaches_the_exact_inversion(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_first_order()
    assert sdi_error(80, eta=0.3) > 0.1, "planted: fresh noise in the inversion"
    monkeypatch.setattr("msd_core.inversion.explicit.eps", lambda *arguments: -eps(*arguments))
    with pytest.raises(AssertionError):
        assert_first_order()


def inverted_to_the_end(x: Tensor, denoiser: Denoiser, sigmas: list[float], eta: float) -> Tensor:
    return list(inversion_steps(x, denoiser, sigmas, AncestralStep(eta), rng()))[-1]


def test_sdi_inverts_as_ddim_does(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = [0.0, 0.1, 0.3, 1.0, 2.5]
    trajectory = ddim_invert(points, mixture, torch.tensor(sigmas, dtype=torch.float64))
    torch.testing.assert_close(inverted_to_the_end(points, mixture, sigmas, 0.0), trajectory.states[-1])


def test_sdi_adds_the_noise_of_an_ancestral_step() -> None:
    """Its spread against DDIM's own formula in alpha_bar; a denoiser that returns z moves nothing itself."""
    low, high, count = 0.7, 1.9, 40_000
    x = torch.zeros(count, 1, dtype=torch.float64)
    added = inverted_to_the_end(x, lambda z, sigma: z, [0.0, low, high], 0.5)
    a, b = 1 / (1 + low**2), 1 / (1 + high**2)
    expected = 0.5 * math.sqrt((1 - a) / (1 - b) * (1 - b / a)) / math.sqrt(b)
    assert abs(float(added.std()) - expected) < 4 * expected / math.sqrt(2 * count)


def test_sdi_jitter_changes_where_the_noise_comes_from(mixture: GaussianMixture) -> None:
    method = SDI(inversion_cfg=None, eta=0.0)
    first, same, other = (call(method, X, mixture, step=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_sdi_takes_the_noise_found_above_t_at_t(mixture: GaussianMixture) -> None:
    """The last inversion step overshoots to tau; the noise found there is used at t = .5."""
    gradient = call(SDI(inversion_steps=4, inversion_cfg=None, eta=0.0), X, mixture, step=1, steps=3)
    tau = 0.5 + float(torch.rand((), generator=rng())) / 4
    sigmas = [0.0, *(level(time) for time in (0.001, 0.251, tau))]
    kappa = (inverted_to_the_end(X, mixture, sigmas, 0.0) - X) / sigmas[-1]
    sigma = level(0.5)
    torch.testing.assert_close(gradient, X - mixture(X + sigma * kappa, sigma))


def test_sdi_inverts_with_its_own_cfg(mixture: GaussianMixture) -> None:
    asked: list[float] = []

    @dataclasses.dataclass(frozen=True)
    class Recording:
        cfg: float = 7.5

        def __call__(self, z: Tensor, sigma: Tensor) -> Tensor:
            asked.append(self.cfg)
            return mixture(z, sigma)

        def with_cfg(self, cfg: float) -> Recording:
            return Recording(cfg)

    call(SDI(), X, Recording())
    assert set(asked[:-1]) == {-7.5} and asked[-1] == 7.5
    with pytest.raises(ValueError, match="inversion_cfg: got -7.5, but GaussianMixture has no with_cfg"):
        call(SDI(), X, mixture)


@pytest.mark.parametrize("step", range(4))
def test_sdi_works_at_both_ends(step: int, mixture: GaussianMixture) -> None:
    gradient = call(SDI(t_min=0.001, t_max=1.0, inversion_cfg=None), X, mixture, step=step)
    assert bool(torch.isfinite(gradient).all())


# --- MSD --------------------------------------------------------------------------------------------------------------


def assert_product_mean(method: MSD, denoiser: Denoiser, mixture: GaussianMixture, points: Tensor) -> None:
    for step, bandwidth in enumerate(bandwidths().tolist()):
        truth = torch.stack([mixture.product(row, bandwidth).mean() for row in points])
        torch.testing.assert_close(call(method, points, denoiser, step), points - truth, rtol=1e-5, atol=1e-7)


def test_msd_is_x_minus_the_mean_of_the_product(mixture: GaussianMixture, points: Tensor) -> None:
    method = MSD(bandwidths(), "one-step")
    assert_product_mean(method, mixture, mixture, points)
    planted: list[tuple[MSD, Denoiser]] = [
        (method, lambda z, sigma: 2 * z - mixture(z, sigma)),
        (MSD(bandwidths() * 1.05, "one-step"), mixture),
    ]
    for wrong_method, wrong_denoiser in planted:
        with pytest.raises(AssertionError):
            assert_product_mean(wrong_method, wrong_denoiser, mixture, points)


OPTIONS: dict[str, tuple[Estimator, dict]] = {
    "exact": (Exact(steps=6, samples=4, antithetic=True), {"steps": 6, "samples": 4, "antithetic": True}),
    "heun": (
        Exact(solver="heun", sigmas=(3.0, 1.0, 0.3, 0.0)),
        {"solver": "heun", "sigmas": torch.tensor([3.0, 1.0, 0.3, 0.0], dtype=torch.float64)},
    ),
    "naive": (Naive(steps=40, interval=(0.1, 1.0)), {"steps": 40, "interval": (0.1, 1.0)}),
    "split": (Split(steps=6, truncation=2.0), {"steps": 6, "truncation": 2.0}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_msd_passes_its_settings_on(name: str, mixture: GaussianMixture, points: Tensor) -> None:
    estimator, options = OPTIONS[name]
    gradient, info = MSD(bandwidths(), estimator)(points, mixture, step=2, steps=4, rng=rng())
    kind = ESTIMATORS.name_of(estimator)
    target, expected = mean_shift(points, mixture, float(bandwidths()[2]), estimator=kind, rng=rng(), **options)
    assert torch.equal(gradient, points - target) and info == expected


@pytest.mark.parametrize("estimator", ["naive", "split"])
def test_msd_centres_on_the_inversion(estimator: str, mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.0])
    method = MSD(bandwidths(), ESTIMATORS[estimator](sigmas=tuple(sigmas.tolist()), centre="inversion"))
    trajectory = ddim_invert(points, mixture, sigmas)
    target, _ = mean_shift(points, mixture, 1.0, estimator=estimator, sigmas=sigmas, rng=rng(), centre=trajectory)
    assert torch.equal(call(method, points, mixture), points - target)


def test_msd_asks_one_step_at_the_inverted_point(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = (4.0, 1.5, 0.5, 0.2, 0.1, 0.0)
    gradient = call(MSD(bandwidths(), OneStep(sigmas=sigmas, centre="inversion")), points, mixture)
    inverted = ddim_invert(points, mixture, torch.tensor([1.0, 0.5, 0.2, 0.1, 0.0])).states[-1]
    torch.testing.assert_close(gradient, points - mixture(inverted, 1.0))


@pytest.mark.parametrize("kind", [Naive, Split, OneStep])
def test_msd_inverts_with_its_own_cfg(kind: type, mixture: GaussianMixture) -> None:
    """The inversion is asked at the guidance of its own, the estimate at the run's."""
    asked: list[float] = []

    @dataclasses.dataclass(frozen=True)
    class Recording:
        cfg: float = 7.5

        def __call__(self, z: Tensor, sigma: Tensor) -> Tensor:
            asked.append(self.cfg)
            return mixture(z, sigma)

        def with_cfg(self, cfg: float) -> Recording:
            return Recording(cfg)

    call(MSD(bandwidths(), kind(steps=5, centre="inversion", inversion_cfg=1.0)), X, Recording())
    assert set(asked) == {1.0, 7.5} and asked == sorted(asked), "the inversion comes first"
    with pytest.raises(ValueError, match="inversion_cfg: got 1.0, but .* has no with_cfg"):
        call(MSD(bandwidths(), kind(centre="inversion", inversion_cfg=1.0)), X, mixture)


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SDS("cosine"), "weighting: got 'cosine'"),
        (lambda: SDS(anneal="log"), "anneal: got 'log'"),
        (lambda: SDS(t_min=0.9, t_max=0.1), "t_min, t_max: got 0.9, 0.1"),
        (lambda: SDS(t_min=0.0), "t_min, t_max: got 0.0"),
        (lambda: SDI(anneal="none"), "anneal: got 'none'"),
        (lambda: SDI(t_max=1.5), "t_min, t_max: got 0.02, 1.5"),
        (lambda: SDI(inversion_steps=0), "inversion_steps: got 0"),
        (lambda: SDI(eta=-0.1), "eta: got -0.1"),
        (lambda: MSD(torch.tensor([1.0, 2.0])), "never rise"),
        (lambda: MSD(torch.tensor([1.0, 0.0])), "entry 1 is 0.0"),
        (lambda: MSD(bandwidths(), "mean"), "estimator: got 'mean'"),
        (lambda: MSD("cubic"), "bandwidths: got 'cubic'; allowed are 'linear'"),
        (lambda: MSD(Exponential), "bandwidths: got the class Exponential; allowed is a curve"),
        (lambda: MSD(bandwidths(), Exact(solver="rk4")), "solver: got 'rk4'"),
        (lambda: MSD(bandwidths(), Split(centre="y")), "centre: got 'y'"),
        (lambda: MSD(bandwidths(), Exact(samples=0)), "samples: got 0"),
        (lambda: MSD(bandwidths(), Exact(steps=0)), "steps: got 0"),
        (lambda: build(MSD(), {"solver_steps": 0}), "solver_steps: got 0"),
        (lambda: MSD(bandwidths(), Exact(sigmas=(1.0, 1.0))), "sigmas: entry 1 is 1.0, after 1.0"),
        (
            lambda: MSD(bandwidths(), Exact(sigmas=torch.tensor([1.0, 0.0]))),
            "sigmas: got Tensor of shape .*allowed is a tuple",
        ),
        (lambda: build(MSD(), {"centre": "inversion"}), "centre: got 'inversion' with the estimator 'exact'; allowed"),
        (lambda: MSD(bandwidths(), Split(inversion_cfg=1.0)), "inversion_cfg: got 1.0 with centre 'x'"),
    ],
)
def test_wrong_settings(make: Callable[[], Method], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_as_many_bandwidths_as_steps(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="bandwidths: got 4 of them for 5 steps"):
        call(MSD(bandwidths()), X, mixture, steps=5)
