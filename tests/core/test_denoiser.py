"""Levels of every shape fit every batch; noise and score are the denoiser's own; rows are counted."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from msd_core import (
    GaussianMixture,
    cost,
    differentiable,
    eps,
    expand_sigma,
    score,
    sd15_schedule,
    sigma_range,
    with_levels,
)
from msd_core.denoiser import RowCounter, level_at

pytestmark = pytest.mark.core


@pytest.mark.parametrize("sigma", [0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.full((3,), 0.5)])
def test_every_form_of_sigma_multiplies_a_batch(sigma: float | Tensor) -> None:
    level = expand_sigma(sigma, torch.zeros(3, 4, 8, 8))
    assert level.shape == (3, 1, 1, 1)
    assert bool((level == 0.5).all())


def test_levels_are_never_in_half_precision() -> None:
    assert expand_sigma(1e-6, torch.zeros(2, 3, dtype=torch.float16)).dtype == torch.float32
    assert expand_sigma(1e-6, torch.zeros(2, 3, dtype=torch.float64)).dtype == torch.float64
    z = torch.ones(2, 3, dtype=torch.float16)
    assert bool(torch.isfinite(score(z, 1e-6, torch.zeros(2, 3))).all())


@pytest.mark.parametrize("shape", [(2,), (3, 1), (4, 3)])
def test_a_level_for_other_rows_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sigma: got a tensor of shape .* one level per row, shape \(3,\)"):
        expand_sigma(torch.ones(shape), torch.zeros(3, 5))


def test_noise_and_score_are_those_of_the_density(mixture: GaussianMixture, points: Tensor) -> None:
    sigma = torch.tensor([2.0, 1.0, 0.3, 0.1, 0.03], dtype=torch.float64)
    denoised = mixture(points, sigma)
    truth = mixture.score(points, sigma)
    torch.testing.assert_close(score(points, sigma, denoised), truth, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(eps(points, sigma, denoised), -sigma[:, None] * truth, rtol=1e-9, atol=1e-9)
    flipped = score(points, sigma, 2 * points - denoised)
    assert not torch.allclose(flipped, truth, rtol=0.1, atol=0.1), "a flipped sign must show"


def test_a_plain_callable_costs_one_and_knows_every_level(mixture: GaussianMixture) -> None:
    assert cost(mixture) == 1
    assert sigma_range(mixture) == (0.0, math.inf)


def test_rows_are_counted_with_their_cost(mixture: GaussianMixture, points: Tensor) -> None:
    class Double:
        cost = 2
        sigma_max = 14.6

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return mixture(z, sigma)

    counter = RowCounter(Double())
    torch.testing.assert_close(counter(points, 0.5), mixture(points, 0.5))
    counter(points[:2], 0.5)
    assert counter.rows == 2 * (5 + 2)
    assert sigma_range(counter) == (0.0, 14.6)


def test_a_chain_of_levels(mixture: GaussianMixture, points: Tensor) -> None:
    schedule = sd15_schedule()
    leveled = with_levels(mixture, schedule)
    assert level_at(leveled, 1.0) == pytest.approx(schedule.sigma_max) and level_at(leveled, 0.0) == pytest.approx(
        schedule.sigma_min
    )
    assert level_at(with_levels(mixture, lambda percent: 10 * (1 - percent)), 0.25) == pytest.approx(2.5)
    assert level_at(RowCounter(leveled), 0.5) == level_at(leveled, 0.5)
    assert torch.equal(leveled(points, 0.5), mixture(points, 0.5))
    with pytest.raises(ValueError, match="denoiser: GaussianMixture has no levels of its own.*Pass with_levels"):
        level_at(mixture, 0.5)


def test_a_wrapper_passes_on_what_it_does_not_say(mixture: GaussianMixture) -> None:
    class Limited:
        cost, sigma_min, sigma_max, differentiable = 3, 0.1, 5.0, False

        def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
            return z

    for wrapped in (RowCounter(Limited()), with_levels(Limited(), sd15_schedule())):
        assert cost(wrapped) == 3 and sigma_range(wrapped) == (0.1, 5.0) and not differentiable(wrapped)
        assert not hasattr(wrapped, "parts")
        assert not hasattr(wrapped, "with_cfg") and copy.deepcopy(wrapped).denoiser is not wrapped.denoiser


def test_a_model_of_another_shape_is_refused(points: Tensor) -> None:
    with pytest.raises(ValueError, match=r"denoiser: its result: got shape \(5, 1\)"):
        RowCounter(lambda z, sigma: z[:, :1])(points, 0.5)
