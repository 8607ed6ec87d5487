"""What is known of a picture: operators and their transposes, and gains against the closed form of a mixture."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, ProductDenoiser, ddim_sample, sigma_schedule
from msd_core.denoiser import RowCounter, Wrapped
from msd_core.measurement import MEASUREMENTS, Observation, observe
from msd_core.measurement.blur import Blur
from msd_core.measurement.grey import Grey
from msd_core.measurement.mask import Mask
from msd_core.measurement.pool import Pool
from msd_core.posterior import GAINS, PosteriorDenoiser
from msd_core.posterior.kalman import Kalman
from msd_core.posterior.pigdm import PiGDM
from msd_core.posterior.proximal import Proximal

pytestmark = pytest.mark.core
SOFT = torch.rand(8, 12, generator=torch.Generator().manual_seed(1)).round(decimals=1)
OPERATORS = {
    "mask": Mask((SOFT > 0.4).float()),
    "soft mask": Mask(SOFT),
    "pool": Pool(4),
    "blur": Blur(1.3),
    "grey": Grey(),
}


@dataclass(frozen=True)
class Dense:
    """Any matrix A (m, d), on points (B, d)."""

    matrix: Tensor

    def apply(self, y: Tensor) -> Tensor:
        return y @ self.matrix.T

    def adjoint(self, u: Tensor) -> Tensor:
        return u @ self.matrix

    def inverse(self, u: Tensor) -> Tensor:
        return u @ torch.linalg.pinv(self.matrix).T


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Stated(Wrapped):
    """A denoiser that says the deviation of its data."""

    denoiser: GaussianMixture
    data_std: float

    def __call__(self, z: Tensor, sigma: object) -> Tensor:
        return self.denoiser(z, sigma)


def mixture(components: int, dimensions: int = 3) -> GaussianMixture:
    """Asymmetric, and its covariances do not commute with A."""
    parts = random(components, dimensions, dimensions, seed=2)
    covariances = 0.05 * parts @ parts.mT + 0.05 * torch.eye(dimensions)
    weights = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)[:components]
    return GaussianMixture(weights / weights.sum(), 1.5 * random(components, dimensions, seed=3), covariances)


A = Dense(random(2, 3, seed=4))


def exact(p: GaussianMixture, z: Tensor, sigma: float, observation: Observation) -> Tensor:
    """E[y | z, b] in closed form: each component's, weighted by how well it says z and b."""
    matrix, eye = observation.measurement.matrix, torch.eye(z.shape[1], dtype=z.dtype)
    rows = []
    for point, b in zip(z, observation.b.expand(len(z), -1), strict=True):
        both = torch.cat([eye, matrix])
        noise = torch.diag(torch.tensor([sigma**2] * 3 + [observation.noise**2] * len(b), dtype=torch.float64))
        seen, logs, means = torch.cat([point, b]), [], []
        for weight, mean, covariance in zip(p.weights, p.means, p.covariances, strict=True):
            spread = both @ covariance @ both.T + noise
            logs.append(weight.log() + torch.distributions.MultivariateNormal(both @ mean, spread).log_prob(seen))
            means.append(mean + covariance @ both.T @ torch.linalg.solve(spread, seen - both @ mean))
        rows.append((torch.stack(logs).softmax(0)[:, None] * torch.stack(means)).sum(0))
    return torch.stack(rows)


# --- operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_the_adjoint_is_the_transpose(name: str) -> None:
    measurement = OPERATORS[name]
    y = random(2, 3, 8, 12)
    b = measurement.apply(y)
    u = random(*b.shape, seed=1)
    torch.testing.assert_close((b * u).sum(), (y * measurement.adjoint(u)).sum(), rtol=1e-12, atol=0)
    assert measurement.adjoint(u).shape == y.shape


@pytest.mark.parametrize("name", [name for name, one in OPERATORS.items() if hasattr(one, "inverse")])
def test_the_inverse_is_the_pseudo_inverse(name: str) -> None:
    """A A^+ A = A, and A^+ gives nothing that A does not see."""
    measurement, y = OPERATORS[name], random(1, 3, 8, 12)
    b = measurement.apply(y)
    torch.testing.assert_close(measurement.apply(measurement.inverse(b)), b, rtol=1e-6, atol=1e-6)
    hidden = y - measurement.inverse(b)
    torch.testing.assert_close((measurement.inverse(b) * hidden).sum(), torch.zeros(()).double(), rtol=0, atol=1e-5)


