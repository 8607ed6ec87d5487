"""A step's live preview is withdrawn before its output comes, by the host's own messages."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_execution import progress as host_progress
from comfy_execution.graph import DynamicPrompt
from msd_pack.nodes import progress
from msd_pack.nodes.progress import withdraw_preview

OUTPUT = torch.rand(1, 2, 4, 3)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The states of nodes that the host's front end is sent, with a registry of two nodes that are at work."""
    told: list[dict] = []
    features = {"me": {"feature_flags": {"supports_preview_metadata": True}}}

    def send(kind: object, data: Any, to: str) -> None:  # noqa: ANN401 - as the host
        told.append(data["nodes"] if kind == "progress_state" else data[0])

    server = SimpleNamespace(client_id="me", sockets={"me": None}, sockets_metadata=features, send_sync=send)
    graph = DynamicPrompt({name: {"class_type": "A", "inputs": {}} for name in ("3", "6")})
    registry = host_progress.ProgressRegistry("prompt", graph)
    handler = host_progress.WebUIProgressHandler(server)
    registry.register_handler(handler)
    handler.set_registry(registry)
    monkeypatch.setattr(host_progress, "global_progress_registry", registry)
    registry.finish_progress("3")
    registry.start_progress("6")
    registry.update_progress("6", 4, 9)
    told.clear()
    return told


def begins_anew(told: list[dict], node: str) -> bool:
    """What the front end drops a preview by: a node that runs, and was not in the message before."""
    pairs = zip(told, told[1:], strict=False)
    return any(node not in before and after.get(node, {}).get("state") == "running" for before, after in pairs)


def test_the_front_end_sees_the_node_begin_anew(sent: list[dict]) -> None:
    now = time.monotonic()
    gone = withdraw_preview("6", OUTPUT)
    assert now + 0.4 < gone < now + 3
    assert sent.pop(1)[1].size == (4, 2), "the output, as the last preview"
    assert begins_anew(sent, "6") and not begins_anew(sent, "3")
    assert sent[-1]["6"]["value"] == 4 and sent[-1]["6"]["max"] == 9, "its bar stays where it was"
    assert all("3" in nodes for nodes in sent)
    assert host_progress.get_progress_state().nodes["6"]["value"] == 4
    assert not begins_anew([sent[-1], sent[-1]], "6"), "planted: one message more changes nothing"


@pytest.mark.parametrize("node", [None, "7"])
def test_a_node_without_progress_has_no_preview(sent: list[dict], node: str | None) -> None:
    assert withdraw_preview(node, OUTPUT) <= time.monotonic() and sent == []


def test_a_request_alone_waits_for_nothing(sent: list[dict]) -> None:
    """It has no connection, or none any more."""
    host_progress.get_progress_state().handlers["webui"].server_instance.sockets.clear()
    assert withdraw_preview("6", OUTPUT) <= time.monotonic() and sent == []


def test_without_a_front_end_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch, sent: list[dict]) -> None:
    host_progress.get_progress_state().unregister_handler("webui")
    assert progress.withdraw_preview("6", OUTPUT) <= time.monotonic() and sent == []
