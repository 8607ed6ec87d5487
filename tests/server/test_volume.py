"""Objects in space in a real server: the templates' graphs, what they write, Cancel and going on, files of objects."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable

import numpy as np
import pytest
from comfy_server import Server
from PIL import Image
from test_graphs import STEP, changed
from test_kept import PROBE, kept_states, slow, wait_for_evaluation

GENERATOR, CURVE, TURNTABLE, VIDEO, MESH, SHOWN = "4", "5", "8", "9", "10", "11"


@pytest.fixture
def short(api_workflow: Callable[[str], dict]) -> Callable[[str], dict]:
    """A template's graph in four steps of one evaluation, with few rays, frames and cells."""

    def shortened(name: str) -> dict:
        graph = changed(api_workflow(name), STEP, steps=4, estimator="one-step", checkpoint_every=0.001)
        graph = changed(changed(graph, CURVE, steps=4), GENERATOR, rays=24, ray_samples=16)
        graph = changed(graph, TURNTABLE, width=64, height=48, frames=6)
        return changed(graph, MESH, resolution=32)

    return shortened


def pixels(file: bytes) -> np.ndarray:
    """The first frame, without what the host writes beside it."""
    return np.array(Image.open(io.BytesIO(file)).convert("RGB"))


def document(content: bytes) -> dict:
    """The JSON of a GLB file."""
    assert content[:4] == b"glTF"
    return json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])


@pytest.mark.parametrize("name", ["text_to_3d", "object_by_view"])
def test_a_turntable_and_a_mesh_are_written(server: Server, short: Callable[[str], dict], name: str) -> None:
    entry = server.run(short(name))
    frames = Image.open(io.BytesIO(server.image(entry, VIDEO)))
    assert frames.size == (64, 48) and frames.n_frames == 6
    [model_file, *_] = entry["outputs"][SHOWN]["result"]
    made = document((server.base / "output" / model_file).read_bytes())
    assert made["meshes"][0]["primitives"][0]["attributes"].keys() == {"POSITION", "NORMAL", "COLOR_0"}
    assert "triangles" in entry["outputs"][MESH]["text"][0]


def test_the_host_writes_the_video_and_the_mesh(server: Server, short: Callable[[str], dict]) -> None:
    """Through its own nodes for both."""
    graph = {key: node for key, node in short("text_to_3d").items() if key not in (VIDEO, SHOWN)}
    known = server.json("/object_info")
    saved = {"video": [TURNTABLE, 1], "filename_prefix": "video/own", "format": "auto", "codec": "auto"}
    graph["20"] = {"class_type": "SaveVideo", "inputs": {**saved, "format.codec": "auto"}}
    graph["21"] = {"class_type": "SaveGLB", "inputs": {"mesh": [MESH, 0], "filename_prefix": "mesh/own"}}
    declared = known["SaveVideo"]["input"]
    names = {name for group in declared.values() for name in group} | {"format.codec"}
    graph["20"]["inputs"] = {name: value for name, value in graph["20"]["inputs"].items() if name in names}
    server.run(graph)
    (video,) = (server.base / "output" / "video").glob("own*")
    (mesh,) = (server.base / "output" / "mesh").glob("own*.glb")
    assert video.stat().st_size > 500 and document(mesh.read_bytes())["meshes"]


def test_cancel_keeps_an_object(server: Server, short: Callable[[str], dict]) -> None:
    """Field, memory, ground and empty cells: the frames are those of the run that was not stopped."""
    graph = short("object_by_view")
    whole = server.image(server.run(slow(graph, 0)), VIDEO)
    server.run(changed(graph, STEP, seed=1))  # the cache keeps one graph
    held, before = slow(graph, 3), kept_states(server)
    prompt_id, socket = wait_for_evaluation(server, held, 3)
    server.post("/interrupt", {})
    server.wait(prompt_id)
    socket.close()
    assert len(kept_states(server) - before) == 1 and PROBE in held
    again = server.image(server.run(held), VIDEO)
    assert np.array_equal(pixels(whole), pixels(again)) and kept_states(server) == before


def test_an_object_goes_from_one_graph_to_another(server: Server, short: Callable[[str], dict]) -> None:
    graph = {key: node for key, node in short("text_to_3d").items() if key not in (VIDEO, MESH, SHOWN)}
    save = {"generator": [STEP, 0], "filename_prefix": "objects/ball"}
    graph["20"] = {"class_type": "MSD_SaveGenerator", "inputs": save}
    entry = server.run(graph)
    (file,) = (server.base / "output" / "objects").glob("ball*")
    loaded = {"class_type": "MSD_LoadGenerator", "inputs": {"file": f"objects/{file.name} [output]"}}
    turntable = {**graph[TURNTABLE], "inputs": {**graph[TURNTABLE]["inputs"], "generator": ["1", 0]}}
    again = server.run({"1": loaded, TURNTABLE: turntable})
    assert np.array_equal(pixels(server.image(again, TURNTABLE)), pixels(server.image(entry, TURNTABLE)))


def test_a_sticker_has_an_alpha_channel(server: Server, api_workflow: Callable[[str], dict]) -> None:
    graph = changed(changed(api_workflow("sticker"), CURVE, steps=4), STEP, steps=4, inner_steps=2)
    entry = server.run(graph)
    picture = Image.open(io.BytesIO(server.image(entry, "9")))
    assert picture.mode == "RGBA" and picture.size == (512, 512)


def test_a_wrong_graph_is_one_clear_error(server: Server, short: Callable[[str], dict]) -> None:
    graph = short("text_to_3d")
    for node, inputs, told in (
        ("12", {"distance": 1.0}, "distance"),
        ("12", {"lowest": 40.0, "highest": 10.0}, "lowest: got 40 with highest 10"),
        (TURNTABLE, {"width": 63}, "width, height: got 63x48; allowed are even numbers"),
    ):
        entry = server.wait(server.queue(changed(graph, node, **inputs)))
        assert entry["status"]["status_str"] == "error" and told in json.dumps(entry["status"]["messages"])
