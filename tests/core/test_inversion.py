"""Inversion walks the flow upwards: to the true noise with order 1, and back to the picture."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from msd_core import (
    INVERSIONS,
    AncestralStep,
    ExplicitStep,
    GaussianMixture,
    GivenNoise,
    Trajectory,
    ddim_invert,
    ddim_sample,
    invert,
    sigma_schedule,
)
from msd_core.denoiser import Denoiser

pytestmark = pytest.mark.core
STEPS = (32, 64, 128, 256)


def levels(steps: int) -> Tensor:
    """Log-spaced from 3 down to a first level that shrinks with the step, then 0."""
    return torch.cat([torch.linspace(math.log(3), math.log(0.64 / steps), steps).exp(), torch.zeros(1)]).double()


def slope(errors: list[float]) -> float:
    x = torch.tensor(STEPS, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    return float(-((x - x.mean()) @ (y - y.mean())) / (x - x.mean()).square().sum())


def gaussian() -> GaussianMixture:
    return GaussianMixture(
        torch.ones(1).double(),
        torch.tensor([[0.7, -0.4]]).double(),
        torch.diag(torch.tensor([0.25, 0.09]).double())[None],
    )


def assert_inverts(denoiser: Denoiser, points: Tensor) -> None:
    """Order 1 towards the Gaussian's closed-form flow, z - m = (x - m)(1 + sigma^2 / s^2)^(1/2)."""
    mean, variances = torch.tensor([0.7, -0.4]).double(), torch.tensor([0.25, 0.09]).double()
    errors = []
    for steps in STEPS:
        trajectory = ddim_invert(points, denoiser, levels(steps))
        for sigma in (0.3, 3.0):
            truth = mean + (points - mean) * (1 + sigma**2 / variances).sqrt()
            errors.append(float((trajectory.at(min(sigma, float(trajectory.sigmas[-1]))) - truth).norm()))
    assert slope(errors[::2]) == pytest.approx(1, abs=0.25)
    assert slope(errors[1::2]) == pytest.approx(1, abs=0.25)


def test_order_of_convergence(points: Tensor) -> None:
    assert_inverts(gaussian(), points)


def test_a_flipped_sign_fails_the_order(points: Tensor) -> None:
    with pytest.raises(AssertionError):
        assert_inverts(lambda z, sigma: 2 * z - gaussian()(z, sigma), points)


def test_round_trip(smooth: GaussianMixture, points: Tensor) -> None:
    """Re-sampling on the same levels gives x back, with an error of first order in the step."""
    errors = []
    for steps in STEPS:
        sigmas = levels(steps)
        noisy = ddim_invert(points, smooth, sigmas).states[-1]
        errors.append(float((ddim_sample(noisy, smooth, sigmas) - points).norm()))
    assert errors[-1] < 0.06
    assert slope(errors) == pytest.approx(1, abs=0.25)


def test_round_trip_through_the_wrong_model_fails(smooth: GaussianMixture, points: Tensor) -> None:
    sigmas = levels(256)
    noisy = ddim_invert(points, smooth, sigmas).states[-1]
    assert (ddim_sample(noisy, gaussian(), sigmas) - points).norm() > 0.3


def test_the_trajectory_holds_every_state(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 9, sigma_min=0.02, sigma_max=5.0)
    trajectory = ddim_invert(points, mixture, sigmas)
    assert torch.equal(trajectory.sigmas, sigmas.flip(0))
    assert trajectory.states.shape == (10, *points.shape)
    assert torch.equal(trajectory.states[0], points)
    assert trajectory.evaluations == 9 * len(points)
    for sigma, state in zip(trajectory.sigmas.tolist(), trajectory.states, strict=True):
        torch.testing.assert_close(trajectory.at(sigma), state)
    low, high = trajectory.sigmas[3:5].tolist()
    torch.testing.assert_close(
        trajectory.at(0.75 * low + 0.25 * high), 0.75 * trajectory.states[3] + 0.25 * trajectory.states[4]
    )
    with pytest.raises(FrozenInstanceError):
        trajectory.evaluations = 0  # type: ignore[misc]


def test_either_order_of_levels(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 9, sigma_min=0.02, sigma_max=5.0)
    down, up = ddim_invert(points, mixture, sigmas), ddim_invert(points, mixture, sigmas.flip(0))
    assert torch.equal(down.states, up.states)
    assert torch.equal(down.sigmas, up.sigmas)


