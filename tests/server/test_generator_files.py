"""A generator saved by one graph and loaded by another, in a real server: listed, checked, cached, drawn the same."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from comfy_server import Server, executed
from PIL import Image

from msd_core import generator_for_size, load_generator, save_generator

SHAPE = {"representation": "siren", "width": 32, "height": 16, "seed": 3, "hidden": 8, "layers": 1, "channels": 4}
RED = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0xFF0000}}
SAVED = {
    "1": RED,
    "2": {"class_type": "MSD_NeuralImageGenerator", "inputs": SHAPE | {"image": ["1", 0], "fit_steps": 200}},
    "3": {"class_type": "MSD_SaveGenerator", "inputs": {"generator": ["2", 0], "filename_prefix": "generators/red"}},
    "4": {
        "class_type": "MSD_RenderGenerator",
        "inputs": {"generator": ["2", 0], "width": 8, "height": 8, "scale": 2.0},
    },
}
NAME = "generators/red_00001_.safetensors [output]"


def loading(name: str) -> dict:
    return {
        "1": {"class_type": "MSD_LoadGenerator", "inputs": {"file": name}},
        "2": {"class_type": "MSD_GeneratorInfo", "inputs": {"generator": ["1", 0]}},
        "4": SAVED["4"] | {"inputs": SAVED["4"]["inputs"] | {"generator": ["1", 0]}},
    }


def pixels(server: Server, entry: dict) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(server.image(entry, "4"))).convert("RGB"))


def test_a_generator_goes_from_one_graph_to_another(server: Server) -> None:
    today = server.run(SAVED)
    assert today["outputs"]["3"]["text"] == ["saved as output/generators/red_00001_.safetensors"]
    path = server.base / "output" / "generators" / "red_00001_.safetensors"
    options = json.dumps(server.json("/object_info/MSD_LoadGenerator"))
    assert NAME in options
    tomorrow = server.run(loading(NAME))
    assert np.array_equal(pixels(server, tomorrow), pixels(server, today))
    assert pixels(server, today).shape == (32, 64, 3)
    assert pixels(server, today)[..., 0].mean() > 200 > 60 > pixels(server, today)[..., 1:].mean()
    (told,) = tomorrow["outputs"]["2"]["text"]
    assert told.startswith("kind: siren\nsize: 32×16\nspace: image") and f"file: {NAME}" in told
    assert executed(server.run(loading(NAME))) == set(), "nothing has changed"
    kept = load_generator(path)
    save_generator(generator_for_size("siren", 32, 16, seed=4, hidden=8, layers=1), path)
    again = server.run(loading(NAME))
    assert "1" in executed(again) and not np.array_equal(pixels(server, again), pixels(server, tomorrow))
    save_generator(kept, path)


@pytest.mark.parametrize("name", ["../../etc/x.safetensors", "none.safetensors [output]"])
def test_what_is_not_there_is_refused_before_the_graph_runs(server: Server, name: str) -> None:
    answer = server.post("/prompt", {"prompt": loading(name)})
    assert "prompt_id" not in answer
    (error,) = answer["node_errors"]["1"]["errors"]
    assert error["details"].startswith("file - file: got ") and error["type"] == "custom_validation_failed"
