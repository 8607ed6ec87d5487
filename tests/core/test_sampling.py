"""The solvers converge to the true flow with their own order, and draw from the density."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import (
    FlowDenoiser,
    GaussianMixture,
    ddim_sample,
    ddim_steps,
    heun_steps,
    sd15_schedule,
    sigma_schedule,
    with_levels,
)
from msd_core.denoiser import Denoiser, level_at
from msd_core.sampling import chain_levels, check_sigmas

pytestmark = pytest.mark.core
Sampler = Callable[[Tensor, Denoiser, Tensor], Tensor]
STEPS = (16, 32, 64, 128, 256)


def heun_sample(z: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Tensor:
    return list(heun_steps(z, denoiser, sigmas))[-1][1]


def levels(steps: int, high: float = 3.0, low: float = 0.2) -> Tensor:
    return torch.linspace(math.log(high), math.log(low), steps + 1, dtype=torch.float64).exp()


def fitted_order(errors: list[float]) -> float:
    """Slope of log error against log step size, by least squares."""
    x = -torch.tensor(STEPS, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x @ x))


def assert_order(sampler: Sampler, order: int, denoiser: Denoiser, z: Tensor, truth: Tensor) -> None:
    errors = [float((sampler(z, denoiser, levels(steps)) - truth).norm()) for steps in STEPS]
    assert fitted_order(errors) == pytest.approx(order, abs=0.15)


def gaussian() -> GaussianMixture:
    """N(mean, diag(.5, .1)^2), whose flow is known: each deviation shrinks like (s^2 + sigma^2)^(1/2)."""
    variances = torch.tensor([0.5, 0.1], dtype=torch.float64) ** 2
    return GaussianMixture(torch.ones(1).double(), torch.tensor([[0.7, -0.4]]).double(), torch.diag(variances)[None])


def gaussian_flow(z: Tensor, high: float, low: float) -> Tensor:
    variances, mean = torch.tensor([0.25, 0.01], dtype=torch.float64), gaussian().means[0]
    return mean + (z - mean) * ((variances + low**2) / (variances + high**2)).sqrt()


@pytest.mark.parametrize(("sampler", "order"), [(ddim_sample, 1), (heun_sample, 2)])
def test_order_of_convergence(sampler: Sampler, order: int, mixture: GaussianMixture, points: Tensor) -> None:
    assert_order(sampler, order, gaussian(), 3 * points, gaussian_flow(3 * points, 3.0, 0.2))
    reference = heun_sample(3 * points, mixture, levels(1500))
    assert_order(sampler, order, mixture, 3 * points, reference)


def lopsided_heun(z: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Tensor:
    """Heun's step with weights .6 and .4: only first order."""
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        slope = (z - denoiser(z, sigma)) / sigma
        euler = z + (sigma_next - sigma) * slope
        z = z + (sigma_next - sigma) * (0.6 * slope + 0.4 * (euler - denoiser(euler, sigma_next)) / sigma_next)
    return z


