"""DPS, PSLD, DDRM and RED-diff against their published forms, closed forms and each other; what they refuse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GivenNoise, posterior_sample, posterior_steps, sigma_schedule
from msd_core.denoiser import RowCounter, ask
from msd_core.densities import conditioned
from msd_core.dreamsampler import unit_share
from msd_core.measurement import Measurement, Observation, observe
from msd_core.measurement.blur import Blur
from msd_core.measurement.decoded import Decoded
from msd_core.measurement.grey import Grey
from msd_core.measurement.mask import Mask
from msd_core.measurement.pool import Pool
from msd_core.posterior import GAINS, INVERSE_SOLVERS, RESTORERS, PosteriorDenoiser
from msd_core.posterior.ddrm import DDRM
from msd_core.posterior.dps import DPS, SIZE
from msd_core.posterior.jump import slope_of
from msd_core.posterior.kalman import Kalman
from msd_core.posterior.pigdm import PiGDM
from msd_core.posterior.psld import PSLD
from msd_core.posterior.psld import SIZE as PSLD_SIZE
from msd_core.posterior.red_diff import REDDiff

pytestmark = pytest.mark.core
SHAPE, NOISE = (1, 2, 4), 0.2
HALF = Mask(torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(2, 4))
SOFT = Mask(torch.rand(2, 4, generator=torch.Generator().manual_seed(1)))
WALKS = [name for name, kind in INVERSE_SOLVERS.items() if hasattr(kind, "walk")]
TUNED = {"dps": DPS(zeta=20.0), "psld": PSLD(omega=2.0, gamma=0.2), "red-diff": REDDiff(weight=0.3)}
"""For eight numbers: those of the authors are for many more."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def levels(steps: int) -> Tensor:
    return sigma_schedule("karras", steps, sigma_min=0.02, sigma_max=15.0).double()


def prior(components: int = 1) -> GaussianMixture:
    """Modes that lie apart along the second and the third column."""
    parts = random(components, 8, 8, seed=2)
    apart = torch.tensor([0.0, 1.0, 1.0, 0.0] * 2).double() * torch.tensor([[-1.0], [1.0]])[:components]
    weights = torch.tensor([0.6, 0.4], dtype=torch.float64)[:components]
    return GaussianMixture(weights / weights.sum(), apart, 0.05 * parts @ parts.mT + 0.05 * torch.eye(8))


def matrix_of(measurement: Measurement) -> Tensor:
    return measurement.apply(torch.eye(8, dtype=torch.float64).reshape(8, *SHAPE)).flatten(1).T


def drawn(
    solver: object, measurement: Measurement, b: Tensor, count: int, p: GaussianMixture, steps: int = 40
) -> Tensor:
    """(count, 8) with the observation b."""
    z = 15 * random(count, *SHAPE, seed=9)
    end = posterior_sample(z, p, Observation(measurement, b, NOISE), levels(steps), solver=solver, rng=rng(1))
    return end.flatten(1)


# --- all of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flipped:
    """A planted error: what it says has the other sign."""

    measurement: Measurement

    def apply(self, y: Tensor) -> Tensor:
        return -self.measurement.apply(y)

    def adjoint(self, u: Tensor) -> Tensor:
        return -self.measurement.adjoint(u)

    def inverse(self, u: Tensor) -> Tensor:
        return -self.measurement.inverse(u)  # type: ignore[attr-defined]

    def singular(self, y: Tensor) -> Tensor:
        return self.measurement.singular(y)  # type: ignore[attr-defined]


@pytest.mark.parametrize("measurement", [HALF, Pool(2)], ids=["mask", "pool"])
@pytest.mark.parametrize("name", INVERSE_SOLVERS)
def test_it_comes_near_the_mean_of_a_gaussian_posterior(name: str, measurement: Measurement) -> None:
    """By at least half of the prior's own distance; with a planted sign error it goes away from it."""
    p = prior()
    b = measurement.apply(p.sample(1, rng=rng(5)).reshape(-1, *SHAPE) * 1.5)
    wanted = conditioned(p, matrix_of(measurement), b, NOISE).mean()
    away = (p.mean() - wanted).norm()
    solver = TUNED.get(name, name)
    assert (drawn(solver, measurement, b, 300, p).mean(0) - wanted).norm() < 0.5 * away
    assert (drawn(solver, Flipped(measurement), b, 300, p).mean(0) - wanted).norm() > away


