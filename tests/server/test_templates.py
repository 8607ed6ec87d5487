"""The templates that show how the nodes go together, run in a real server in few steps: what each is there to show."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from comfy_server import Server, executed
from PIL import Image
from test_graphs import changed, tensor

from msd_core.demo.judge import judge

STEPS = {"MSD_MeanShiftDistillStep", "MSD_SDSStep", "MSD_SDIStep"}
Short = Callable[..., dict]


@pytest.fixture
def short(api_workflow: Callable[[str], dict]) -> Short:
    """A template's graph in cheap steps, at most ``steps`` of them in each step node."""

    def shortened(name: str, steps: int = 2) -> dict:
        graph = api_workflow(name)
        for node in graph.values():
            if node["class_type"] in STEPS:
                node["inputs"]["steps"] = min(steps, node["inputs"]["steps"])
            if node["class_type"] == "MSD_MeanShiftDistillStep":
                node["inputs"] |= {"estimator": "one-step", "inner_steps": 3}
        return graph

    return shortened


def pixels(server: Server, entry: dict, node: str, which: int = 0) -> np.ndarray:
    """Picture (H, W, 3) in [0, 255] that an output node showed or saved."""
    return np.array(Image.open(io.BytesIO(server.image(entry, node, which))).convert("RGB")).astype(float)


def test_one_seed_moves_all_three_methods(server: Server, short: Short) -> None:
    graph = short("methods_side_by_side")
    entry = server.run(graph)
    sheet = pixels(server, entry, "15")
    assert sheet.shape == (512, 3 * 512 + 2 * 8, 3)
    sds, sdi, msd = (sheet[:, start : start + 512] for start in (0, 520, 1040))
    assert min(np.abs(a - b).mean() for a, b in ((sds, sdi), (sdi, msd), (sds, msd))) > 1
    again = server.run(changed(graph, "4", value=1))
    assert {"7", "8", "9"} <= executed(again) and not {"1", "2", "5"} & executed(again)


def test_draws_spread_as_the_bandwidth_grows(server: Server, short: Short) -> None:
    """Fig. 6 of the paper: a small λ gives x itself, a large one whatever the model knows."""
    graph = changed(short("bandwidth_study"), "18", steps=8)
    entry = server.run(graph)
    assert pixels(server, entry, "52").shape == (392, 3 * 392 + 2 * 16, 3)
    spread = {node: spread_of(pixels(server, entry, node)) for node in ("25", "35", "45")}
    assert spread["25"] < 0.5 * spread["35"] < 0.5 * spread["45"], spread
    late = cells(pixels(server, entry, "55"))[0][2]
    shift = [np.abs(cells(pixels(server, entry, node))[0][2] - late).mean() for node in ("25", "35", "45")]
    assert shift == sorted(shift) and shift[0] < 0.5 * shift[2]


def cells(grid: np.ndarray) -> list[list[np.ndarray]]:
    """Rows of the 128-pixel cells of the host's Image Grid with its padding of 4."""
    return [
        [grid[y : y + 128, x : x + 128] for x in range(0, grid.shape[1], 132)] for y in range(0, grid.shape[0], 132)
    ]


def spread_of(grid: np.ndarray) -> float:
    """Standard deviation over the draws, which are the rows, averaged over the three x and the pixels."""
    return float(np.array(cells(grid)).std(axis=0).mean())


def test_an_edit_leaves_alone_what_the_mask_does(server: Server, short: Short) -> None:
    graph = changed(short("edit_within_mask", 4), "8", fit_steps=60)
    sheet = pixels(server, server.run(graph), "19")
    before, after = sheet[:, :512], sheet[:, 520:]
    kept = slice(0, 248)  # the mask begins at the middle, and is resampled from 128 pixels
    assert np.array_equal(before[:, kept], after[:, kept])
    assert np.abs(before - after)[:, 320:].mean() > 3


def test_a_batch_of_seeds_comes_out_as_a_batch(server: Server, short: Short) -> None:
    graph = changed(short("batch_of_seeds"), "4", batch=3)
    entry = server.run(graph)
    assert len(entry["outputs"]["8"]["images"]) == 3
    made = [pixels(server, entry, "8", which) for which in range(3)]
    assert all(picture.shape == (256, 256, 3) for picture in made)
    assert min(np.abs(made[i] - made[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))) > 1
    sheet = pixels(server, entry, "11")
    for which, picture in enumerate(made):
        top, left = 260 * (which // 2), 260 * (which % 2)
        assert np.abs(sheet[top : top + 256, left : left + 256] - picture).max() <= 1
    alone = server.run(changed(changed(graph, "4", batch=1, seed=2), "6", seed=2))
    assert np.abs(pixels(server, alone, "8") - made[1]).max() <= 2, "as it would move alone"


@pytest.mark.long
def test_4k_is_the_picture_and_the_zoom_a_part_of_it(server: Server, short: Short) -> None:
    entry = server.run(short("render_at_4k"))
    whole = Image.open(io.BytesIO(server.image(entry, "8"))).convert("RGB")
    assert whole.size == (4096, 4096)
    left, top, right, bottom = (4096 * edge for edge in (0.03, 0.27, 0.47, 0.71))
    part = np.array(whole.resize((1024, 1024), Image.Resampling.BOX, box=(left, top, right, bottom))).astype(float)
    both = pixels(server, entry, "13")
    assert both.shape == (1024, 2 * 1024 + 8, 3)
    assert np.abs(both[:, 1032:] - part).mean() < 1
    coarse = both[:, :1024]
    assert len(np.unique(coarse.reshape(-1, 3), axis=0)) <= 56**2, "the pixels of the optimisation, enlarged"
    assert np.abs(coarse - part).mean() < 12


def test_what_was_saved_today_goes_on_tomorrow(server: Server, short: Short) -> None:
    folder = server.base / "output" / "generators"
    before = set(folder.glob("go_on_*"))
    today = server.run(short("save_and_go_on"))
    (file,) = set(folder.glob("go_on_*")) - before
    tomorrow = changed(short("save_and_go_on_tomorrow"), "10", file=f"generators/{file.name} [output]")
    entry = server.run(tomorrow)
    (told,) = entry["outputs"]["11"]["text"]
    assert "fourier" in told and "msd" in told
    assert pixels(server, entry, "15").shape == (512, 512, 3)
    as_it_was = server.run(changed(tomorrow, "14", generator=["10", 0]))
    assert np.array_equal(pixels(server, as_it_was, "15"), pixels(server, today, "8"))
    assert np.abs(pixels(server, entry, "15") - pixels(server, today, "8")).mean() > 0.5


@pytest.mark.long
def test_an_app_makes_what_its_prompt_says(server: Server, api_workflow: Callable[[str], dict]) -> None:
    """As it stands: whoever opens it has nothing to set."""
    graph = api_workflow("text_to_neural_image.app")
    entry = server.run(graph)
    assert judge(tensor(server.image(entry, "7")), graph["2"]["inputs"]["text"]).accepted
