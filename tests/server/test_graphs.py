"""Graphs posted to a real server: the picture, the cache, live progress, Cancel, and errors that lose nothing."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from comfy_server import Server, executed
from PIL import Image
from torch import Tensor

from msd_core.demo.judge import judge
from msd_core.preset import preset_of
from msd_core.settings import flatten

LOADER, PROMPT, START, BANDWIDTHS, STEP, RENDER, SAVE, PLOT = "1", "2", "4", "5", "6", "7", "8", "9"
SDS, PROBE = "20", "30"
TEXT_EVENT = 3
"""The host's binary event of a node's progress text; the others are pictures."""
OTHER_GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def tensor(png: bytes) -> Tensor:
    """A picture (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png)).convert("RGB"))).movedim(-1, 0).float() / 255


def changed(graph: dict, node: str, **inputs: object) -> dict:
    """A copy of the graph with other inputs in one node; None disconnects."""
    graph = copy.deepcopy(graph)
    merged = graph[node]["inputs"] | inputs
    graph[node]["inputs"] = {name: value for name, value in merged.items() if value is not None}
    return graph


@pytest.fixture
def graph(api_workflow: Callable[[str], dict]) -> dict:
    """Text to neural image, as the template that ships."""
    return api_workflow("text_to_neural_image")


@pytest.fixture
def short(graph: dict) -> dict:
    """The same in three steps, for tests that do not look at the picture."""
    return changed(graph, STEP, steps=3, solver_steps=3, inner_steps=2)


@pytest.fixture
def chain(short: dict) -> dict:
    """SDS, then MSD on its result."""
    shared = ("model", "positive", "negative", "vae", "seed", "cfg", "learning_rate", "optimizer")
    inputs = {name: short[STEP]["inputs"][name] for name in shared} | {"generator": [START, 0], "steps": 3}
    inputs |= {name: flatten(preset_of("sds"))[name] for name in ("weighting", "anneal", "t_min", "t_max", "pull")}
    return changed(short, STEP, generator=[SDS, 0]) | {SDS: {"class_type": "MSD_SDSStep", "inputs": inputs}}


def test_the_template_has_the_defaults_of_the_command_line(graph: dict) -> None:
    defaults, step, bandwidths = flatten(preset_of("msd")), graph[STEP]["inputs"], graph[BANDWIDTHS]["inputs"]
    given = {"lr" if name == "learning_rate" else name: value for name, value in step.items()}
    assert given.pop("truncation") == given.pop("lr_coupling") == given.pop("tolerance") == 0, "off"
    assert given.pop("centre") == "x"
    shown = {name: value for name, value in given.items() if name in defaults}
    assert len(shown) == 12 and shown.items() <= defaults.items()
    curve = {f"bandwidth_{name}": bandwidths[name] for name in ("schedule", "start", "end")}
    assert curve.items() <= defaults.items() and bandwidths["steps"] == defaults["steps"]


def test_the_picture_is_what_the_prompt_says(server: Server, graph: dict) -> None:
    entry = server.run(graph)
    picture = tensor(server.image(entry, SAVE))
    assert picture.shape == (3, 512, 512)
    verdict = judge(picture, graph[PROMPT]["inputs"]["text"])
    assert verdict.accepted, verdict


def test_only_what_changed_runs_again(server: Server, chain: dict) -> None:
    first = server.run(chain)
    narrow = changed(chain, RENDER, width=256)
    assert executed(server.run(narrow)) == {RENDER, SAVE}
    assert executed(server.run(changed(narrow, SAVE, filename_prefix="again"))) == {SAVE}
    slower = changed(chain, STEP, learning_rate=chain[STEP]["inputs"]["learning_rate"] / 2)
    assert executed(server.run(slower)) == {STEP, RENDER, SAVE, PLOT}
    back = server.run(chain)
    assert executed(back) == {STEP, RENDER, SAVE, PLOT}
    assert server.image(back, SAVE) == server.image(first, SAVE)  # the cached SDS result was not mutated meanwhile


def test_the_last_node_alone_runs_again(server: Server, short: dict) -> None:
    del short[SAVE]
    server.run(short)
    assert executed(server.run(changed(short, RENDER, height=128))) == {RENDER}


def test_an_identical_graph_gives_an_identical_picture(server: Server, chain: dict) -> None:
    first = server.run(chain)
    assert executed(server.run(chain)) == set()
    server.run(OTHER_GRAPH)  # the cache keeps one graph
    again = server.run(chain)
    assert executed(again) == set(chain)
    assert torch.equal(tensor(server.image(first, SAVE)), tensor(server.image(again, SAVE)))


def test_progress_and_previews_are_live_from_the_first_step(server: Server, short: dict) -> None:
    socket = server.listen()
    prompt_id = server.queue(changed(short, STEP, steps=4, seed=11))
    seen: list[int | str] = []
    while "end" not in seen:
        message = socket.receive(300)
        if isinstance(message, bytes):
            if int.from_bytes(message[:4], "big") != TEXT_EVENT:
                assert Image.open(io.BytesIO(message[8:])).format == "JPEG"  # after the event's and the format's number
                seen.append("preview")
        elif message["type"] == "progress" and message["data"]["node"] == STEP:
            assert message["data"]["max"] == 4
            seen.append(message["data"]["value"])
        elif message["type"].startswith("execution_") and message["data"]["prompt_id"] == prompt_id:
            assert message["type"] not in ("execution_error", "execution_interrupted"), message
            seen += ["end"] * (message["type"] == "execution_success")
    socket.close()
    told = [value for value in seen if isinstance(value, int)]
    assert told == sorted(set(told)) and (told[0], told[-1]) == (1, 4), "newer hosts leave steps out that are quick"
    assert "preview" in seen[: seen.index(told[1])]