@pytest.mark.parametrize("name", INVERSE_SOLVERS)
def test_a_mode_that_the_measurement_excludes_is_not_drawn(name: str) -> None:
    """Both modes, from either measurement; the prior alone would give .6 and .4."""
    p, seen = prior(2), Mask(torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(2, 4))
    for mode, sign in ((0, -1.0), (1, 1.0)):
        b = seen.apply(sign * torch.ones(1, *SHAPE).double())
        assert conditioned(p, matrix_of(seen)[[1, 5]], b.flatten()[[1, 5]], NOISE).weights[mode] > 0.99
        found = drawn(TUNED.get(name, name), seen, b, 200, p)
        right = (found[:, [2, 6]].mean(1).sign() == sign).double().mean()
        assert right > 0.75, (name, mode)


@pytest.mark.parametrize("name", WALKS)
def test_rows_are_each_their_own_and_counted(name: str) -> None:
    """A batch is the loop, back-passes are counted, and nothing is differentiated outside."""
    p, z, steps = prior(2), 15 * random(3, *SHAPE), 5
    observation = observe(random(3, *SHAPE, seed=3), HALF, NOISE, rng())
    counter = Backwards(p)
    solver = INVERSE_SOLVERS[name]()
    together = posterior_sample(z, counter, observation, levels(steps), solver=name, rng=[rng(i) for i in range(3)])
    assert counter.rows == steps * solver.rows * len(z) and not together.requires_grad
    for i in range(3):
        one = Observation(HALF, observation.b[i : i + 1], NOISE)
        alone = posterior_sample(z[i : i + 1], p, one, levels(steps), solver=solver, rng=[rng(i)])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-9)
    inside = list(posterior_steps(z, p, observation, levels(steps), solver, rng(0)))
    assert [level for level, _, _ in inside] == levels(steps)[1:].tolist()
    with torch.inference_mode():
        again = posterior_sample(z, p, observation, levels(steps), solver=solver, rng=rng(0))
    torch.testing.assert_close(again, inside[-1][1])


class Backwards(RowCounter):
    """Counts the rows that gradients go back through, too."""

    def __call__(self, z: Tensor, sigma: object) -> Tensor:
        found = super().__call__(z, sigma)  # type: ignore[arg-type]
        if found.requires_grad:
            found.register_hook(lambda gradient: setattr(self, "rows", self.rows + len(gradient)))
        return found


@pytest.mark.parametrize("kept", [1.0, unit_share], ids=["ODE", "renoised"])
def test_temperature_scales_what_is_drawn_about_the_mean(kept: object) -> None:
    """Of a Gaussian, whose gain is exact: at 0 the posterior's mean; else that much of what 1 draws, to rounding."""
    p = prior()
    b = HALF.apply(p.sample(1, rng=rng(5)).reshape(-1, *SHAPE) * 1.5)
    seen, noise = Observation(HALF, b, NOISE), 15 * random(6, *SHAPE, seed=9)

    def at(temperature: float) -> Tensor:
        told = {"solver": Kalman(8), "rng": rng(1), "kept": kept, "temperature": temperature}
        return posterior_sample(temperature * noise, p, seen, levels(60), **told).flatten(1)

    mean, half, whole = at(0.0), at(0.5), at(1.0)
    wanted = conditioned(p, matrix_of(HALF), b, NOISE).mean()
    assert torch.allclose(mean, mean[:1].expand_as(mean)), "nothing is drawn"
    assert (mean[0] - wanted).norm() < 0.02 * (p.mean() - wanted).norm()
    torch.testing.assert_close(half - mean, 0.5 * (whole - mean), rtol=0.01, atol=0.01 * float((whole - mean).std()))
    assert (whole - mean).std() > 0.1


