"""Bandwidths fall from start to end by the named formula; anything that does not fall is refused."""

from __future__ import annotations

import math

import pytest
import torch

from msd_core import BANDWIDTHS, bandwidth_schedule, check_bandwidths

pytestmark = pytest.mark.core
POINTS = [(0.25, 2.0), (0.5, 1.0)]
NAMES = [name for name in BANDWIDTHS if name != "listed"]


def make(name: str, start: float = 3.0, end: float = 0.7, steps: int = 41) -> torch.Tensor:
    return bandwidth_schedule(name, start, end, steps, points=POINTS if name == "piecewise" else None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 3, 400])
def test_shape_ends_and_order(name: str, steps: int) -> None:
    bandwidths = make(name, steps=steps)
    assert bandwidths.shape == (steps,)
    assert bandwidths.dtype == torch.float32
    assert float(bandwidths[0]) == pytest.approx(3.0)
    assert steps == 1 or float(bandwidths[-1]) == pytest.approx(0.7)
    assert bool((bandwidths[1:] < bandwidths[:-1]).all())


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("linear", lambda u: 3 - 2.3 * u),
        ("cosine", lambda u: 0.7 + 2.3 * math.cos(math.pi * u / 2) ** 2),
        ("exponential", lambda u: 3 ** (1 - u) * 0.7**u),
        ("karras", lambda u: (3 ** (1 / 7) * (1 - u) + 0.7 ** (1 / 7) * u) ** 7),
        (
            "piecewise",
            lambda u: (
                3 * (2 / 3) ** (4 * u) if u <= 0.25 else 2 * 0.5 ** (4 * u - 1) if u <= 0.5 else 0.7 ** (2 * u - 1)
            ),
        ),
    ],
)
def test_closed_form(name: str, formula) -> None:  # noqa: ANN001
    expected = torch.tensor([formula(i / 40) for i in range(41)])
    torch.testing.assert_close(make(name), expected, rtol=1e-6, atol=1e-6)
    others = [make(other) for other in NAMES if other != name]
    assert all((other - expected).abs().max() > 0.01 for other in others), "no other name may pass this test"


def test_rho_bends_karras_from_linear_to_exponential() -> None:
    torch.testing.assert_close(bandwidth_schedule("karras", 3, 0.7, 9, rho=1.0), make("linear", steps=9))
    near = bandwidth_schedule("karras", 3, 0.7, 9, rho=1e5)
    torch.testing.assert_close(near, make("exponential", steps=9), rtol=1e-4, atol=0)


def test_piecewise_without_interior_points_is_exponential() -> None:
    for points in ([], [(0.0, 3.0)], [(1.0, 0.7)], [(0, 3), (1, 0.7)]):
        torch.testing.assert_close(
            bandwidth_schedule("piecewise", 3, 0.7, 9, points=points), make("exponential", steps=9)
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linea", 1, 0.1, 5), "name: got 'linea'; allowed are 'linear', 'cosine'"),
        (("linear", 0, 0.1, 5), "start: got 0"),
        (("linear", math.nan, 0.1, 5), "start: got nan"),
        (("linear", 1, 0, 5), "end: got 0"),
        (("linear", 1, -0.1, 5), "end: got -0.1"),
        (("linear", 0.1, 1, 5), "end: got 1 with start 0.1; allowed is end <= start"),
        (("linear", 1, 0.1, 0), "steps: got 0"),
        (("linear", 1, 0.1, 2.5), "steps: got 2.5"),
        (("piecewise", 1, 0.1, 5), "points: got None"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bandwidth_schedule(*arguments)


@pytest.mark.parametrize(
    "points",
    [
        [(0.5, 1.0), (0.25, 2.0)],
        [(0.25, 1.0), (0.5, 2.0)],
        [(0.5, 4.0)],
        [(0.5, 0.1)],
        [(1.5, 1.0)],
        [(-0.5, 2.0)],
        [(0.0, 2.0)],
    ],
)
def test_points_out_of_order_are_refused(points: list) -> None:
    with pytest.raises(ValueError, match="points: got .* fractions rising .* bandwidths falling from start to end"):
        bandwidth_schedule("piecewise", 3, 0.7, 9, points=points)


@pytest.mark.parametrize("name", [name for name in BANDWIDTHS if name not in ("listed", "piecewise")])
@pytest.mark.parametrize(
    "value", [2.0, 0.7, 15.161509037017822, 16.889994621276855]
)  # the last two between numbers of float32
def test_equal_ends_keep_the_bandwidth(name: str, value: float) -> None:
    assert bandwidth_schedule(name, value, value, 40).unique().tolist() == [torch.tensor(value).item()]
    assert (
        bandwidth_schedule("piecewise", 20, value, 5, points=[(0.5, value)]).tolist()[2:] == [pytest.approx(value)] * 3
    )


def test_arguments_of_other_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="points: got .* with the schedule 'linear'"):
        bandwidth_schedule("linear", 3, 0.7, 9, points=POINTS)
    with pytest.raises(ValueError, match="rho: got 0"):
        bandwidth_schedule("karras", 3, 0.7, 9, rho=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0], "entry 1 is 2.0, after 1.0; allowed are values that never rise"),
        ([1.0, 0.0], "entry 1 is 0.0; allowed are finite numbers > 0"),
        ([math.inf, 1.0], "entry 0 is inf"),
        ([1.0, math.nan], "entry 1 is nan"),
        ([], "got shape"),
        ([[1.0]], "got shape"),
    ],
)
def test_other_bandwidths_are_refused(values: list, message: str) -> None:
    with pytest.raises(ValueError, match=f"bandwidths: .*{message}"):
        check_bandwidths(torch.tensor(values))
