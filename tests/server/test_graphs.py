"""Graphs posted to a real server: the picture, the cache, live progress, Cancel, and errors that lose nothing."""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from comfy_server import Server, executed
from PIL import Image
from torch import Tensor

from msd_core.demo.judge import judge

PROMPT = "a large red circle on a blue background"
STEP, RENDER, SAVE, PLOT = "6", "7", "8", "9"


def tensor(png: bytes) -> Tensor:
    """A picture (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png)).convert("RGB"))).movedim(-1, 0).float() / 255


@pytest.fixture
def graph(api_workflow: Callable[[str], dict]) -> dict:
    """Text to neural image, as the template that ships."""
    return api_workflow("text_to_neural_image")


@pytest.fixture
def short(graph: dict) -> dict:
    """The same in three steps, for tests that do not look at the picture."""
    graph[STEP]["inputs"] |= {"steps": 3, "solver_steps": 3}
    return graph


@pytest.fixture
def five(short: dict) -> dict:
    """SDS, then MSD on its result."""
    msd = short[STEP]["inputs"]
    shared = {
        name: msd[name]
        for name in ("model", "positive", "negative", "vae", "seed", "cfg", "learning_rate", "optimizer")
    }
    sds = {"generator": ["4", 0], "steps": 3, "weighting": "uniform", "anneal": "none", "t_min": 0.02, "t_max": 0.98}
    short["20"] = {"class_type": "MSD_SDSStep", "inputs": shared | sds}
    msd["generator"] = ["20", 0]
    return short


def test_the_picture_is_what_the_prompt_says(server: Server, graph: dict) -> None:
    entry = server.run(graph)
    picture = tensor(server.image(entry, SAVE))
    assert picture.shape == (3, 512, 512)
    small = torch.nn.functional.interpolate(picture[None], 64, mode="area")[0]
    assert judge(small, PROMPT).right


def test_only_what_changed_runs_again(server: Server, five: dict) -> None:
    first = server.run(five)
    five[RENDER]["inputs"]["width"] = 256
    assert executed(server.run(five)) == {RENDER, SAVE}
    five[SAVE]["inputs"]["filename_prefix"] = "again"
    assert executed(server.run(five)) == {SAVE}
    five[RENDER]["inputs"]["width"] = 512
    five[STEP]["inputs"]["learning_rate"] = 0.02
    assert executed(server.run(five)) == {STEP, RENDER, SAVE, PLOT}
    five[STEP]["inputs"]["learning_rate"] = 0.01
    five[SAVE]["inputs"]["filename_prefix"] = "neural_image"
    assert server.image(server.run(five), SAVE) == server.image(first, SAVE)  # its input was not mutated meanwhile


def test_the_last_node_alone_runs_again(server: Server, short: dict) -> None:
    del short[SAVE]
    server.run(short)
    short[RENDER]["inputs"]["height"] = 128
    assert executed(server.run(short)) == {RENDER}


def test_an_identical_graph_gives_an_identical_picture(server: Server, five: dict) -> None:
    first = server.run(five)
    second = server.run(five)
    assert executed(second) == set()
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.0)
    third = server.run(five)
    assert executed(third) == set(five)
    assert torch.equal(tensor(server.image(first, SAVE)), tensor(server.image(third, SAVE)))


def test_progress_and_previews_are_live(server: Server, short: dict) -> None:
    short[STEP]["inputs"] |= {"steps": 4, "seed": 11}
    socket = server.listen()
    prompt_id = server.queue(short)
    steps, previews, ended = [], 0, False
    while not ended:
        message = socket.receive(120)
        if isinstance(message, bytes):
            previews += message[8:11] == b"\xff\xd8\xff"  # event, format, JPEG
            assert not ended
        elif message["type"] == "progress" and message["data"]["node"] == STEP:
            steps.append(message["data"]["value"])
        elif message["type"] in ("execution_success", "execution_error"):
            ended = message["data"]["prompt_id"] == prompt_id
    socket.close()
    assert steps == [1, 2, 3, 4]
    assert previews >= 1


def test_cancel_ends_within_one_evaluation_and_the_server_goes_on(server: Server, short: dict) -> None:
    """One evaluation is a thirtieth of a step here; the step that Cancel falls into is not finished."""
    short[STEP]["inputs"] |= {"steps": 1000, "solver_steps": 30, "seed": 12}
    socket = server.listen()
    server.queue(short)
    times: list[float] = []
    while len(times) < 4:
        message = socket.receive(120)
        if isinstance(message, dict) and message["type"] == "progress" and message["data"]["node"] == STEP:
            times.append(time.monotonic())
    step = (times[-1] - times[0]) / (len(times) - 1)
    time.sleep(0.3 * step)
    pressed = time.monotonic()
    server.post("/interrupt", {})
    late = 0
    while True:
        message = socket.receive(120)
        if isinstance(message, dict):
            late += message["type"] == "progress"
            if message["type"] == "execution_interrupted":
                break
    took = time.monotonic() - pressed
    socket.close()
    assert late == 0
    assert took < step / 30 * 2 + 0.1  # the evaluation that was running, and the answer's way back
    short[STEP]["inputs"] |= {"steps": 2, "solver_steps": 2}
    server.run(short)


def error_of(server: Server, graph: dict) -> str:
    """The message of a graph that fails, as the front end shows it."""
    entry = server.wait(server.queue(graph))
    return next(data["exception_message"] for name, data in entry["status"]["messages"] if name == "execution_error")


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("2", {"text": "an astronaut"}, "words that the demo model does not know: astronaut"),
        ("4", {"representation": "latent", "channels": 16}, "16"),
        ("5", {"start": 0.5}, "allowed is end < start"),
        (STEP, {"vae": None}, "vae: not connected"),
        (STEP, {"negative": None}, "negative: not connected"),
    ],
)
def test_a_wrong_input_is_named_and_nothing_is_lost(
    server: Server, short: dict, node: str, inputs: dict, message: str
) -> None:
    server.run(short)
    wrong = copy.deepcopy(short)
    wrong[node]["inputs"] |= inputs
    for name, value in inputs.items():
        if value is None:
            del wrong[node]["inputs"][name]
    assert message in error_of(server, wrong)
    assert executed(server.run(short)) <= set(short)


def test_a_stock_schedule_is_no_bandwidth_until_its_zero_is_cut(server: Server, short: dict) -> None:
    sigmas = {"steps": 3, "sigma_max": 8.0, "sigma_min": 0.7, "rho": 7.0}
    short["5"] = {"class_type": "KarrasScheduler", "inputs": sigmas}
    assert "must lose its last entry" in error_of(server, short)
    short["21"] = {"class_type": "SplitSigmas", "inputs": {"sigmas": ["5", 0], "step": 2}}
    short[STEP]["inputs"]["bandwidths"] = ["21", 0]
    server.run(short)


def test_inversion_gives_the_picture_back(server: Server, api_workflow: Callable[[str], dict]) -> None:
    entry = server.run(api_workflow("inversion"))
    source, back = (tensor(server.image(entry, node)) for node in ("13", "14"))
    error = float((source - back).square().mean())
    assert -10 * np.log10(error) > 25.0  # dB
    assert len(entry["outputs"]["15"]["images"]) == 51