@pytest.mark.parametrize("name", [name for name in GAINS if name not in WALKS])
def test_a_gain_walks_as_dreamsampler_or_as_the_ode(name: str) -> None:
    """The ODE's samples spread as the posterior does; renoised ones lie closer, the more so the more steps."""
    p = prior()
    b = HALF.apply(p.sample(1, rng=rng(5)).reshape(-1, *SHAPE))
    spread = conditioned(p, matrix_of(HALF), b, NOISE).covariances[0].diagonal()[[2, 3, 6, 7]].mean()

    def variance(steps: int, **options: object) -> float:
        z, seen = 15 * random(400, *SHAPE, seed=9), Observation(HALF, b, NOISE)
        end = posterior_sample(z, p, seen, levels(steps), solver=name, rng=rng(1), **options)
        return float(end.flatten(1)[:, [2, 3, 6, 7]].var(0).mean() / spread)

    renoised = [variance(steps) for steps in (20, 80)]
    assert renoised[1] < renoised[0] < variance(20, kept=1.0)
    if name == "kalman":
        assert variance(80, kept=1.0) == pytest.approx(1, abs=0.15)


# --- DPS and PSLD -----------------------------------------------------------------------------------------------------


def published_dps(z: Tensor, p: GaussianMixture, observation: Observation, zeta: float, noises: Tensor) -> Tensor:
    """Chung et al. 2023, Alg. 1, in their coordinates x = sqrt(abar) z, with DDPM's own coefficients."""
    sigmas = levels(len(noises))
    x = z / math.hypot(1, float(sigmas[0]))
    for sigma, following, noise in zip(sigmas[:-1], sigmas[1:], noises, strict=True):
        abar, before = 1 / (1 + sigma**2), 1 / (1 + following**2)
        alpha = abar / before
        leaf = x.clone().requires_grad_()
        clean = p(leaf / abar.sqrt(), float(sigma))
        lost = sum(observation.missing(clean).flatten(1).norm(dim=1))
        (slope,) = torch.autograd.grad(lost, leaf)
        mean = alpha.sqrt() * (1 - before) / (1 - abar) * x + before.sqrt() * (1 - alpha) / (1 - abar) * clean
        spread = ((1 - before) / (1 - abar) * (1 - alpha)).sqrt()
        x = (mean + spread * noise - zeta * slope).detach()
    return x


def test_dps_is_the_published_one_in_its_own_coordinates() -> None:
    p, z, steps = prior(2), 15 * random(4, *SHAPE), 12
    observation = observe(random(4, *SHAPE, seed=3), HALF, NOISE, rng())
    noises, zeta = random(steps, 4, *SHAPE, seed=4), 0.1
    drawn_in_turn = iter(noises)
    ours = DPS(zeta * steps / 1000 / math.sqrt(8 / SIZE))
    found = posterior_sample(z, p, observation, levels(steps), solver=ours, rng=InTurn(drawn_in_turn))  # type: ignore[arg-type]
    torch.testing.assert_close(found, published_dps(z, p, observation, zeta, noises), rtol=1e-9, atol=1e-9)
    assert (found - published_dps(z, p, observation, -zeta, noises)).abs().max() > 0.1


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_pigdm_is_the_published_one_in_its_own_coordinates(eta: float) -> None:
    """Song et al. 2023, Alg. 1, in x = sqrt(abar) z, with the pseudo-inverse of a mask that is known without noise."""
    p, z, steps = prior(2), 15 * random(4, *SHAPE), 12
    observation = observe(random(4, *SHAPE, seed=3), HALF, 0.0, rng())
    sigmas, noises = levels(steps), random(steps, 4, *SHAPE, seed=4)
    x = z / math.hypot(1, float(sigmas[0]))
    for sigma, following, noise in zip(sigmas[:-1], sigmas[1:], noises, strict=True):
        abar, before = 1 / (1 + sigma**2), 1 / (1 + following**2)
        leaf = x.clone().requires_grad_()
        clean = p(leaf / abar.sqrt(), float(sigma))
        said = ((x - abar.sqrt() * clean) / (1 - abar).sqrt()).detach()
        (g,) = torch.autograd.grad((HALF.apply(observation.b - clean).detach() * clean).sum(), leaf)
        fresh = eta * ((1 - before) / (1 - abar) * (1 - abar / before)).sqrt()
        kept = (1 - before - fresh**2).clamp(min=0).sqrt()
        x = (before.sqrt() * clean + fresh * noise + kept * said + (before * abar).sqrt() * g).detach()
    ours = PiGDM(eta=eta)
    drawn_in_turn = iter(noises)
    found = posterior_sample(z, p, observation, sigmas, solver=ours, rng=InTurn(drawn_in_turn))  # type: ignore[arg-type]
    torch.testing.assert_close(found, x, rtol=1e-7, atol=1e-7)