def flipped_euler(z: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Tensor:
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        z = z - (sigma_next - sigma) * (z - denoiser(z, sigma)) / sigma
    return z


@pytest.mark.parametrize(
    ("plant", "order"), [(lopsided_heun, 2), (flipped_euler, 1), (ddim_sample, 2), (heun_sample, 1)]
)
def test_planted_errors_fail_the_order(plant: Sampler, order: int, points: Tensor) -> None:
    with pytest.raises(AssertionError):
        assert_order(plant, order, gaussian(), 3 * points, gaussian_flow(3 * points, 3.0, 0.2))


@pytest.mark.parametrize("sampler", [ddim_sample, heun_sample])
def test_a_reparametrised_walk_is_the_same_walk(sampler: Sampler, mixture: GaussianMixture, points: Tensor) -> None:
    """Everything in other units of length: z, sigma and denoised scaled by c."""
    c, sigmas = 7.0, levels(10)
    scaled = sampler(c * points, lambda z, sigma: c * mixture(z / c, sigma / c), c * sigmas)
    torch.testing.assert_close(scaled / c, sampler(points, mixture, sigmas), rtol=1e-9, atol=1e-9)


def assert_draws(sampler: Sampler, steps: int, denoiser: Denoiser, mixture: GaussianMixture) -> None:
    """First and second moments of n draws are those of the mixture, within 4 standard errors."""
    n, sigma = 4000, 80.0
    z = sigma * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = sampler(z, denoiser, sigma_schedule("karras", steps, sigma_min=0.005, sigma_max=sigma))
    for power in (1, 2):
        exact = mixture.sample(100_000, rng=torch.Generator().manual_seed(1)) ** power
        error = (y**power).mean(dim=0) - exact.mean(dim=0)
        assert bool((error.abs() < 4 * exact.std(dim=0) / math.sqrt(n)).all())


@pytest.mark.parametrize(("sampler", "steps"), [(ddim_sample, 200), (heun_sample, 40)])
def test_draws_have_the_density_of_the_mixture(sampler: Sampler, steps: int, mixture: GaussianMixture) -> None:
    assert_draws(sampler, steps, mixture, mixture)


def test_draws_from_the_mirrored_density_fail(mixture: GaussianMixture) -> None:
    with pytest.raises(AssertionError):
        assert_draws(heun_sample, 40, lambda z, sigma: -mixture(-z, sigma), mixture)


@pytest.mark.parametrize("sampler", [ddim_sample, heun_sample])
def test_a_batch_is_its_rows(sampler: Sampler, mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 9, sigma_min=0.01, sigma_max=5.0)
    rows = torch.cat([sampler(row[None], mixture, sigmas) for row in points])
    torch.testing.assert_close(sampler(points, mixture, sigmas), rows, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sampler", [ddim_sample, heun_sample])
def test_gradients_flow_through_the_walk(sampler: Sampler, mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 4, sigma_min=0.1, sigma_max=3.0)
    assert torch.autograd.gradcheck(lambda z: sampler(z, mixture, sigmas), points.clone().requires_grad_())


@pytest.mark.parametrize(("walk", "sampler"), [(ddim_steps, ddim_sample), (heun_steps, heun_sample)])
def test_a_walk_yields_each_step(walk: Callable, sampler: Sampler, mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 5, sigma_min=0.1, sigma_max=3.0)
    seen = list(walk(points, mixture, sigmas))
    assert [sigma for sigma, _, _ in seen] == sigmas.tolist()[1:]
    torch.testing.assert_close(seen[0][2], mixture(points, 3.0))
    assert torch.equal(seen[-1][1], sampler(points, mixture, sigmas))
    assert torch.equal(seen[-1][1], seen[-1][2]), "the step to 0 ends at the prediction"


def test_evaluations(mixture: GaussianMixture, points: Tensor) -> None:
    asked: list[float] = []

    def denoiser(z: Tensor, sigma: float | Tensor) -> Tensor:
        asked.append(float(sigma))
        return mixture(z, sigma)

    sigmas = torch.tensor([2.0, 1.0, 0.5, 0.0])
    ddim_sample(points, denoiser, sigmas)
    assert asked == [2.0, 1.0, 0.5]
    asked.clear()
    heun_sample(points, denoiser, sigmas)
    assert asked == [2.0, 1.0, 1.0, 0.5, 0.5]


def test_the_state_is_never_in_half_precision() -> None:
    z = torch.ones(2, 3, dtype=torch.float16)
    assert ddim_sample(z, lambda z, sigma: 0 * z, torch.tensor([1.0, 0.5])).dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "got shape"),
        ([[1.0, 0.0]], "got shape"),
        ([0.0, 1.0], "entry 1 is 1.0, after 0.0; allowed are strictly decreasing"),
        ([1.0, 1.0, 0.0], "entry 1 is 1.0"),
        ([1.0, -1.0], "entry 1 is -1.0"),
        ([math.inf, 0.0], "entry 0 is inf"),
        ([1.0, math.nan], "entry 1 is nan"),
    ],
)
def test_other_levels_are_refused(values: list, message: str) -> None:
    with pytest.raises(ValueError, match=f"sigmas: .*{message}"):
        check_sigmas(torch.tensor(values))


def test_a_start_without_batch_is_refused(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="z: got"):
        ddim_sample(torch.tensor(1.0), mixture, torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("steps", [1, 7, 999, 1000, 3000])
@pytest.mark.parametrize("chain", ["flow", "shifted flow", "discrete"])
def test_levels_of_a_chain_fall(chain: str, steps: int) -> None:
    """A flow's highest level is finite: of the parts of its chain that have it, one is left."""
    flow = FlowDenoiser(lambda x, t: x, shift=3.0 if chain == "shifted flow" else 1.0)  # noqa: ARG005
    denoiser = with_levels(lambda z, sigma: z, sd15_schedule()) if chain == "discrete" else flow  # noqa: ARG005
    levels = chain_levels(denoiser, steps)
    assert check_sigmas(levels)[-1] == 0 and len(levels) <= steps + 1
    assert len(levels) == steps + 1 or (chain != "discrete" and len(levels) > 0.99 * steps)
    assert float(levels[0]) == pytest.approx(level_at(denoiser, 1.0))
