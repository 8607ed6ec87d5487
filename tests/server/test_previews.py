"""After a run a step shows its output in the browser, and no live preview any more, in both renderers."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser
from comfy_server import Server
from test_graphs import STEP

PICTURE = f"""(() => {{
    const node = app.graph._nodes.find(node => node.id == {STEP})
    return JSON.stringify([(node.imgs || []).map(image => image.src), Object.keys(app.nodePreviewImages)])
}})()"""
VUE = f"""[...document.querySelectorAll('[data-node-id="{STEP}"] img')].map(image => image.src).join(' ')"""


@pytest.mark.parametrize("vue", [False, True])
def test_the_output_replaces_the_preview(server: Server, chromium: str, tmp_path: Path, vue: bool) -> None:
    server.post("/settings/Comfy.VueNodes.Enabled", vue)  # type: ignore[arg-type]  (a setting's value alone)
    browser = Browser(chromium, tmp_path / "profile")
    try:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_for("!!(window.app && app.graph && window.LiteGraph.registered_node_types.MSD_SDSStep)")
        graph = "/api/workflow_templates/mean-shift/text_to_neural_image.json"
        browser.evaluate(f"fetch('{graph}').then(r => r.json()).then(graph => app.loadGraphData(graph))")
        widgets = f"app.graph._nodes.find(node => node.id == {STEP}).widgets"
        for name, value in (("steps", 3), ("inner_steps", 2), ("seed", 77 + vue)):
            browser.evaluate(f"{widgets}.find(widget => widget.name == '{name}').value = {value}")
        browser.evaluate("window.previews = 0; app.api.addEventListener('b_preview', () => { window.previews += 1 })")
        browser.evaluate("window.ended = false; app.api.addEventListener('execution_success', () => { ended = true })")
        browser.evaluate("app.queuePrompt(0, 1)")
        browser.wait_for("ended", timeout=300)
        assert browser.evaluate("window.previews") > 0, "there was one"
        shown = VUE if vue else PICTURE
        browser.wait_for(f"{shown}.includes('type=temp')")
        assert "blob:" not in browser.evaluate(shown)
    finally:
        browser.close()
        server.post("/settings/Comfy.VueNodes.Enabled", False)  # type: ignore[arg-type]