class InTurn(GivenNoise):
    """Noise that was drawn before, a part a step."""

    def __init__(self, parts: Iterator[Tensor]) -> None:
        object.__setattr__(self, "parts", parts)

    @property
    def noise(self) -> Tensor:  # type: ignore[override]
        return next(self.parts)  # type: ignore[attr-defined]


@pytest.mark.parametrize("solver", [DPS(20.0, eta=0.0), PSLD(2.0, 0.2)], ids=["dps", "psld"])
def test_the_strength_does_not_depend_on_the_steps_nor_on_the_size(solver: DPS | PSLD) -> None:
    """The end of a walk under other numbers of steps; and of two pictures of which one is twice the other."""
    p, z = prior(), 15 * random(4, *SHAPE)
    observation = observe(random(4, *SHAPE, seed=3), HALF, NOISE, rng())
    ends = [posterior_sample(z, p, observation, levels(steps), solver=solver) for steps in (100, 200, 400)]
    plain = posterior_sample(z, p, Observation(HALF, observation.b, 1e9), levels(400), solver=DPS(0.0, eta=0.0))
    moved = (ends[2] - plain).norm()
    assert (ends[1] - ends[2]).norm() < 0.25 * moved and (ends[0] - ends[2]).norm() < 0.4 * moved

    def twice(y: Tensor, sigma: object) -> Tensor:
        return torch.cat([p(part, sigma) for part in y.chunk(2, dim=2)], dim=2)  # type: ignore[arg-type]

    tall = Observation(Mask(torch.cat([HALF.mask, HALF.mask], dim=2)), torch.cat([observation.b] * 2, dim=2), NOISE)
    double = posterior_sample(torch.cat([z, z], dim=2), twice, tall, levels(100), solver=solver)
    torch.testing.assert_close(double, torch.cat([ends[0]] * 2, dim=2), rtol=1e-6, atol=1e-6)


def test_psld_without_an_autoencoder_is_dps() -> None:
    """A hard mask: |A^+ (b - A D)| = |b - A D|, so omega and gamma add up."""
    p, z = prior(2), 15 * random(4, *SHAPE)
    observation = Observation(HALF, HALF.apply(random(4, *SHAPE, seed=3)), NOISE)
    psld = posterior_sample(z, p, observation, levels(10), solver=PSLD(0.5, 0.2))
    dps = posterior_sample(z, p, observation, levels(10), solver=DPS(0.7 * math.sqrt(SIZE / PSLD_SIZE), eta=0.0))
    torch.testing.assert_close(psld, dps, rtol=1e-8, atol=1e-8)