def test_the_first_step_asks_at_the_first_level(points: Tensor) -> None:
    asked: list[float] = []

    def denoiser(z: Tensor, sigma: float | Tensor) -> Tensor:
        asked.append(float(sigma))
        return 0.5 * z

    trajectory = ddim_invert(points, denoiser, torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64))
    assert asked == [0.1, 0.1]
    torch.testing.assert_close(trajectory.states[1], points + 0.5 * points)


def test_a_batch_is_its_rows(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 9, sigma_min=0.02, sigma_max=5.0)
    rows = torch.cat([ddim_invert(row[None], mixture, sigmas).states for row in points], dim=1)
    torch.testing.assert_close(ddim_invert(points, mixture, sigmas).states, rows, rtol=1e-9, atol=1e-12)


def test_it_is_detached_and_at_least_float32(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    assert not ddim_invert(points.clone().requires_grad_(), mixture, sigmas).states.requires_grad
    assert ddim_invert(points.half(), mixture, sigmas).states.dtype == torch.float32


def test_levels_outside_the_trajectory_are_refused(mixture: GaussianMixture, points: Tensor) -> None:
    trajectory = Trajectory(torch.tensor([0.1, 1.0]), torch.zeros(2, 1, 3))
    for sigma in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="sigma: got .* allowed is 0.1 to 1, the levels of this trajectory"):
            trajectory.at(sigma)
    with pytest.raises(ValueError, match="sigmas: entry"):
        ddim_invert(points, mixture, torch.tensor([0.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match="x: got"):
        ddim_invert(torch.zeros(3, dtype=torch.int64), mixture, torch.tensor([1.0, 0.0]))


STEP_NAMES = [name for name, kind in INVERSIONS.items() if not hasattr(kind, "walk")]


@pytest.mark.parametrize("name", STEP_NAMES)
def test_every_step_is_one_of_the_walk(name: str, smooth: GaussianMixture, points: Tensor) -> None:
    """Default instance; pure; a level per row is each row's own, to ten times the residual of a solved step."""
    step, levels = INVERSIONS[name](), torch.tensor([0.2, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)

    def call(z: Tensor, above: float | Tensor, seed: int = 0) -> Tensor:
        return step(z, smooth, 0.1, above, torch.Generator().manual_seed(seed))

    together = call(points, levels)
    assert torch.equal(together, call(points, levels)) and hash(step) == hash(INVERSIONS[name]())
    drawn = torch.randn(points.shape, generator=torch.Generator().manual_seed(0), dtype=points.dtype)
    for i, above in enumerate(levels.tolist()):
        alone = step(points[i : i + 1], smooth, 0.1, above, GivenNoise(drawn[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=10 * getattr(step, "tolerance", 1e-13))
    trajectory = invert(points, smooth, torch.tensor([0.0, 0.1, 0.4, 1.0]), step, torch.Generator().manual_seed(0))
    assert trajectory.evaluations >= 3 * len(points) and torch.equal(trajectory.states[0], points)


def test_the_explicit_steps_take_one_evaluation(mixture: GaussianMixture, points: Tensor) -> None:
    for step in (ExplicitStep(), AncestralStep()):
        trajectory = invert(points, mixture, torch.tensor([0.0, 0.1, 0.4, 1.0]), step, torch.Generator().manual_seed(0))
        assert trajectory.evaluations == 3 * len(points)


def test_an_ancestral_step_without_noise_is_the_explicit_one(mixture: GaussianMixture, points: Tensor) -> None:
    sigmas = sigma_schedule("karras", 9, sigma_min=0.02, sigma_max=5.0)
    explicit, quiet = (invert(points, mixture, sigmas, step) for step in (ExplicitStep(), AncestralStep(0.0)))
    assert torch.equal(explicit.states, quiet.states) and torch.equal(
        explicit.states, ddim_invert(points, mixture, sigmas).states
    )
    noisy = invert(points, mixture, sigmas, AncestralStep(0.3), torch.Generator().manual_seed(0))
    assert torch.equal(noisy.states[1], explicit.states[1]), "the step from 0 adds none"
    assert (noisy.states[-1] - explicit.states[-1]).abs().max() > 0.1


def test_a_step_that_draws_needs_a_source_and_a_fraction(mixture: GaussianMixture, points: Tensor) -> None:
    with pytest.raises(ValueError, match="rng: got None, and no noise"):
        invert(points, mixture, torch.tensor([1.0, 0.5, 0.0]), AncestralStep(0.3))
    for eta in (-0.1, math.nan):
        with pytest.raises(ValueError, match="eta: got"):
            AncestralStep(eta)
