"""Cancel and a kill of the server lose nothing: the same graph, queued again, ends as if it had not been stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from comfy_server import Server, started
from test_graphs import START, STEP, changed, tensor
from tiny_websocket import WebSocket

PROBE, LOADER, PICTURE = "30", "1", "40"
FOLDER = "msd_unfinished"


@pytest.fixture
def graph(api_workflow: Callable[[str], dict]) -> dict:
    """Eight cheap steps of one evaluation, of an own seed, with the step's picture as the only output."""
    whole = api_workflow("text_to_neural_image")
    whole = changed(whole, STEP, steps=8, inner_steps=2, estimator="one-step", seed=31, checkpoint_every=0.001)
    kept = {name: whole[name] for name in whole if name not in ("7", "8", "9")}
    return kept | {PICTURE: {"class_type": "PreviewImage", "inputs": {"images": [STEP, 1]}}}


def slow(graph: dict, hold_at: int) -> dict:
    """The same with a model that tells its evaluations and waits at one of them; it makes the graph another one."""
    probe = {"class_type": "TestProbeModel", "inputs": {"model": [LOADER, 0], "hold_at": hold_at}}
    return changed(graph, STEP, model=[PROBE, 0]) | {PROBE: probe}


def wait_for_evaluation(server: Server, graph: dict, number: int) -> tuple[str, WebSocket]:
    """Queue ``graph``, and return once its model is at evaluation ``number``."""
    socket = server.listen()
    prompt_id = server.queue(graph)
    while True:
        message = socket.receive(300)
        if isinstance(message, dict) and message["type"] == "probe" and message["data"]["evaluation"] == number:
            return prompt_id, socket


def pixels(server: Server, entry: dict) -> np.ndarray:
    return tensor(server.image(entry, PICTURE)).numpy()


def kept_states(server: Server) -> set[Path]:
    return set((server.base / "output" / FOLDER).glob("*"))


def test_cancel_keeps_the_work_and_says_where(server: Server, graph: dict) -> None:
    whole = pixels(server, server.run(slow(graph, 0)))
    server.run(changed(graph, STEP, seed=1))  # the cache keeps one graph
    held, before = slow(graph, 5), kept_states(server)  # other tests stop runs, too
    prompt_id, socket = wait_for_evaluation(server, held, 5)
    server.post("/interrupt", {})
    server.wait(prompt_id)
    told = b""
    while b"stopped after" not in told:
        message = socket.receive(60)
        told = message if isinstance(message, bytes) else told
    socket.close()
    (kept,) = kept_states(server) - before
    assert f"stopped after 4 of 8 steps; queue the same graph to go on (output/{FOLDER}/{kept.name})" in told.decode(
        errors="replace"
    )
    again = server.run(held)  # the probe holds at the fifth evaluation of a queue, which never comes now
    assert np.array_equal(pixels(server, again), whole)
    assert kept_states(server) == before


def test_a_killed_server_goes_on_after_it_is_started_again(host, tmp_path: Path, graph: dict) -> None:  # noqa: ANN001
    packs = {"mean-shift": Path(__file__).parents[2], "probe": Path(__file__).parent / "probe"}
    with started(host.path, host.python, tmp_path, packs) as server:
        whole = pixels(server, server.run(graph))
        server.run(changed(graph, START, seed=5))
        held = slow(graph, 6)
        _, socket = wait_for_evaluation(server, held, 6)
        socket.close()
        server.process.kill()
        server.process.wait()
    (kept,) = (tmp_path / "output" / FOLDER).glob("*.safetensors")
    with started(host.path, host.python, tmp_path, packs) as server:
        assert "going on after step" not in server.tail()
        assert np.array_equal(pixels(server, server.run(held)), whole)
        assert "going on after step 5" in server.tail()
    assert not kept.exists()
