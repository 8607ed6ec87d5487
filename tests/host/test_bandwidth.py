"""Bandwidth Scheduler, and the curve as a step node walks it."""

from __future__ import annotations

import pytest
import torch
from msd_pack.nodes.bandwidth import BandwidthScheduler, spread

CURVE = torch.tensor([8.0, 4.0, 1.0])


def schedule(**inputs: object) -> torch.Tensor:
    settings = {"schedule": "exponential", "start": 3.0, "end": 0.7, "steps": 10, "rho": 7.0, "points": ""}
    with torch.inference_mode():
        return BandwidthScheduler.execute(**settings | inputs).args[0]


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential", "karras"])
def test_it_falls_from_start_to_end(name: str) -> None:
    values = schedule(schedule=name)
    assert values.shape == (10,) and not values.is_inference()
    assert (float(values[0]), float(values[-1])) == (3.0, pytest.approx(0.7))
    assert bool((values[1:] < values[:-1]).all())


def test_points() -> None:
    values = schedule(schedule="piecewise", points="0.5: 2", steps=3)
    assert values.tolist() == pytest.approx([3.0, 2.0, 0.7])
    values = schedule(schedule="piecewise", points="0.25:2, 0.6:1", steps=21)
    assert values[[5, 12]].tolist() == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"start": 0.5}, "allowed is end <= start"),
        ({"schedule": "piecewise", "points": "half:2"}, r"points: got .*, for example 0\.25:2, 0\.6:1"),
        ({"schedule": "piecewise", "points": "0.5"}, r"points: got .*, for example 0\.25:2, 0\.6:1"),
        ({"schedule": "piecewise", "points": "0.5:9"}, "falling from start to end, or equal"),
        ({"points": "0.5:2"}, "allowed are points with 'piecewise'"),
    ],
)
def test_wrong_inputs(inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(**inputs)


def test_a_curve_is_walked_in_any_number_of_steps() -> None:
    assert torch.equal(spread(CURVE, 3), CURVE)
    assert spread(CURVE, 5).tolist() == pytest.approx([8.0, 32**0.5, 4.0, 2.0, 1.0])
    assert spread(CURVE, 2).tolist() == [8.0, 1.0]
    assert spread(CURVE, 1).tolist() == [8.0]
    assert spread(CURVE[:1], 1).tolist() == [8.0] and spread(CURVE[:1], 3).tolist() == [8.0] * 3


def test_the_0_of_a_noise_schedule_is_left_out() -> None:
    ended = torch.cat([CURVE, torch.zeros(1)])
    assert torch.equal(spread(ended, 5), spread(CURVE, 5)) and torch.equal(spread(ended, len(CURVE)), CURVE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 3.0], "never rise"),
        ([0.0], "must lose its last entry"),
        ([3.0, 0.0, 0.0], "must lose its last entry"),
        ([], "shape"),
    ],
)
def test_wrong_bandwidths(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spread(torch.tensor(values), 4)
