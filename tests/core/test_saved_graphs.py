"""Templates and blueprints against the snapshot of the nodes' interface, without a host: ids, types, widgets, links."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))  # saved_graphs, beside the tiers

from saved_graphs import BLUEPRINTS, SEEDS, WORKFLOWS, definitions, load, nodes, values, widgets  # noqa: E402

pytestmark = pytest.mark.core
SNAPSHOT = json.loads((TESTS / "host" / "schemas.json").read_text(encoding="utf-8"))
SAVED = [*sorted(WORKFLOWS.glob("*.json")), *sorted(BLUEPRINTS.glob("*.json"))]
TWINS = sorted((TESTS / "server" / "workflows").glob("*.json"))
KINDS = {"INT": int, "FLOAT": (int, float), "BOOLEAN": bool, "STRING": str, "COMBO": str, "CURVE": dict}
"""What a widget of a type holds."""

of_files = pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
of_blueprints = pytest.mark.parametrize("path", sorted(BLUEPRINTS.glob("*.json")), ids=lambda path: path.stem)


def wrong(node: Mapping[str, Any], interface: Mapping[str, Any]) -> list[str]:
    """What a saved node of the pack has otherwise than its ``interface``."""
    types = {entry["id"]: entry["type"] for entry in interface["inputs"]}
    told = [
        f"input {entry['name']}: {entry['type']}, not {types.get(entry['name'])}"
        for entry in node["inputs"]
        if types.get(entry["name"]) != entry["type"]
    ]
    order = [name for name, kind in types.items() if kind in KINDS]
    if widgets(node) != order[: len(widgets(node))]:
        told.append(f"widgets {widgets(node)}, not {order}")
    counted = len(order) + sum(name in SEEDS for name in order)
    if len(node.get("widgets_values", [])) > counted:
        told.append(f"{len(node['widgets_values'])} values for {counted} widgets")
    for name, value in values(node).items():
        kind = KINDS.get(types.get(name, ""), object)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            told.append(f"{name}: {value!r} is no {types.get(name)}")
    outputs = [entry["type"] for entry in interface["outputs"]]
    made = [entry["type"] for entry in node["outputs"]]
    return told if made == outputs[: len(made)] else [*told, f"outputs {made}, not {outputs}"]


def disagreements(graph: Mapping[str, Any]) -> list[str]:
    """What the pack's nodes of a graph have otherwise than the snapshot, with the nodes' types."""
    own = [node for node in nodes(graph) if node["type"].startswith("MSD_")]
    gone = [node["type"] for node in own if node["type"] not in SNAPSHOT]
    here = [node for node in own if node["type"] in SNAPSHOT]
    return gone + [f"{node['type']}: {told}" for node in here for told in wrong(node, SNAPSHOT[node["type"]])]


@of_files
def test_saved_nodes_are_those_of_the_interface(path: Path) -> None:
    graph = load(path)
    assert disagreements(graph) == []
    for spoil in (renamed, other_type, moved, too_many):
        planted = copy.deepcopy(graph)
        spoil(next(node for node in nodes(planted) if node["type"].startswith("MSD_") and widgets(node)))
        assert disagreements(planted), spoil.__name__


def renamed(node: dict[str, Any]) -> None:
    node["inputs"][-1]["name"] = "renamed"


def other_type(node: dict[str, Any]) -> None:
    node["type"] = "MSD_Gone"


def moved(node: dict[str, Any]) -> None:
    node["widgets_values"] = [None, *node["widgets_values"]]


def too_many(node: dict[str, Any]) -> None:
    node["widgets_values"] = [*node["widgets_values"], *range(40)]


def unknown(graph: Mapping[str, Any]) -> list[str]:
    """Inputs of the pack's nodes in a graph in API format that the snapshot does not have."""
    own = [node for node in graph.values() if node["class_type"].startswith("MSD_")]
    known = {kind: {entry["id"] for entry in side["inputs"]} for kind, side in SNAPSHOT.items()}
    return [
        f"{node['class_type']}.{name}"
        for node in own
        for name in node["inputs"]
        if name not in known.get(node["class_type"], ())
    ]


@pytest.mark.parametrize("path", TWINS, ids=lambda path: path.stem)
def test_tested_graphs_name_inputs_of_the_interface(path: Path) -> None:
    graph = load(path)
    assert unknown(graph) == []
    step = next(node for node in graph.values() if node["class_type"].startswith("MSD_"))
    step["inputs"]["renamed"] = 1
    assert unknown(graph) == [f"{step['class_type']}.renamed"], "a planted name must show"


