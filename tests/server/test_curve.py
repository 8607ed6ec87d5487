"""A drawn λ in a real server: from the node's own widget and from the host's Curve Editor; saved with the graph."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser import Browser
from comfy_server import Server
from test_pack_in_server import queued

POINTS = {"points": [[0, 1], [0.25, 0.3], [1, 0]], "interpolation": "linear"}
WIDGETS = {"start": 8.0, "end": 0.5, "steps": 5, "rho": 7.0, "points": ""}
DRAWN = """(() => {
    const node = LiteGraph.createNode("MSD_BandwidthScheduler");
    app.graph.clear(), app.graph.add(node);
    const widget = name => node.widgets.find(widget => widget.name === name);
    widget("schedule").value = "drawn";
    widget("curve").value = %s;
    const saved = app.graph.serialize();
    app.graph.clear();
    return app.loadGraphData(saved);
})()"""


def scheduler(**inputs: object) -> dict:
    """Graph of a scheduler and of what tells its bandwidths."""
    return {
        "1": {"class_type": "MSD_BandwidthScheduler", "inputs": WIDGETS | inputs},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }


def told(entry: dict) -> list[float]:
    """The bandwidths as the host writes them."""
    return [float(number) for number in re.findall(r"\d+\.\d+", entry["outputs"]["2"]["text"][0])]


@pytest.fixture
def curves(server: Server) -> bool:
    """Whether the host has curves; one that has none refuses them by name."""
    if "CurveEditor" in server.json("/object_info"):
        return True
    answer = server.post("/prompt", {"prompt": scheduler(schedule="drawn", curve=POINTS)})
    assert "schedule: 'drawn' not in" in json.dumps(answer), answer
    known = server.json("/object_info/MSD_BandwidthScheduler")["MSD_BandwidthScheduler"]["input"]
    assert "curve" not in known["optional"]
    return False


def test_a_drawn_bandwidth_from_the_widget_and_from_the_curve_editor(server: Server, curves: bool) -> None:
    """Log-linear through (0, 8), (1/4, 8^.3 (1/2)^.7), (1, 1/2)."""
    if not curves:
        return
    expected = [0.5 * 16**height for height in (1, 0.3, 0.2, 0.1, 0)]
    own = server.run(scheduler(schedule="drawn", curve=POINTS))
    assert told(own) == pytest.approx(expected, abs=1e-4)
    graph = scheduler(schedule="drawn", curve=["3", 0])
    graph["3"] = {"class_type": "CurveEditor", "inputs": {"curve": POINTS}}
    connected = server.run(graph)
    assert told(connected) == told(own) and server.image(connected, "1") == server.image(own, "1")
    assert server.image(own, "1") != server.image(server.run(scheduler(schedule="exponential")), "1")


def test_a_drawn_bandwidth_is_saved_with_the_graph(server: Server, curves: bool, chromium: str, tmp_path: Path) -> None:
    """And queued as it was drawn after the graph is opened again."""
    if not curves:
        return
    browser = Browser(chromium, tmp_path / "profile")
    try:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_for("!!(window.app && app.graph && window.LiteGraph.registered_node_types.MSD_SDSStep)")
        browser.evaluate(DRAWN % json.dumps(POINTS))
        (node,) = queued(browser).values()
        assert node["inputs"]["schedule"] == "drawn" and node["inputs"]["curve"] == POINTS
    finally:
        browser.close()