def test_what_operators_do() -> None:
    y = random(1, 3, 8, 12)
    torch.testing.assert_close(Pool(4).apply(y)[0, 1, 1, 2], y[0, 1, 4:, 8:].mean())
    flat = torch.ones(1, 3, 5, 7).double()
    torch.testing.assert_close(Blur(4.0).apply(flat), flat, rtol=0, atol=1e-12)
    point = torch.zeros(1, 1, 31, 31).double()
    point[..., 15, 15] = 1
    spread = Blur(2.0).apply(point)[0, 0]
    torch.testing.assert_close(spread[15, 17] / spread[15, 15], torch.tensor(-0.5).exp().double(), rtol=1e-6, atol=0)
    assert Grey().apply(torch.ones(1, 3, 2, 2)).allclose(torch.ones(1, 1, 2, 2))
    noisy = observe(y, Pool(2), 0.5, torch.Generator().manual_seed(0))
    assert float((noisy.b - Pool(2).apply(y)).std()) == pytest.approx(0.5, rel=0.2) and noisy.noise == 0.5
    assert set(MEASUREMENTS) == {"mask", "pool", "blur", "grey"} and MEASUREMENTS["pool"] is Pool


# --- gains ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.1, 1.0, 20.0])
def test_kalman_is_exact_for_a_gaussian(sigma: float) -> None:
    p, z = mixture(1), random(4, 3, seed=6)
    observation = Observation(A, random(4, 2, seed=7), 0.3)
    found = PosteriorDenoiser(p, observation, Kalman(steps=2, floor=0.0))(z, sigma)
    torch.testing.assert_close(found, exact(p, z, sigma, observation), rtol=1e-7, atol=1e-7)
    wrong = Observation(Dense(-A.matrix), observation.b, 0.3)
    assert (PosteriorDenoiser(p, wrong, Kalman(steps=2, floor=0.0))(z, sigma) - found).abs().max() > 0.01
    one = PosteriorDenoiser(p, observation, Kalman(steps=1, floor=0.0))(z, sigma)
    assert (one - found).abs().max() > 1e-4, "one step of two is not the solution"


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_kalman_is_the_dense_solution_with_the_model_s_own_covariance(sigma: float) -> None:
    """On a mixture, with a step a measurement and C = sigma^2 dD/dz by autograd; with one step, or r^2, it is not."""
    p, z = mixture(3), random(4, 3, seed=6)
    observation = Observation(A, random(4, 2, seed=7), 0.3)
    wanted = []
    for row, b in zip(z, observation.b, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda at: p(at[None], sigma)[0], row)
        seen = sigma**2 * A.matrix @ jacobian @ A.matrix.T + 0.09 * torch.eye(2)
        denoised = p(row[None], sigma)[0]
        missing = torch.linalg.solve(seen, b - A.matrix @ denoised)
        wanted.append(denoised + sigma**2 * jacobian @ A.matrix.T @ missing)
    found = PosteriorDenoiser(p, observation, Kalman(steps=2, floor=0.0, difference=1e-4))(z, sigma)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-3, atol=1e-3)
    for other in (Kalman(steps=1, floor=0.0, difference=1e-4), Proximal()):
        assert (PosteriorDenoiser(p, observation, other)(z, sigma) - found).abs().max() > 0.02


def test_the_proximal_step_is_kalman_s_for_an_isotropic_gaussian() -> None:
    """C = c I and A with orthogonal rows: r^2 = sigma^2 c / (c + sigma^2)."""
    c, sigma, z = 0.4, 1.3, random(4, 3, seed=6)
    p = GaussianMixture(torch.ones(1).double(), random(1, 3), c * torch.eye(3).double()[None])
    rows = Dense(torch.linalg.qr(random(3, 3, seed=8))[0][:2])
    observation = Observation(rows, random(4, 2, seed=7), 0.3)
    error = (sigma**2 * c / (c + sigma**2)) ** 0.5
    kalman = PosteriorDenoiser(p, observation, Kalman(steps=1, floor=0.0))(z, sigma)
    torch.testing.assert_close(
        PosteriorDenoiser(p, observation, Proximal(error))(z, sigma), kalman, rtol=1e-8, atol=1e-8
    )
    other = PosteriorDenoiser(p, observation, Proximal(1.2 * error))(z, sigma)
    assert (other - kalman).abs().max() > 0.01


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_proximal_step_knows_the_deviation_of_the_data(noise: float) -> None:
    """Exact for Gaussian data of .5 about any mean, with its own r; taken for data of 1 it is not."""
    c, sigma, z = 0.25, 1.3, random(4, 3, seed=6)
    p = GaussianMixture(torch.ones(1).double(), random(1, 3), c * torch.eye(3).double()[None])
    observation = Observation(A, random(4, 2, seed=7), noise)
    stated = Stated(p, c**0.5)
    found = PosteriorDenoiser(stated, observation, Proximal())(z, sigma)
    torch.testing.assert_close(found, exact(p, z, sigma, observation), rtol=1e-6, atol=1e-6)
    if noise:
        assert (PosteriorDenoiser(p, observation, Proximal())(z, sigma) - found).abs().max() > 0.01


