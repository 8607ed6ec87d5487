"""A curve drawn by hand: its heights are shares of log lambda, and whatever does not fall is refused."""

from __future__ import annotations

import math

import pytest
import torch

from msd_core import bandwidth_schedule
from msd_core.drawn import drawn_bandwidths

pytestmark = pytest.mark.core
STEPS = 21
U = torch.linspace(0, 1, STEPS, dtype=torch.float64)


def test_closed_form() -> None:
    """Heights (1 - u)^2 between 8 and 1/2: a quarter of the way up is 1, half is 2."""
    drawn = drawn_bandwidths((1 - U) ** 2, 8.0, 0.5)
    assert drawn.dtype == torch.float32 and drawn.shape == (STEPS,)
    assert (float(drawn[0]), float(drawn[10]), float(drawn[-1])) == (8.0, pytest.approx(1.0), 0.5)
    expected = torch.tensor([0.5 * 16 ** ((1 - u) ** 2) for u in U.tolist()])
    torch.testing.assert_close(drawn, expected, rtol=1e-6, atol=0)
    assert (drawn_bandwidths((1 - U) ** 2.1, 8.0, 0.5) - expected).abs().max() > 0.01, "another curve would be seen"


def test_a_straight_line_is_exponential() -> None:
    torch.testing.assert_close(
        drawn_bandwidths(1 - U, 8.0, 0.7), bandwidth_schedule("exponential", 8.0, 0.7, STEPS), rtol=1e-6, atol=0
    )


def test_a_broken_line_is_piecewise() -> None:
    """Log-linear between its corners, as the points of "piecewise" are."""
    line = torch.where(U < 0.25, 1 - 3 * U, (1 - U) / 3)
    points = [(0.25, 0.7 * (8 / 0.7) ** 0.25)]
    expected = bandwidth_schedule("piecewise", 8.0, 0.7, STEPS, points=points)
    torch.testing.assert_close(drawn_bandwidths(line, 8.0, 0.7), expected, rtol=1e-6, atol=0)


def test_it_scales_with_its_ends() -> None:
    """The same curve in another unit of the latent, and in any container."""
    curve = (1 - U) ** 3
    torch.testing.assert_close(drawn_bandwidths(curve, 4.0, 0.35), 0.5 * drawn_bandwidths(curve, 8.0, 0.7))
    for same in (curve.tolist(), curve.numpy(), curve.float()):
        torch.testing.assert_close(drawn_bandwidths(same, 8.0, 0.7), drawn_bandwidths(curve, 8.0, 0.7))


def test_a_curve_may_begin_below_start_and_end_above_end() -> None:
    drawn = drawn_bandwidths([0.75, 0.5, 0.25], 16.0, 1.0)
    assert drawn.tolist() == pytest.approx([8.0, 4.0, 2.0])
    assert drawn_bandwidths([1.0], 3.0, 0.7).tolist() == [3.0]


def test_a_level_stretch_keeps_the_bandwidth() -> None:
    assert drawn_bandwidths([1.0, 0.5, 0.5, 0.0], 4.0, 1.0).tolist() == [4.0, 2.0, 2.0, 1.0]
    assert drawn_bandwidths([1.0, 0.3, 0.0], 2.0, 2.0).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([1.0, 0.5, 0.6, 0.0], r"at 0\.667 of the run it is at 0\.6, after 0\.5; allowed is a curve that never rises"),
        ([0.0, 1.0], "at 1 of the run it is at 1, after 0"),
        ([1.2, 0.0], r"at 0 of the run it is at 1\.2; allowed are heights from 0, which is end, to 1"),
        ([1.0, -0.1], r"at 1 of the run it is at -0\.1"),
        ([1.0, math.nan], "at 1 of the run it is at nan"),
        ([], "got"),
        ([[1.0, 0.0]], "got shape"),
        ("falling", "got 'falling'"),
    ],
)
def test_wrong_curves_are_refused(curve: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"curve: .*{message}"):
        drawn_bandwidths(curve, 8.0, 0.7)


def test_wrong_ends_are_refused() -> None:
    with pytest.raises(ValueError, match=r"end: got 8\.0 with start 7\.0"):
        drawn_bandwidths([1.0, 0.0], 7.0, 8.0)
    with pytest.raises(ValueError, match="start: got 0"):
        drawn_bandwidths([1.0, 0.0], 0.0, 8.0)
