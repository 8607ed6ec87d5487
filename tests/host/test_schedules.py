"""msd_core's schedules under the host's names have the host's values."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from msd_pack.msd_core.schedule import SIGMA_SCHEDULES, sd15_schedule, sigma_schedule
from tiny_models import tiny_model

SAMPLING = tiny_model("eps").get_model_object("model_sampling")


def ours(name: str, steps: int) -> torch.Tensor:
    return sigma_schedule(name, steps, schedule=sd15_schedule())


def test_every_name_is_one_of_the_host_s() -> None:
    assert set(SIGMA_SCHEDULES) <= set(comfy.samplers.SCHEDULER_NAMES)


def test_levels_of_sd15() -> None:
    assert torch.allclose(sd15_schedule().sigmas, SAMPLING.sigmas, rtol=1e-5)


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
@pytest.mark.parametrize("steps", [2, 7, 20, 50, 333])
def test_values(name: str, steps: int) -> None:
    theirs = comfy.samplers.calculate_sigmas(SAMPLING, name, steps)
    assert ours(name, steps).shape == theirs.shape
    assert torch.allclose(ours(name, steps), theirs, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
def test_one_step(name: str) -> None:
    assert torch.allclose(ours(name, 1), comfy.samplers.calculate_sigmas(SAMPLING, name, 1), rtol=2e-5)


@pytest.mark.parametrize("percent", [0.02, 0.5, 0.98])
def test_percent_to_sigma(percent: float) -> None:
    assert sd15_schedule().percent_to_sigma(percent) == pytest.approx(SAMPLING.percent_to_sigma(percent), rel=1e-5)


def test_a_wrong_schedule_would_be_seen() -> None:
    assert not torch.allclose(ours("karras", 20), comfy.samplers.calculate_sigmas(SAMPLING, "normal", 20), rtol=1e-2)
