"""Curves drawn with Pillow: the pixels say what the values were."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msd_core.plot import _ticks, plot_curves


def rows_of_ink(values: list[float]) -> np.ndarray:
    """For each column of a one-panel plot, the mean row of the curve's blue pixels (nan where there are none)."""
    pixels = np.asarray(plot_curves({"": values}, size=(640, 480)), dtype=int)[27:453, 58:622]
    blue = (pixels[..., 2] - pixels[..., 0]) > 100
    rows = np.arange(len(blue))[:, None]
    count = blue.sum(0)
    return np.where(count > 0, (blue * rows).sum(0) / np.maximum(count, 1), np.nan)


def test_an_exponential_is_a_straight_falling_line() -> None:
    rows = rows_of_ink([10 ** (-k / 20) for k in range(61)])
    columns = np.arange(len(rows))
    slope, offset = np.polyfit(columns, rows, 1)
    assert slope > 0  # rows grow downwards
    assert np.abs(rows - slope * columns - offset).max() < 2.5


def test_a_rising_curve_rises() -> None:
    assert np.polyfit(np.arange(564), rows_of_ink([-1.0, 0.0, 1.0, 2.0]), 1)[0] < 0


@pytest.mark.parametrize("values", [[], [1.0], [math.nan, math.inf], [2.0, 2.0], [1e-30, 1e30], [0.0, -1.0]])
def test_odd_values_are_drawn(values: list[float]) -> None:
    assert plot_curves({"a": values, "b": [1.0, 2.0]}).size == (640, 480)


@pytest.mark.parametrize(
    ("low", "high", "logarithmic"), [(-0.2, 0.5, True), (-3, 1.2, True), (-30, 30, True), (-7, 12, False)]
)
def test_ticks_are_few_and_inside(low: float, high: float, logarithmic: bool) -> None:
    ticks = _ticks(low, high, logarithmic)
    values = [math.log10(t) for t in ticks] if logarithmic else ticks
    assert 2 <= len(ticks) <= 12
    assert low <= min(values) and max(values) <= high


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="curves: got none"):
        plot_curves({})
