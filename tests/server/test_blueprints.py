"""Subgraph blueprints: the host lists them; what each stands for runs, and is what its prompt says."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser
from comfy_server import Server
from PIL import Image
from test_graphs import tensor
from test_pack_in_server import PACK, completed, queued

from msd_core.demo.grammar import parse
from msd_core.demo.judge import judge
from msd_core.demo.scenes import draw
from msd_core.generators import read_svg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # saved_graphs, beside the tiers

from saved_graphs import BLUEPRINTS, expanded, load, output, values, widgets  # noqa: E402

NAMES = sorted(path.stem for path in BLUEPRINTS.glob("*.json"))
NEURAL, DRAWING, EDIT = "Text to Neural Image (MSD)", "Text to SVG (MSD)", "Edit within a Mask (MSD)"
OUTER, LOADER, SAVE = "100", "1", "8"
MODEL = {"model": [LOADER, 0], "clip": [LOADER, 1], "vae": [LOADER, 2]}


def blueprint(name: str) -> dict:
    return load(BLUEPRINTS / f"{name}.json")


def graph_of(name: str, **sockets: list) -> dict:
    """What a blueprint's node stands for, on the demo model."""
    graph = expanded(blueprint(name), MODEL | sockets, OUTER)
    return graph | {LOADER: {"class_type": "MSD_LoadDemoModel", "inputs": {}}}


def prompt_of(name: str) -> str:
    """What the prompt of a blueprint says as it is dropped."""
    inner = blueprint(name)["definitions"]["subgraphs"][0]
    return values(next(node for node in inner["nodes"] if node.get("title") == "Prompt"))["text"]


def saved(name: str, image: list) -> dict:
    return {"class_type": "SaveImage", "inputs": {"images": image, "filename_prefix": f"blueprints/{name}"}}


def listed(server: Server) -> dict[str, str]:
    """Name to id of the pack's blueprints, as the host has them."""
    entries = server.json("/global_subgraphs").items()
    return {entry["name"]: key for key, entry in entries if entry["info"] == {"node_pack": f"custom_nodes.{PACK}"}}


def test_the_host_lists_them(server: Server) -> None:
    found = listed(server)
    assert sorted(found) == NAMES == sorted((NEURAL, DRAWING, EDIT))
    for name, key in found.items():
        assert json.loads(server.json(f"/global_subgraphs/{key}")["data"]) == blueprint(name)


def test_a_neural_image_is_what_the_template_makes(server: Server, api_workflow: Callable[[str], dict]) -> None:
    """To the bit, in a tenth of the steps; what the template makes is judged in `test_graphs`."""
    graph = graph_of(NEURAL) | {SAVE: saved("neural", output(blueprint(NEURAL), "image", OUTER))}
    template = api_workflow("text_to_neural_image")
    for one in (graph, template):
        for node in one.values():
            if "preset" in node["inputs"]:
                assert node["inputs"]["preset"] == "balanced"
                node["inputs"]["steps"] = 2
    picture = tensor(server.image(server.run(graph), SAVE))
    assert torch.equal(picture, tensor(server.image(server.run(template), SAVE)))


def quick(graph: dict) -> None:
    """Another preset: less than half of the time."""
    (step,) = (node for node in graph.values() if node["class_type"] == "MSD_MeanShiftDistillStep")
    step["inputs"]["preset"] = "fast"


@pytest.mark.long
def test_a_drawing_is_what_the_prompt_says(server: Server) -> None:
    graph = graph_of(DRAWING) | {SAVE: saved("drawing", output(blueprint(DRAWING), "image", OUTER))}
    quick(graph)
    svg = {"svg": output(blueprint(DRAWING), "svg", OUTER), "filename_prefix": "blueprints/drawing"}
    entry = server.run(graph | {"9": {"class_type": "SaveSVGNode", "inputs": svg}})
    assert judge(tensor(server.image(entry, SAVE)), prompt_of(DRAWING)).accepted
    (file,) = (server.base / "output" / "blueprints").glob("drawing*.svg")
    assert 2 <= len(read_svg(file.read_bytes()).shapes) <= 64


@pytest.fixture
def boat(server: Server, api_workflow: Callable[[str], dict]) -> np.ndarray:
    """What the edit's template begins with, drawn (128, 128, 3), put into the host's folder of inputs."""
    scene = parse(api_workflow("edit_within_mask")["2"]["inputs"]["text"])
    picture = (draw([scene], 128)[0] * 255).round().byte().movedim(0, -1).numpy()
    Image.fromarray(picture).save(server.base / "input" / "boat.png")
    return picture


@pytest.mark.long
def test_an_edit_is_what_the_prompt_says_and_stays_outside_of_the_mask(server: Server, boat: np.ndarray) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[:, 64:] = 255
    Image.fromarray(mask).convert("RGB").save(server.base / "input" / "right.png")
    loaders = {
        "2": {"class_type": "LoadImage", "inputs": {"image": "boat.png"}},
        "3": {"class_type": "LoadImageMask", "inputs": {"image": "right.png", "channel": "red"}},
    }
    result = output(blueprint(EDIT), "image", OUTER)
    graph = graph_of(EDIT, image=["2", 0], mask=["3", 0]) | loaders | {SAVE: saved("edit", result)}
    quick(graph)
    entry = server.run(graph)
    png = server.image(entry, SAVE)
    made = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
    assert made.shape == boat.shape and np.array_equal(made[:, :64], boat[:, :64])
    assert judge(tensor(png), prompt_of(EDIT)).accepted
    before = torch.from_numpy(boat).movedim(-1, 0).float() / 255
    assert not judge(before, prompt_of(EDIT)).accepted, "it was another picture"


PLACED = """(async () => {
    const entry = await fetch("/global_subgraphs/%s").then(answer => answer.json());
    await app.loadGraphData(JSON.parse(entry.data));
    const [outer] = app.graph._nodes, loader = LiteGraph.createNode("MSD_LoadDemoModel");
    app.graph.add(loader);
    for (let slot = 0; slot < 3; slot++) loader.connect(slot, outer, slot);
    return JSON.stringify([outer.id, loader.id, outer.widgets.map(widget => [widget.name, widget.value])]);
})()"""


@pytest.mark.parametrize("name", NAMES)
def test_the_front_end_makes_of_it_the_tested_graph(server: Server, page: Browser, name: str) -> None:
    """One node, with its widgets in front; what is queued of it is, to the last value, what the tests above run."""
    outer, loader, shown = json.loads(page.evaluate(PLACED % listed(server)[name]))
    (node,) = blueprint(name)["nodes"]
    assert [label for label, _ in shown] == widgets(node)
    assert dict(shown)["prompt"] == prompt_of(name) and dict(shown)["preset"] == "balanced"
    sockets = {kind: [str(loader), slot] for slot, kind in enumerate(("model", "clip", "vae"))}
    made = expanded(blueprint(name), sockets | {"image": None, "mask": None}, str(outer))
    made = {key: {**entry, "inputs": given(entry["inputs"])} for key, entry in made.items()}
    loaded = {str(loader): {"class_type": "MSD_LoadDemoModel", "inputs": {}}}
    assert queued(page) == completed(server, made | loaded)


def given(inputs: dict) -> dict:
    """Those that are connected, or are widgets."""
    return {name: value for name, value in inputs.items() if value is not None}
