"""Stable Diffusion's levels, and every list of levels against its own formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import SIGMA_SCHEDULES, DiscreteSchedule, sd15_schedule, sigma_schedule
from msd_core.schedule import exponential_sigmas, karras_sigmas

pytestmark = pytest.mark.core
SD15 = sd15_schedule()
TRAINED_ONLY = ("normal", "sgm_uniform")


def test_stable_diffusion_levels() -> None:
    assert SD15.sigmas.shape == (1000,)
    assert SD15.sigma_min == pytest.approx(0.0292, abs=5e-5)
    assert SD15.sigma_max == pytest.approx(14.6146, abs=5e-5)
    for percent, sigma in ((0.02, 12.97), (0.5, 1.62), (0.98, 0.138)):
        assert SD15.percent_to_sigma(percent) == pytest.approx(sigma, rel=3e-3)
    ends = (SD15.percent_to_sigma(0), SD15.percent_to_sigma(1))
    assert ends == pytest.approx((SD15.sigma_max, SD15.sigma_min), rel=1e-6)


def test_sigma_is_the_noise_to_signal_ratio() -> None:
    a = SD15.alphas_cumprod
    torch.testing.assert_close(a.sqrt() * SD15.sigmas.double(), (1 - a).sqrt(), rtol=1e-6, atol=0)


def test_timestep_undoes_sigma() -> None:
    t = torch.linspace(0, 999, 3331)
    torch.testing.assert_close(SD15.timestep(SD15.sigma(t)), t, rtol=0, atol=2e-3)
    assert torch.equal(SD15.timestep(SD15.sigmas).round(), torch.arange(1000.0))
    middle = math.sqrt(float(SD15.sigmas[400]) * float(SD15.sigmas[401]))
    assert float(SD15.timestep(middle)) == pytest.approx(400.5, abs=1e-3)
    assert SD15.timestep(torch.ones(2, 3)).shape == (2, 3)


def test_its_table_is_moved_to_a_device_once() -> None:
    schedule, meta = sd15_schedule(), torch.device("meta")
    kept = schedule._log_sigmas(meta)
    assert kept.device == meta and schedule._log_sigmas(meta) is kept
    here = schedule._log_sigmas(torch.device("cpu"))
    assert torch.equal(here, schedule.sigmas.log())
    schedule.timestep(1.0)
    schedule.sigma(3)
    assert schedule._log_sigmas(torch.device("cpu")) is here


def test_levels_outside_the_trained_ones_get_the_nearest_end() -> None:
    assert float(SD15.timestep(1e-4)) == 0
    assert float(SD15.timestep(1e4)) == 999
    assert float(SD15.sigma(-1.0)) == pytest.approx(SD15.sigma_min, rel=1e-6)
    assert float(SD15.sigma(5000)) == pytest.approx(SD15.sigma_max, rel=1e-6)


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_every_schedule_falls_to_zero(name: str, steps: int) -> None:
    sigmas = sigma_schedule(name, steps, schedule=SD15)
    assert sigmas.dtype == torch.float32
    assert sigmas[-1] == 0
    assert bool((sigmas[1:] < sigmas[:-1]).all())
    assert sigmas.shape == (steps + 1,)
    assert float(sigmas[0]) == pytest.approx(SD15.sigma_max, rel=1e-6)


def formula(name: str, i: int, n: int) -> float:
    """The i-th of n levels, from the words of the module's docstring."""
    low, high, u = SD15.sigma_min, SD15.sigma_max, i / (n - 1)
    if name == "karras":
        return (high ** (1 / 7) * (1 - u) + low ** (1 / 7) * u) ** 7
    if name == "exponential":
        return high ** (1 - u) * low**u
    if name == "normal":
        return float(SD15.sigma(999 * (1 - u)))
    return float(SD15.sigma(999 * (1 - i / n)))  # sgm_uniform


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
def test_every_schedule_follows_its_formula(name: str) -> None:
    expected = torch.tensor([formula(name, i, 20) for i in range(20)] + [0.0])
    torch.testing.assert_close(sigma_schedule(name, 20, schedule=SD15), expected, rtol=2e-5, atol=1e-6)


def test_a_schedule_with_another_formula_fails() -> None:
    wrong = torch.tensor([formula("karras", i, 20) for i in range(20)] + [0.0])
    assert not torch.allclose(sigma_schedule("exponential", 20, schedule=SD15), wrong, rtol=0.01)


def test_ranges_can_be_given_without_a_schedule() -> None:
    assert torch.equal(sigma_schedule("karras", 9, sigma_min=0.01, sigma_max=5.0), karras_sigmas(9, 0.01, 5.0))
    assert torch.equal(
        sigma_schedule("exponential", 9, sigma_min=0.01, sigma_max=5.0), exponential_sigmas(9, 0.01, 5.0)
    )
    partly = sigma_schedule("exponential", 9, schedule=SD15, sigma_max=5.0)
    assert float(partly[0]) == pytest.approx(5.0)
    assert float(partly[-2]) == pytest.approx(SD15.sigma_min)


@pytest.mark.parametrize(
    "alphas",
    [
        torch.ones(5),
        torch.tensor([0.5, 0.9]),
        torch.tensor([0.5, 0.0]),
        torch.tensor([1.0, 0.5]),
        torch.ones(2, 2),
        "linear",
    ],
)
def test_a_schedule_that_does_not_fall_is_refused(alphas: Tensor) -> None:
    with pytest.raises(ValueError, match="alphas_cumprod: got"):
        DiscreteSchedule(alphas)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "krras", "steps": 5}, "name: got 'krras'; allowed are 'karras', 'exponential'"),
        ({"name": "karras", "steps": 0}, "steps: got 0"),
        ({"name": "karras", "steps": 5.0}, "steps: got 5.0"),
        ({"name": "karras", "steps": 5, "sigma_max": 3.0}, "sigma_min, sigma_max: got None, 3.0"),
        ({"name": "karras", "steps": 5, "sigma_min": 5.0, "sigma_max": 3.0}, "sigma_min: got 5.0 with sigma_max 3.0"),
        ({"name": "karras", "steps": 5, "sigma_min": 0.0, "sigma_max": 3.0}, "sigma_min: got 0.0"),
        ({"name": "normal", "steps": 5}, "schedule: got None"),
        ({"name": "normal", "steps": 5, "schedule": SD15, "sigma_max": 3.0}, "picks trained levels"),
        ({"name": "normal", "steps": 1001, "schedule": SD15}, "steps: got 1001; allowed are at most 1000"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sigma_schedule(**arguments)


@pytest.mark.parametrize("percent", [-0.1, 1.1, math.nan])
def test_a_percent_outside_the_chain_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent: got"):
        SD15.percent_to_sigma(percent)
