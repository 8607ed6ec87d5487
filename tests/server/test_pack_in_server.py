"""What the server shows of the pack: nodes, help pages, translations, templates; and that a browser opens them."""

from __future__ import annotations

import json
import re
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Browser
from comfy_server import Server

ROOT = Path(__file__).resolve().parents[2]
PACK = "mean-shift"
TEMPLATES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
NODES = {
    "MSD_NeuralImageGenerator": "Neural Image Generator",
    "MSD_MeanShiftDistillStep": "Mean-Shift Distill Step",
    "MSD_SDSStep": "SDS Step",
    "MSD_SDIStep": "SDI Step",
    "MSD_CSDStep": "CSD Step",
    "MSD_CFDStep": "CFD Step",
    "MSD_DDSStep": "DDS Step",
    "MSD_ISMStep": "ISM Step",
    "MSD_LUSDStep": "LUSD Step",
    "MSD_NFSDStep": "NFSD Step",
    "MSD_PDSStep": "PDS Step",
    "MSD_BandwidthScheduler": "Bandwidth Scheduler",
    "MSD_DDIMInversion": "DDIM Inversion",
    "MSD_Edit": "DreamSampler Edit",
    "MSD_Inpaint": "Kalman Inpaint",
    "MSD_Restore": "Restore Picture",
    "MSD_LoadDemoModel": "Load Demo Model",
    "MSD_RenderGenerator": "Render Generator",
    "MSD_VectorGenerator": "Vector Generator",
    "MSD_PixelArtGenerator": "Pixel Art Generator",
    "MSD_StickerGenerator": "Sticker Generator",
    "MSD_StickerToImage": "Sticker to Image",
    "MSD_GeneratorToSVG": "Vector to SVG",
    "MSD_SavePixelArt": "Save Pixel Art",
    "MSD_VolumeGenerator": "3-D Generator",
    "MSD_Cameras": "Cameras",
    "MSD_ViewPrompt": "View Prompt",
    "MSD_ViewConditioning": "View Conditioning",
    "MSD_RenderTurntable": "Render Turntable",
    "MSD_ExtractMesh": "Extract Mesh",
    "MSD_ProductSampler": "Product Sampler",
    "MSD_MeanShiftRefine": "Mean-Shift Refine",
    "MSD_DreamSampler": "DreamSampler",
    "MSD_Measurement": "Measurement",
    "MSD_PasteKnown": "Paste Known",
    "MSD_SaveGenerator": "Save Generator",
    "MSD_LoadGenerator": "Load Generator",
    "MSD_GeneratorInfo": "Generator Info",
}
SHOWN = """(() => {
    const node = LiteGraph.createNode("%s"), of = LiteGraph.registered_node_types[node.type].nodeData
    const widgets = (node.widgets || []).map(widget => [widget.name, widget.label || widget.name])
    return { name: of.display_name, description: of.description, category: of.category, widgets }
})()"""


def test_all_nodes_are_there(server: Server) -> None:
    found = {
        name: info["display_name"] for name, info in server.json("/object_info").items() if name.startswith("MSD_")
    }
    assert found == NODES


def test_the_import_takes_no_time(server: Server) -> None:
    """As the server itself measures it, on a machine that may be busy; tests/host measures more finely."""
    assert re.search(rf"0\.\d seconds: \S*{PACK}", server.tail(100_000))


@pytest.mark.parametrize("node", NODES)
def test_help_page_is_served(server: Server, node: str) -> None:
    assert server.get(f"/extensions/{PACK}/docs/{node}.md").decode().startswith(f"# {NODES[node]}")


@pytest.mark.parametrize("language", ["en", "ja", "zh"])
def test_translations_are_served(server: Server, language: str) -> None:
    assert set(server.json("/i18n")[language]["nodeDefs"]) >= set(NODES)


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_help_is_served_by_language(server: Server, language: str) -> None:
    """Where the front end looks for it; in a language without pages it gets a 404, and asks for the English one."""
    names = server.json("/i18n")[language]["nodeDefs"]
    for node in NODES:
        page = server.get(f"/extensions/{PACK}/docs/{node}/{language}.md").decode()
        assert page.startswith(f"# {names[node]['display_name']}\n")
    with pytest.raises(urllib.error.HTTPError):
        server.get(f"/extensions/{PACK}/docs/{next(iter(NODES))}/xx.md")


def test_templates_and_thumbnails_are_served(server: Server) -> None:
    assert sorted(server.json("/api/workflow_templates")[PACK]) == TEMPLATES
    for name in TEMPLATES:
        assert server.json(f"/api/workflow_templates/{PACK}/{name}.json")["version"] == 0.4
        assert server.get(f"/api/workflow_templates/{PACK}/{name}.jpg")[:2] == b"\xff\xd8"


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_browser_shows_the_pack_in_the_language_of_the_host(
    server: Server, chromium: str, tmp_path: Path, language: str
) -> None:
    """Names, category, labels of widgets and outputs, as the front end has them after its own translation."""
    names = server.json("/i18n")[language]
    server.post("/settings/Comfy.Locale", language)  # type: ignore[arg-type]  (a setting's value alone)
    browser = Browser(chromium, tmp_path / "profile")
    try:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_for("!!(window.app && app.graph && window.LiteGraph.registered_node_types.MSD_SDSStep)")
        for node in NODES:
            shown = browser.evaluate(SHOWN % node)
            expected = names["nodeDefs"][node]
            assert shown["name"] == expected["display_name"] and shown["description"] == expected["description"]
            assert shown["category"] == names["nodeCategories"]["mean-shift distillation"]
            labels = {name: entry["name"] for name, entry in expected["inputs"].items()}
            assert {name: label for name, label in shown["widgets"] if name in labels}.items() <= labels.items()
    finally:
        browser.close()
        server.post("/settings/Comfy.Locale", "en")  # type: ignore[arg-type]


