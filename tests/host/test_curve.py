"""λ drawn by hand with the host's CURVE, where it has one; where it has none, neither input nor schedule is offered."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_api.latest import io
from msd_pack.nodes import curve as curves
from msd_pack.nodes.bandwidth import BandwidthScheduler
from test_bandwidth import schedule

U = torch.linspace(0, 1, 11, dtype=torch.float64)
drawing = pytest.mark.skipif(not curves.KNOWN, reason="this host has no curves: the type came with 0.16")


def line(*points: tuple[float, float], interpolation: str = "linear") -> dict[str, Any]:
    """What the widget gives."""
    return {"points": [list(point) for point in points], "interpolation": interpolation}


def between(heights: torch.Tensor, start: float = 3.0, end: float = 0.7) -> torch.Tensor:
    """λ at heights on the axis of its logarithm."""
    return (end * (start / end) ** heights).float()


def inputs() -> dict[str, io.Input]:
    return {entry.id: entry for entry in BandwidthScheduler.GET_SCHEMA().inputs}


def test_a_host_without_curves_offers_none() -> None:
    """And a host with them offers both: the widget last, since saved graphs know the others by position."""
    found = inputs()
    assert ("curve" in found) == ("drawn" in found["schedule"].options) == curves.KNOWN == hasattr(io, "Curve")
    if not curves.KNOWN:
        with pytest.raises(ValueError, match="schedule: got 'drawn'; allowed are"):
            schedule(schedule="drawn")
        return
    assert list(found)[-1] == "curve"
    described = found["curve"].as_dict()
    assert described["advanced"] and described["default"]["points"] == [[0.0, 1.0], [1.0, 0.0]]


@drawing
def test_the_widgets_own_curve_is_exponential() -> None:
    default = inputs()["curve"].as_dict()["default"]
    drawn, expected = schedule(schedule="drawn", curve=default), schedule(schedule="exponential")
    assert torch.allclose(drawn, expected, rtol=1e-6) and not drawn.is_inference()


@drawing
def test_a_broken_line_is_log_linear_between_its_points() -> None:
    given = line((0, 1), (0.3, 0.25), (1, 0))
    heights = torch.where(U <= 0.3, 1 - 2.5 * U, 0.25 * (1 - U) / 0.7)
    drawn = schedule(schedule="drawn", steps=11, curve=given)
    assert torch.allclose(drawn, between(heights), rtol=1e-5)
    assert not torch.allclose(drawn, between(1 - U), rtol=0.1), "a curve that is not read would be seen"


@drawing
@pytest.mark.parametrize("interpolation", ["linear", "monotone_cubic"])
def test_it_is_the_hosts_own_curve(interpolation: str) -> None:
    """From the widget as from a Curve Editor, through the same points, at any number of steps."""
    from comfy_api.input import CurveInput

    given = line((0, 1), (0.2, 0.8), (0.6, 0.1), (1, 0), interpolation=interpolation)
    connected = CurveInput.from_raw(given)
    heights = torch.tensor([connected.interp(u) for u in U.tolist()], dtype=torch.float64)
    for curve in (given, connected):
        assert torch.allclose(schedule(schedule="drawn", steps=11, curve=curve), between(heights), rtol=1e-5)
    fine = schedule(schedule="drawn", steps=41, curve=given)
    assert torch.allclose(fine[::4], between(heights), rtol=1e-5) and bool((fine[1:] < fine[:-1]).all())
    assert schedule(schedule="drawn", steps=1, curve=given).tolist() == [3.0]


@drawing
def test_a_level_stretch_keeps_the_bandwidth() -> None:
    assert schedule(schedule="drawn", steps=5, curve=line((0.5, 1), (1, 0)))[:3].tolist() == [3.0] * 3


@drawing
def test_the_node_draws_it() -> None:
    """Another curve, another picture in the node."""
    shown = []
    for middle in (0.3, 0.9):
        made = BandwidthScheduler.execute(
            "drawn", 20, start=3.0, end=0.7, rho=7.0, points="", curve=line((0, 1), (0.5, middle), (1, 0))
        )
        shown.append(made.ui.as_dict()["images"][0]["filename"])
    assert len(set(shown)) == 2


@drawing
@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (None, "curve: not given, with the schedule 'drawn'; allowed are points"),
        (line((0, 1), (0.5, 0.2), (0.7, 0.6), (1, 0)), "curve: at .* allowed is a curve that never rises"),
        (line((0, 0), (1, 1)), "curve: at .* allowed is a curve that never rises"),
        (line((0, 1.5), (1, 0)), r"curve: at 0 of the run it is at 1\.5; allowed are heights"),
        (line(), "curve: got .*; allowed are points"),
        ({"points": "none"}, "curve: got {'points': 'none'}; allowed are points"),
        ({"curve": 1}, "curve: got .*; allowed are points"),
        ([[0, 1, 2]], "curve: got .*; allowed are points"),
        (7, "curve: got 7; allowed are points"),
    ],
)
def test_wrong_curves_are_refused(curve: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(schedule="drawn", curve=curve)


@drawing
def test_a_curve_that_nothing_uses() -> None:
    """The widget's is left alone, as `rho` is; a connected one is refused, as points are."""
    from comfy_api.input import CurveInput

    given = line((0, 1), (0.5, 0.2), (1, 0))
    assert torch.equal(schedule(schedule="linear", curve=given), schedule(schedule="linear"))
    with pytest.raises(ValueError, match="curve: connected, with the schedule 'linear'; allowed is one with 'drawn'"):
        schedule(schedule="linear", curve=CurveInput.from_raw(given))
    with pytest.raises(ValueError, match=r"points: got '0\.5:2' with the schedule 'drawn'"):
        schedule(schedule="drawn", curve=given, points="0.5:2")