CANCELLED = {
    "mean shift": ("text_to_neural_image", STEP, {"steps": 100, "solver_steps": 5}, 13),  # amid the third step
    "sds": ("text_to_neural_image", SDS, {"steps": 100}, 4),
    "inversion": ("inversion", "6", {"steps": 40}, 7),
}


@pytest.mark.parametrize("case", CANCELLED)
def test_cancel_ends_within_one_evaluation_and_the_server_goes_on(
    server: Server, short: dict, chain: dict, api_workflow: Callable[[str], dict], case: str
) -> None:
    """Cancel is pressed while a known evaluation runs, and that one must be the last."""
    workflow, node, inputs, hold_at = CANCELLED[case]
    probe = {"class_type": "TestProbeModel", "inputs": {"model": [LOADER, 0], "hold_at": hold_at}}
    base = chain if node == SDS else api_workflow(workflow)
    long = changed(base, node, model=[PROBE, 0], **inputs) | {PROBE: probe}
    socket = server.listen()
    prompt_id = server.queue(long)
    evaluations: list[int] = []
    pressed = ended = False
    while not ended:
        message = socket.receive(300)
        if isinstance(message, dict) and message["type"] == "probe":
            evaluations.append(message["data"]["evaluation"])
        if evaluations and evaluations[-1] == hold_at and not pressed:
            pressed = server.post("/interrupt", {}) is not None
        ended = isinstance(message, dict) and message["type"] in ("execution_interrupted", "execution_error")
    socket.close()
    assert message["type"] == "execution_interrupted" and message["data"]["node_id"] == node
    assert evaluations == list(range(1, hold_at + 1))
    assert server.wait(prompt_id)["status"]["status_str"] == "error"  # the host's word for interrupted
    server.run(short)


def error_of(server: Server, graph: dict) -> str:
    """The message of a graph that fails, as the front end shows it."""
    entry = server.wait(server.queue(graph))
    return next(data["exception_message"] for name, data in entry["status"]["messages"] if name == "execution_error")


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        (PROMPT, {"text": "an astronaut"}, "words that the demo model does not know: astronaut"),
        (START, {"representation": "latent", "channels": 16}, "set channels to 4 in Neural Image Generator"),
        (START, {"width": 60}, "width: got 60; allowed are multiples of 8"),
        (BANDWIDTHS, {"start": 0.5, "end": 0.7}, "allowed is end <= start"),
        (STEP, {"vae": None}, "vae: not connected"),
        (STEP, {"negative": None}, "negative: not connected"),
    ],
)
def test_a_wrong_input_is_named_and_nothing_is_lost(
    server: Server, short: dict, node: str, inputs: dict, message: str
) -> None:
    first = server.run(short)
    assert message in error_of(server, changed(short, node, **inputs))
    again = server.run(short)
    assert LOADER not in executed(again)
    assert server.image(again, RENDER) == server.image(first, RENDER)


def test_the_zero_of_a_stock_schedule_is_left_out(server: Server, short: dict) -> None:
    sigmas = {"steps": 3, "sigma_max": 8.0, "sigma_min": 0.7, "rho": 7.0}
    short[BANDWIDTHS] = {"class_type": "KarrasScheduler", "inputs": sigmas}
    whole = tensor(server.image(server.run(short), RENDER))
    short["21"] = {"class_type": "SplitSigmas", "inputs": {"sigmas": [BANDWIDTHS, 0], "step": 2}}
    cut = server.run(changed(short, STEP, bandwidths=["21", 0]))
    assert torch.equal(tensor(server.image(cut, RENDER)), whole)


def test_inversion_gives_the_picture_back(server: Server, api_workflow: Callable[[str], dict]) -> None:
    entry = server.run(api_workflow("inversion"))
    source, back = (tensor(server.image(entry, node)) for node in ("13", "14"))
    error = float((source - back).square().mean())
    assert -10 * math.log10(error) > 25.0  # dB
    assert len(entry["outputs"]["15"]["images"]) == 51


def test_a_presets_numbers_go_with_the_picture(server: Server, short: dict) -> None:
    """In the workflow that the host writes into its PNG; and of so short a run the log says that it ended at none."""
    graph = changed(short, STEP, preset="fast", bandwidths=None, seed=77)
    extra = {"extra_pnginfo": {"workflow": {"nodes": [], "extra": {"ds": {}}}}}
    answer = server.post("/prompt", {"prompt": graph, "client_id": "numbers", "extra_data": extra})
    entry = server.wait(answer["prompt_id"])
    assert entry["status"]["status_str"] == "success", entry["status"]
    workflow = json.loads(Image.open(io.BytesIO(server.image(entry, SAVE))).text["workflow"])  # pyright: ignore
    written = workflow["extra"]["mean_shift_distillation"][STEP]
    assert written["steps"] == 3 and written["method"]["bandwidths"]["kind"] == "exponential"
    assert (written["method"]["bandwidths"]["start"], written["method"]["bandwidths"]["end"]) == (8.0, 0.7)
    assert "the run has not ended at a picture: the last shift is" in server.tail()