def defaults(server: Server, kind: str) -> dict[str, object]:
    """What the widgets of a node stand at."""
    declared = server.json(f"/object_info/{kind}")[kind]["input"]
    entries = {name: entry[1] for group in declared.values() for name, entry in group.items() if len(entry) > 1}
    return {name: options["default"] for name, options in entries.items() if "default" in options}


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_opens_in_a_browser_as_the_tested_graph(
    server: Server, page: Browser, name: str, api_workflow: Callable[[str], dict]
) -> None:
    """What the front end would queue after opening the template is, to the last value, the graph the tests run: with
    the defaults of widgets that are younger than the template.
    """
    opened(page, name)
    assert queued(page) == completed(server, api_workflow(name))


def opened(page: Browser, name: str) -> None:
    """Open a template in the page."""
    url = f"/api/workflow_templates/{PACK}/{name}.json"
    page.evaluate(f"fetch('{url}').then(r => r.json()).then(graph => app.loadGraphData(graph))")


def queued(page: Browser) -> dict:
    """What the front end would queue."""
    nodes = json.loads(page.evaluate("app.graphToPrompt().then(p => JSON.stringify(p.output))"))
    for node in nodes.values():
        node.pop("_meta", None)
    return nodes


def completed(server: Server, graph: dict) -> dict:
    """A graph with the defaults of the widgets that it does not name."""
    for node in graph.values():
        node["inputs"] = defaults(server, node["class_type"]) | node["inputs"]
    return graph


def test_the_sleeping_half_of_a_template_is_the_tested_one(
    server: Server, page: Browser, api_workflow: Callable[[str], dict]
) -> None:
    """Tomorrow, in the template save_and_go_on: awake it is the second graph that the tests run."""
    opened(page, "save_and_go_on")
    today, tomorrow = (completed(server, api_workflow(f"save_and_go_on{part}")) for part in ("", "_tomorrow"))
    assert not {"MSD_LoadGenerator"} & {node["class_type"] for node in queued(page).values()}
    page.evaluate("app.graph._nodes.forEach(node => { node.mode = 0 })")
    assert queued(page) == today | tomorrow


APP = "text_to_neural_image.app"
IN_FRONT = """[...document.querySelectorAll("[data-testid=linear-widgets]")].map(panel => panel.innerText).join()"""
APPS = (1, 41)
"""The first front end that has apps."""


def test_the_app_opens_as_one_where_the_host_has_apps(page: Browser) -> None:
    """Elsewhere it is a graph as any other; and every other template is one everywhere."""
    opened(page, APP)
    version = page.evaluate("window.__COMFYUI_FRONTEND_VERSION__ || ''")
    if tuple(int(part) for part in version.split(".")[:2]) >= APPS:
        shown = page.wait_for(IN_FRONT)
        assert all(name in shown for name in ("prompt", "width", "height", "seed", "preset")), shown
        assert not any(name in shown for name in ("cfg", "representation", "checkpoint")), "no more than that"
    opened(page, "text_to_neural_image")
    page.wait_for(f"!{IN_FRONT}")


RECTANGLES = """JSON.stringify(app.graph._nodes.map(node => {
    const [width, height] = node.computeSize();
    return [node.title, ...node.pos, Math.max(width, node.size[0]), Math.max(height, node.size[1])];
}))"""
TITLE = 30
"""Pixels of the bar above a node."""


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_node_of_a_template_lies_on_another(page: Browser, name: str) -> None:
    """At the size that its widgets need, which grows with every widget that a node is given."""
    opened(page, name)
    nodes = json.loads(page.evaluate(RECTANGLES))
    assert len(nodes) > 5
    assert [(a[0], b[0]) for i, a in enumerate(nodes) for b in nodes[i + 1 :] if overlap(a[1:], b[1:])] == []


def overlap(a: list[float], b: list[float]) -> bool:
    """Whether two nodes (x, y, width, height) lie on each other, with their titles."""
    beside = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0]
    above = a[1] + a[3] <= b[1] - TITLE or b[1] + b[3] <= a[1] - TITLE
    return not (beside or above)


def test_nodes_that_lie_on_each_other_are_seen() -> None:
    assert overlap([0, 0, 100, 100], [50, 120, 100, 100]), "the title of the second"
    assert not overlap([0, 0, 100, 100], [50, 130, 100, 100]) and not overlap([0, 0, 100, 100], [100, 0, 9, 9])
