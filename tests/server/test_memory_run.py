"""A step node in a real server, 250 steps and many runs: its resident size stays where it is, but for a planted leak.

The size is read at every evaluation of the model, which is one a step. What the server grows by over the last 180 is
the slope of a least-squares line through the sizes, times 180; of 12 runs, it is that of the last 8, read after each.
A leak is planted into a shorter run. The server is a fresh one: what earlier prompts have freed would take a leak in
without growing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from comfy_server import Server, started
from test_graphs import BANDWIDTHS, START, STEP, changed
from test_kept import PICTURE, PROBE, slow

pytestmark = pytest.mark.long

STEPS, LAST = 250, 180
LEAKING, LAST_LEAKING = 110, 75
RUNS, LAST_RUNS = 12, 8
NOISE = 5e6
"""Bytes in 180 steps, or in 8 runs, that are an allocator's affair."""
LEAK = 200_000
"""Bytes an evaluation of the planted one: in fewer steps three times what an allocator's affair may be."""


@pytest.fixture
def fresh(host, tmp_path: Path) -> Iterator[Server]:  # noqa: ANN001  (tests/conftest.py: Host)
    """A server that has run nothing."""
    here = Path(__file__).parent
    with started(host.path, host.python, tmp_path, {"mean-shift": here.parents[1], "probe": here / "probe"}) as running:
        yield running


@pytest.fixture
def graph(api_workflow: Callable[[str], dict]) -> dict:
    """250 steps of one evaluation each at 32 pixels, previewed and kept on the way."""
    whole = changed(api_workflow("text_to_neural_image"), START, width=32, height=32)
    whole = changed(changed(whole, BANDWIDTHS, steps=STEPS), STEP, steps=STEPS, estimator="one-step", inner_steps=1)
    kept = {name: whole[name] for name in whole if name not in ("7", "8", "9")}
    kept |= {PICTURE: {"class_type": "PreviewImage", "inputs": {"images": [STEP, 1]}}}
    return slow(changed(kept, STEP, checkpoint_every=1.0), 0)


def growth(server: Server, graph: dict, steps: int, last: int) -> float:
    """Bytes that the server grows by over the last evaluations of ``graph``, which has so many steps."""
    graph = changed(changed(graph, BANDWIDTHS, steps=steps), STEP, steps=steps)
    process, sizes, socket = psutil.Process(server.process.pid), [], server.listen()
    prompt_id = server.queue(graph)
    ended = False
    while not ended:
        message = socket.receive(300)
        if isinstance(message, bytes):
            continue
        if message["type"] == "probe":
            sizes.append(process.memory_info().rss)
        assert message["type"] not in ("execution_error", "execution_interrupted"), message
        ended = message["type"] == "execution_success" and message["data"]["prompt_id"] == prompt_id
    socket.close()
    assert len(sizes) == steps
    return sloped(sizes[-last:])


def sloped(sizes: list[int]) -> float:
    """Bytes of growth along the line through ``sizes``."""
    return len(sizes) * float(np.polyfit(range(len(sizes)), sizes, 1)[0])


def test_a_long_run_does_not_grow_and_a_leak_does(fresh: Server, graph: dict) -> None:
    fresh.run(changed(graph, STEP, steps=3))
    grown = growth(fresh, graph, STEPS, LAST)
    assert abs(grown) < NOISE, f"{grown / 1e6:+.2f} MB in {LAST} steps"
    leaking = growth(fresh, changed(graph, PROBE, leak=LEAK), LEAKING, LAST_LEAKING)
    assert leaking > 0.8 * LAST_LEAKING * LEAK, f"{leaking / 1e6:+.2f} MB in {LAST_LEAKING} steps"


def test_runs_do_not_add_up_and_the_host_unloads_all(fresh: Server, graph: dict) -> None:
    process, sizes = psutil.Process(fresh.process.pid), []
    for seed in range(RUNS):
        fresh.run(changed(graph, STEP, steps=20, seed=seed))
        sizes.append(process.memory_info().rss)
    grown = sloped(sizes[-LAST_RUNS:])
    assert abs(grown) < NOISE, f"{grown / 1e6:+.2f} MB in {LAST_RUNS} runs"
    before = fresh.json("/probe/alive")
    assert before["loaded"] and before["alive"]
    fresh.post("/free", {"unload_models": True, "free_memory": True})
    end = time.monotonic() + 60
    while (left := fresh.json("/probe/alive")) != {"loaded": 0, "alive": 0}:
        assert time.monotonic() < end, f"{left} after everything was to be unloaded"
        time.sleep(0.5)
