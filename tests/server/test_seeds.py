"""The seed of a node that was just added stays: the same graph, queued again, goes on from where it was stopped.

The front end would draw another after each run. It puts its control below every seed, whatever the node says: what the
node says is how that is set. On a host that knows no such choice nothing is changed.
"""

from __future__ import annotations

import pytest
from browser import Browser
from comfy_server import Server

SEEDED = (
    "MSD_MeanShiftDistillStep",
    "MSD_SDSStep",
    "MSD_NeuralImageGenerator",
    "MSD_VectorGenerator",
    "MSD_PixelArtGenerator",
    "MSD_StickerGenerator",
    "MSD_VolumeGenerator",
    "MSD_MeanShiftRefine",
    "MSD_DDIMInversion",
)
ADDED = """(() => {
    const node = LiteGraph.createNode(%r);
    app.graph.clear(), app.graph.add(node);
    const at = node.widgets.findIndex(widget => widget.name === "seed");
    const before = node.widgets[at].value, values = node.serialize().widgets_values;
    node.widgets.forEach(widget => widget.afterQueued?.());
    return [node.widgets[at + 1].value, before, node.widgets[at].value, values[at + 1], values.length];
})()"""
SAVED = """(async () => {
    const node = LiteGraph.createNode("MSD_MeanShiftDistillStep");
    app.graph.clear(), app.graph.add(node);
    const own = node => node.widgets.find(widget => widget.name === "fixed" && typeof widget.value === "boolean");
    own(node).value = true;
    node.widgets.find(widget => widget.name === "seed").value = 7;
    const saved = JSON.parse(JSON.stringify(app.graph.serialize()));
    app.graph.clear();
    await app.loadGraphData(saved);
    const back = app.graph._nodes[0], prompt = await app.graphToPrompt();
    const values = back.serialize().widgets_values;
    return [
        own(back).value, values[2], JSON.stringify(values) === JSON.stringify(saved.nodes[0].widgets_values),
        Object.values(prompt.output)[0].inputs.fixed, Object.values(prompt.output)[0].inputs.seed,
    ];
})()"""


def known(server: Server) -> bool:
    """Whether the host knows how a control is to be set."""
    told = server.json("/object_info/MSD_SDSStep")["MSD_SDSStep"]["input"]["required"]["seed"][1]
    return told.get("control_after_generate") == "fixed"


@pytest.mark.parametrize("node", SEEDED)
def test_the_seed_of_a_new_node_stays(node: str, server: Server, page: Browser) -> None:
    control, before, after, saved, count = page.evaluate(ADDED % node)
    widgets = page.evaluate(f"LiteGraph.createNode({node!r}).widgets.length")
    assert count == widgets, "the control has a place of its own among the saved values, as it always had"
    assert saved == control
    if known(server):
        assert control == "fixed" and after == before == 0
    else:
        assert control == "randomize" and after != before


def test_a_steps_own_widget_of_that_name_is_another(server: Server, page: Browser) -> None:
    """The front end calls the control by its setting, and a step has an option `fixed`: both keep their values."""
    expected = [True, "fixed" if known(server) else "randomize", True, True, 7]
    assert page.evaluate(SAVED) == expected