def astray(part: Mapping[str, Any]) -> list[Any]:
    """Links of a subgraph that its nodes do not know, or whose ends are of two types."""
    found, by_id = [], {node["id"]: node for node in part["nodes"]}
    for link in part["links"]:
        origin = part["inputs"] if link["origin_id"] == -10 else by_id[link["origin_id"]]["outputs"]
        target = part["outputs"] if link["target_id"] == -20 else by_id[link["target_id"]]["inputs"]
        ends = (origin[link["origin_slot"]], target[link["target_slot"]])
        heard = [entry.get("linkIds", entry.get("links", [entry.get("link")])) for entry in ends]
        if not all(link["id"] in ids for ids in heard) or {end["type"] for end in ends} != {link["type"]}:
            found.append(link["id"])
    return found


@of_blueprints
def test_a_blueprint_is_one_node_whose_links_hold(path: Path) -> None:
    """The host refuses any other; a link that only one of its ends knows is dropped by the front end in silence."""
    blueprint = load(path)
    (outer,), (inner,) = blueprint["nodes"], definitions(blueprint)
    assert outer["type"] == inner["id"] and outer["title"] == inner["name"] == path.stem
    for side in ("inputs", "outputs"):
        assert [(entry["name"], entry["type"]) for entry in outer[side]] == [
            (entry["name"], entry["type"]) for entry in inner[side]
        ]
    assert astray(inner) == []
    planted = copy.deepcopy(inner)
    planted["links"][0]["type"] = "OTHER"
    assert astray(planted) == [planted["links"][0]["id"]]


@of_blueprints
def test_what_stands_in_front_of_a_blueprint_is_a_widget_inside(path: Path) -> None:
    """By link, and, for front ends that know no other way, by name; and it says what it is for."""
    blueprint = load(path)
    (outer,), (inner,) = blueprint["nodes"], definitions(blueprint)
    inside = {str(node["id"]): node for node in inner["nodes"]}
    named = outer["properties"]["proxyWidgets"]
    assert {"prompt", "seed", "preset", "width", "height"} <= set(widgets(outer)) and len(named) == len(widgets(outer))
    links = {link["id"]: link for link in inner["links"]}
    for label, (node, name) in zip(widgets(outer), named, strict=True):
        assert name in widgets(inside[node])
        (linked,) = next(entry["linkIds"] for entry in inner["inputs"] if entry["name"] == label)
        target = links[linked]
        assert str(target["target_id"]) == node and inside[node]["inputs"][target["target_slot"]]["name"] == name
    assert blueprint["extra"]["BlueprintDescription"] == inner["description"]
    assert "128 for the demo model" in inner["description"]
    assert "score distillation" in blueprint["extra"]["BlueprintSearchAliases"]


def test_no_two_blueprints_share_an_id() -> None:
    """The front end keeps the values of widgets by the ids of nodes, and mixes them up where these are alike."""
    parts = [part for path in sorted(BLUEPRINTS.glob("*.json")) for part in definitions(load(path))]
    ids = [node["id"] for part in parts for node in part["nodes"]] + [part["id"] for part in parts]
    assert len(parts) == 3 and len(set(ids)) == len(ids)


def test_files_are_ascii() -> None:
    """ComfyUI 0.8.0 reads blueprints in the encoding of the machine."""
    assert all(path.read_bytes().isascii() for path in BLUEPRINTS.glob("*.json"))


def test_an_app_shows_widgets_and_a_picture_that_are_there() -> None:
    """`extra.linearData` names them by node and widget; the host drops in silence what it does not find."""
    (path,) = WORKFLOWS.glob("*.app.json")
    graph = load(path)
    by_id = {node["id"]: node for node in graph["nodes"]}
    shown = graph["extra"]["linearData"]
    assert graph["extra"]["linearMode"] is True
    assert [name for _, name in shown["inputs"]] == ["text", "width", "height", "seed", "preset"]
    assert all(name in widgets(by_id[node]) for node, name in shown["inputs"])
    assert [by_id[node]["type"] for node in shown["outputs"]] == ["SaveImage"]


def test_only_an_app_opens_as_one() -> None:
    assert all("linearMode" not in load(path)["extra"] for path in SAVED if not path.name.endswith(".app.json"))
