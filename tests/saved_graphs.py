"""Graphs as the front end saves them: their nodes, the values of their widgets, and what a blueprint stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS, BLUEPRINTS = ROOT / "workflows", ROOT / "subgraphs"
SEEDS = ("seed", "noise_seed")
"""Widgets below which the front end puts "control after generate"."""
INSIDE = -10
"""The id of a subgraph's inputs among its nodes."""


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def definitions(graph: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The subgraphs that a graph brings."""
    return graph.get("definitions", {}).get("subgraphs", [])


def nodes(graph: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a graph, also within its subgraphs."""
    for part in (graph, *definitions(graph)):
        yield from part["nodes"]


def widgets(node: Mapping[str, Any]) -> list[str]:
    """The names of a node's widgets, in the order of their values."""
    return [entry["name"] for entry in node.get("inputs", []) if "widget" in entry]


def values(node: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by name; those that were saved."""
    saved, found = list(node.get("widgets_values", [])), {}
    for name in widgets(node):
        if saved:
            found[name] = saved.pop(0)
        if name in SEEDS:
            saved = saved[1:]
    return found


def expanded(blueprint: Mapping[str, Any], sockets: Mapping[str, list[Any]], outer: str) -> dict[str, dict[str, Any]]:
    """The graph, in the host's API format, that a blueprint's node called ``outer`` stands for.

    Args:
        blueprint: as its file has it.
        sockets: what its inputs are connected to, by name: [node, slot].
        outer: id of its node; those within are ``outer:id``.
    """
    (inner,) = definitions(blueprint)
    links = {link["id"]: link for link in inner["links"]}
    graph = {}
    for node in inner["nodes"]:
        inputs = values(node)
        for entry in node["inputs"]:
            if entry["link"] is None:
                continue
            link = links[entry["link"]]
            if link["origin_id"] != INSIDE:
                inputs[entry["name"]] = [f"{outer}:{link['origin_id']}", link["origin_slot"]]
            elif "widget" not in entry:
                inputs[entry["name"]] = sockets[inner["inputs"][link["origin_slot"]]["name"]]
        graph[f"{outer}:{node['id']}"] = {"class_type": node["type"], "inputs": inputs}
    return graph


def output(blueprint: Mapping[str, Any], name: str, outer: str) -> list[Any]:
    """Where the output called ``name`` of a blueprint's node comes from: [node, slot] of `expanded`."""
    (inner,) = definitions(blueprint)
    links = {link["id"]: link for link in inner["links"]}
    (link,) = (links[entry["linkIds"][0]] for entry in inner["outputs"] if entry["name"] == name)
    return [f"{outer}:{link['origin_id']}", link["origin_slot"]]