def test_the_proximal_step_overwrites_or_leaves_alone() -> None:
    p, z = mixture(3), random(4, 3, seed=6)
    observation = Observation(A, random(4, 2, seed=7), 0.3)
    sure, unsure = (PosteriorDenoiser(p, observation, Proximal(error))(z, 1.0) for error in (1e-4, 1e4))
    torch.testing.assert_close(sure, p(z, 1.0), rtol=0, atol=1e-6)
    torch.testing.assert_close(A.apply(unsure), observation.b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gain", GAINS)
def test_a_gain_with_nothing_to_say_and_one_with_all(gain: str) -> None:
    p, z = mixture(3), random(4, 3, seed=6)
    said = PosteriorDenoiser(p, Observation(A, A.apply(p(z, 1.0)), 0.2), gain)
    torch.testing.assert_close(said(z, 1.0), p(z, 1.0), rtol=1e-9, atol=1e-9)
    truth = random(4, 3, seed=9)
    told = PosteriorDenoiser(p, observe(truth, Dense(torch.eye(3).double())), gain)(z, 1.0)
    if gain != "pigdm":
        torch.testing.assert_close(told, truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 2.0])
def test_kalman_is_nearer_to_the_truth_than_the_others(sigma: float) -> None:
    """On a mixture none is exact; the order is that of the errors of one evaluation."""
    p, y = mixture(3), samples(256)
    z, observation = y + sigma * random(256, 3, seed=13), observe(y, A, 0.1, torch.Generator().manual_seed(5))
    truth = exact(p, z, sigma, observation)

    def error(gain: object) -> float:
        return float((PosteriorDenoiser(p, observation, gain)(z, sigma) - truth).square().mean().sqrt())  # type: ignore[arg-type]

    errors = {"none": float((p(z, sigma) - truth).square().mean().sqrt())}
    errors |= {"kalman": error(Kalman(floor=0.0)), "proximal": error("proximal")}
    assert errors["kalman"] < errors["proximal"] < errors["none"], errors


def samples(count: int) -> Tensor:
    """Points of the mixture."""
    p = mixture(3)
    which = torch.multinomial(p.weights, count, replacement=True, generator=torch.Generator().manual_seed(0))
    shapes = torch.linalg.cholesky(p.covariances)[which]
    return p.means[which] + (shapes @ random(count, 3, 1, seed=12))[..., 0]


def test_a_measurement_of_all_is_the_product_density() -> None:
    """A = I: D_post is the denoiser of p(y) N(y; b, s^2)."""
    p, z, b = mixture(1), random(4, 3, seed=6), random(4, 3, seed=7)
    observation = Observation(Dense(torch.eye(3).double()), b, 0.4)
    found = PosteriorDenoiser(p, observation, Kalman(steps=3, floor=0.0))(z, 0.7)
    torch.testing.assert_close(found, ProductDenoiser(p, b, 0.4)(z, 0.7), rtol=1e-7, atol=1e-7)


def test_the_proximal_step_is_its_closed_form_and_a_mask_s_is_one_step() -> None:
    p, z = mixture(3), random(4, 3, seed=6)
    observation, sigma, s = Observation(A, random(4, 2, seed=7), 0.3), 1.5, 0.3
    r2, matrix, d = sigma**2 / (1 + sigma**2), A.matrix, p(z, sigma)
    inner = r2 * matrix @ matrix.T + s**2 * torch.eye(2)
    wanted = d + r2 * (torch.linalg.solve(inner, (observation.b - d @ matrix.T).T)).T @ matrix
    torch.testing.assert_close(PosteriorDenoiser(p, observation, "proximal")(z, sigma), wanted, rtol=1e-7, atol=1e-7)
    seen = Observation(Dense(torch.eye(3).double()[:2]), observation.b, 0.3)
    few, many = (PosteriorDenoiser(p, seen, Proximal(steps=n))(z, sigma) for n in (1, 20))
    torch.testing.assert_close(few, many, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d", [1.0, 0.5])
def test_pigdm_is_its_closed_form(d: float) -> None:
    p, z = mixture(1), random(2, 3, seed=6)
    observation, sigma = Observation(A, random(2, 2, seed=7), 0.3), 1.5
    r2 = d**2 * sigma**2 / (d**2 + sigma**2)
    jacobian = p.covariances[0] @ torch.linalg.inv(p.covariances[0] + sigma**2 * torch.eye(3))
    inner = r2 * A.matrix @ A.matrix.T + 0.3**2 * torch.eye(2)
    missing = observation.b - p(z, sigma) @ A.matrix.T
    wanted = p(z, sigma) + r2 * torch.linalg.solve(inner, missing.T).T @ A.matrix @ jacobian
    found = PosteriorDenoiser(Stated(p, d), observation, PiGDM())(z, sigma)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("gain", GAINS)
def test_rows_are_each_their_own_and_counted(gain: str) -> None:
    p, z = mixture(3), random(4, 3, seed=6)
    observation = Observation(A, random(4, 2, seed=7), 0.2)
    counter = RowCounter(p)
    posterior = PosteriorDenoiser(counter, observation, gain)
    levels = torch.tensor([0.3, 1.0, 2.0, 5.0], dtype=torch.float64)
    together = posterior(z, levels)
    assert counter.rows == (posterior.cost - (gain == "pigdm")) * len(z), "whose backward pass is a row more"
    for i, level in enumerate(levels):
        alone = PosteriorDenoiser(p, Observation(A, observation.b[i : i + 1], 0.2), gain)(z[i : i + 1], float(level))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-9)