def test_psld_glues_to_what_the_encoder_gives_back() -> None:
    """A decoder that shows every other number: gamma alone moves exactly the numbers that are seen, and known."""
    p, z = prior(), 15 * random(4, *SHAPE)
    shown = torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    through = Decoded(HALF, lambda x: x * shown, lambda picture: picture * shown)
    y = random(4, *SHAPE, seed=3)
    (_, _, free), *_ = posterior_steps(z, p, observe(y, HALF), levels(1), PSLD(0.0, 0.0))
    observation = Observation(through, through.apply(y))

    def glue(x: Tensor) -> Tensor:
        picture = x * shown
        glued = (picture + HALF.inverse(observation.b - HALF.apply(picture))) * shown
        return (x - glued).flatten(1).norm(dim=1)

    sigma = float(levels(1)[0])
    slope = slope_of(lambda at: glue(ask(p, at, sigma)), z)
    length = 1000 * math.sqrt(8 / PSLD_SIZE) * math.hypot(1, sigma)
    found = posterior_sample(z, p, observation, levels(1), solver=PSLD(0.0, 0.1))
    torch.testing.assert_close(found, free - 0.1 * length * slope, rtol=1e-9, atol=1e-9)


# --- DDRM -------------------------------------------------------------------------------------------------------------