def test_a_sampler_runs_on_it() -> None:
    """Samples of the posterior of a Gaussian have its mean and its covariance."""
    p, count = mixture(1), 4000
    observation = Observation(A, random(1, 2, seed=7), 0.3)
    sigmas = sigma_schedule("karras", 60, sigma_min=0.01, sigma_max=30.0).double()
    posterior = PosteriorDenoiser(p, observation, Kalman(floor=0.0))
    drawn = ddim_sample(30 * random(count, 3, seed=1), posterior, sigmas)
    spread = A.matrix @ p.covariances[0] @ A.matrix.T + 0.09 * torch.eye(2)
    gain = p.covariances[0] @ A.matrix.T @ torch.linalg.inv(spread)
    mean = p.means[0] + (observation.b - p.means[0] @ A.matrix.T)[0] @ gain.T
    covariance = p.covariances[0] - gain @ A.matrix @ p.covariances[0]
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(drawn.T), covariance, rtol=0.15, atol=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mask(2 * torch.ones(4, 4)), "mask: got shape"),
        (lambda: Mask(torch.ones(4, 4)).apply(torch.ones(1, 3, 8, 8)), "mask: got 4x4 for a picture of 8x8"),
        (lambda: Pool(3).apply(torch.ones(1, 3, 8, 8)), "factor: got 3 for a picture of 8x8"),
        (lambda: Blur(0.0), "width: got 0.0"),
        (lambda: Grey().apply(torch.ones(1, 4, 2, 2)), "y: got 4 channels"),
        (lambda: Observation(A, torch.tensor([[float("nan"), 0.0]])), "b: "),
        (lambda: Observation(A, torch.ones(1, 2), -1.0), "noise: got -1.0"),
        (lambda: Observation("mask", torch.ones(1, 2)), "measurement: got 'mask'"),
        (lambda: observe(torch.ones(1, 3).double(), A, 0.1), "rng: got None"),
        (lambda: PosteriorDenoiser(mixture(1), "b"), "observation: got 'b'"),
        (lambda: PosteriorDenoiser(mixture(1), Observation(A, torch.ones(1, 2)), "none"), "gain: got 'none'"),
        (lambda: PosteriorDenoiser(mixture(1), Observation(A, torch.ones(1, 5)))(random(1, 3), 1.0), "b: got shape"),
        (lambda: Kalman(steps=0), "steps: got 0"),
    ],
)
def test_wrong_input(call, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        call()


def test_replacement_needs_a_pseudo_inverse() -> None:
    y = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="'replacement' with Blur"):
        PosteriorDenoiser(lambda z, sigma: z, observe(y, Blur(1.0)), "replacement")(y, 1.0)


@pytest.mark.parametrize(
    ("gain", "message"),
    [
        (lambda *_: None, r"^gain: its result: got None; allowed is a floating-point tensor"),
        (lambda z, *_: z[:, :1], r"^gain: its result: got shape \(1, 1\); allowed is the shape of z"),
    ],
)
def test_what_a_gain_gives_is_checked_at_once(gain: object, message: str) -> None:
    observation = observe(torch.zeros(1, 2), Shown(), 0.1, torch.Generator().manual_seed(0))
    denoiser = PosteriorDenoiser(lambda z, _: 0.9 * z, observation, gain)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        denoiser(torch.zeros(1, 2), 1.0)


class Shown:
    """All of it is seen."""

    def apply(self, y: Tensor) -> Tensor:
        return y

    adjoint = apply