def spectral_ddrm(
    z: Tensor, p: GaussianMixture, observation: Observation, solver: DDRM, noises: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Kawar et al. 2022, Eqs. 7 and 8, coordinate by coordinate of a dense SVD."""
    d = math.prod(shape)
    matrix = observation.measurement.apply(torch.eye(d).double().reshape(d, *shape)).flatten(1).T
    u, s, vh = torch.linalg.svd(matrix, full_matrices=True)
    s = torch.cat([s, torch.zeros(d - len(s)).double()])
    seen = s > 1e-9
    b = (observation.b.flatten(1) @ u)[:, : len(s)]
    b = torch.nn.functional.pad(b, (0, d - b.shape[1])) / torch.where(seen, s, 1.0)
    t = observation.noise / torch.where(seen, s, 1.0)
    keep = math.sqrt(1 - solver.eta**2)

    def told(y: Tensor, level: float, xi: Tensor) -> Tensor:
        better = (1 - solver.eta_b) * y + solver.eta_b * b
        better = better + (level**2 - (solver.eta_b * t) ** 2).clamp(min=0).sqrt() * xi
        worse = y + keep * level * (b - y) / t.clamp(min=1e-30) + solver.eta * level * xi
        return torch.where(t <= level, better, worse)

    noises = noises.flatten(2) @ vh.T
    state = z.flatten(1) @ vh.T
    sigmas = levels(len(noises) - 1)
    begun = b + (sigmas[0] ** 2 - t**2).clamp(min=0).sqrt() * noises[0]
    state = torch.where(seen & (t <= sigmas[0]), begun, state)
    for sigma, following, xi in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), noises[1:], strict=True):
        y = p(state @ vh, sigma) @ vh.T
        free = y + following * (keep * (state - y) / sigma + solver.eta * xi)
        state = torch.where(seen, told(y, following, xi), free)
    return (state @ vh).reshape(z.shape)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("solver", [DDRM(), DDRM(0.5, 0.7)], ids=["default", "other"])
@pytest.mark.parametrize(
    "measurement", [HALF, Mask(torch.rand(2, 4)), Pool(2), Grey()], ids=["mask", "soft", "pool", "grey"]
)
def test_ddrm_is_the_spectral_one(measurement: Measurement, solver: DDRM, noise: float) -> None:
    shape, steps = ((3, 1, 2) if isinstance(measurement, Grey) else SHAPE), 8
    d = math.prod(shape)
    part = random(d, d, seed=2)
    p = GaussianMixture(torch.ones(1).double(), random(1, d), (0.1 * part @ part.T + 0.1 * torch.eye(d))[None])
    z, noises = 15 * random(4, *shape), random(steps + 1, 4, *shape, seed=4)
    observation = observe(random(4, *shape, seed=3), measurement, noise, rng())
    found = posterior_sample(z, p, observation, levels(steps), solver=solver, rng=InTurn(iter(noises)))  # type: ignore[arg-type]
    wanted = spectral_ddrm(z, p, observation, solver, noises, shape)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    if noise:
        wrong = Observation(measurement, observation.b, 2 * noise)
        assert (spectral_ddrm(z, p, wrong, solver, noises, shape) - found).abs().max() > 1e-3


@pytest.mark.parametrize("noise", [0.1, 20.0], ids=["better", "worse"])
@pytest.mark.parametrize("eta_b", [0.0, 0.5, 1.0])
def test_ddrm_starts_with_the_noise_of_its_first_level(eta_b: float, noise: float) -> None:
    """Whatever eta_b, and where the measurement is worse than that: the model is asked what has a deviation of 15."""
    asked, draws = [], 4000

    def model(z: Tensor, sigma: float | Tensor) -> Tensor:
        asked.append(z)
        return z

    seen = Observation(HALF, HALF.apply(torch.zeros(1, *SHAPE).double()), noise)
    next(posterior_steps(15 * random(draws, *SHAPE), model, seen, levels(2), solver=DDRM(eta_b=eta_b), rng=rng(3)))
    wanted = torch.full(SHAPE, math.sqrt(15.0**2)).double()
    if noise < 15:
        wanted[..., :2] = math.sqrt(15.0**2 - noise**2)
    assert bool((asked[0].std(dim=0) / wanted - 1).abs().max() < 4 / math.sqrt(2 * draws))


def test_ddrm_keeps_what_is_measured_without_noise() -> None:
    p, y = prior(2), random(4, *SHAPE, seed=3)
    found = posterior_sample(15 * random(4, *SHAPE), p, observe(y, Pool(2)), levels(8), solver="ddrm", rng=rng())
    torch.testing.assert_close(Pool(2).apply(found), Pool(2).apply(y), rtol=0, atol=1e-12)


# --- RED-diff ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_red_diff_ends_at_its_fixed_point(weight: float) -> None:
    """p = N(m, c), A = 1: (v b + omega m)/(v + omega); the posterior's mean only for omega / v = s^2 / c."""
    m, c, b, sigma, count = 1.0, 0.25, -1.0, 0.8, 4000
    p = GaussianMixture(*(torch.tensor(part).double() for part in ([1.0], [[m]], [[[c]]])))
    everything = Mask(torch.ones(1, 1))
    z = torch.zeros(count, 1, 1, 1).double()
    sigmas = torch.linspace(sigma, sigma - 1e-6, 401, dtype=torch.float64)

    def end(observation: Observation) -> float:
        solver = REDDiff(weight=weight, lr=0.02)
        return float(posterior_sample(z, p, observation, sigmas, solver=solver, rng=rng()).mean())

    omega = weight * sigma**2 / (c + sigma**2)
    seen = Observation(everything, torch.full((1, 1, 1, 1), b).double(), math.sqrt(omega * c))
    wanted = (b + omega * m) / (1 + omega)
    assert end(seen) == pytest.approx(wanted, abs=0.02)
    exact = conditioned(p, torch.ones(1, 1).double(), torch.tensor([b]), seen.noise).mean()
    assert wanted == pytest.approx(float(exact), abs=1e-9), "its weight was chosen for this noise"
    other = conditioned(p, torch.ones(1, 1).double(), torch.tensor([b]), 2 * seen.noise).mean()
    assert abs(end(Observation(everything, seen.b, 2 * seen.noise)) - float(other)) > 0.1, "and it does not look at it"


def test_red_diff_is_sds_with_the_weight_sigma_where_nothing_is_measured() -> None:
    """Its gradient there is sigma (eps - n) / d; Adam's first step is its sign."""
    p, z = prior(2), 15 * random(4, *SHAPE)
    nothing = Observation(Mask(torch.zeros(2, 4)), torch.zeros(1, *SHAPE).double())
    noise, sigma = random(4, *SHAPE, seed=4), 1.3
    sigmas = torch.tensor([sigma, 0.0]).double()
    found = posterior_sample(z, p, nothing, sigmas, solver=REDDiff(lr=0.1), rng=GivenNoise(noise))
    eps = (sigma * noise - p(sigma * noise, sigma)) / sigma
    torch.testing.assert_close(found, -0.1 * (sigma * (eps - noise)).sign(), rtol=1e-5, atol=1e-5)


# --- what is refused --------------------------------------------------------------------------------------------------


class Fixed:
    """A denoiser that autograd may not go through."""

    differentiable = False

    def __call__(self, z: Tensor, sigma: object) -> Tensor:
        return z.detach()


Y = torch.zeros(1, 3, 8, 8)


def run(
    solver: object,
    measurement: Measurement | None = None,
    denoiser: object = lambda z, _: 0.9 * z,
    temperature: float = 1.0,
) -> Tensor:
    measurement = measurement or Mask(torch.ones(8, 8))
    observation = Observation(measurement, measurement.apply(Y) + 1)
    told = {"solver": solver, "rng": rng(), "temperature": temperature}
    return posterior_sample(Y, denoiser, observation, torch.tensor([1.0, 0.0]), **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run("none"), "solver: got 'none'"),
        (lambda: run("dps", denoiser=Fixed()), "solver: 'dps' goes backwards through the denoiser, and Fixed"),
        (lambda: run("psld", denoiser=Fixed()), "solver: 'psld' goes backwards"),
        (lambda: run("pigdm", denoiser=Fixed()), "solver: 'pigdm' goes backwards"),
        (lambda: PosteriorDenoiser(Fixed(), observe(Y, Pool(2)), "pigdm")(Y, 1.0), "gain: 'pigdm' goes backwards"),
        (lambda: run("dps", denoiser=lambda z, _: z.detach()), "has no gradient with respect to x"),
        (lambda: run("red-diff", Decoded(Mask(torch.ones(8, 8)), lambda x: x.detach())), "has no gradient"),
        (lambda: run("ddrm", Blur(1.0)), "'ddrm' with Blur, which has no singular values"),
        (lambda: run("ddrm", Decoded(Pool(2))), "'ddrm' with Decoded"),
        (lambda: run("kalman", Decoded(Pool(2))), "Pool of a decoded latent is not linear"),
        (lambda: run("proximal", Decoded(Pool(2))), "Pool of a decoded latent is not linear"),
        (lambda: posterior_steps(Y, Fixed(), "b", torch.tensor([1.0, 0.0])), "observation: got 'b'"),
        (lambda: run("kalman", temperature=2.0), "temperature: got 2"),
        (lambda: run("ddrm", temperature=0.5), "temperature: got 0.5 with a solver that walks by itself"),
        (lambda: posterior_steps(Y, Fixed(), observe(Y, Pool(2)), torch.tensor([0.0, 1.0])), "sigmas: entry 1"),
        (lambda: run("ddrm", Observed()), "b: got shape"),
        (lambda: DPS(-1.0), "zeta: got -1.0"),
        (lambda: PSLD(eta=2.0), "eta: got 2.0"),
        (lambda: DDRM(eta=1.5), "eta: got 1.5"),
        (lambda: REDDiff(lr=0.0), "lr: got 0.0"),
        (lambda: RESTORERS.made("solver", "kalman"), "solver: got 'kalman'"),
    ],
)
def test_wrong_input(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        call()


class Observed(Mask):
    """Says something else the second time."""

    def __init__(self) -> None:
        super().__init__(torch.ones(8, 8))
        object.__setattr__(self, "asked", [])

    def apply(self, y: Tensor) -> Tensor:
        self.asked.append(1)  # type: ignore[attr-defined]
        return y if len(self.asked) > 1 else y[..., :4]  # type: ignore[attr-defined]


def test_which_take_a_decoded_latent() -> None:
    assert set(RESTORERS) == {"proximal", "dps", "psld", "red-diff"} < set(INVERSE_SOLVERS)
    for name in set(RESTORERS) - {"proximal"}:
        assert bool(run(name, Decoded(Pool(2), lambda x: 0.5 * x, lambda p: 2 * p)).isfinite().all())
