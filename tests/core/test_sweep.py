"""A sweep: no cell lost, none run twice, a picture that is its own whatever ran beside it, and honest intervals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from msd_core import distil, sample
from msd_core.cli.main import main
from msd_core.model import load_model
from msd_core.sweep.cells import run_batch, surprise
from msd_core.sweep.grid import Cell, grid_of
from msd_core.sweep.plan import plan_of
from msd_core.sweep.store import kept
from msd_core.sweep.table import summary

pytestmark = pytest.mark.core
PROMPT, OTHER = "a red circle on a blue background", "a green star at sea"
ONE = {"method": "msd", "estimator": "one-step", "steps": 2}
GRID = {"prompts": [PROMPT, OTHER], "seeds": [0, 1], "settings": {"one": ONE, "ddim": {"method": "ddim", "steps": 2}}}
ROOT = Path(__file__).resolve().parents[2]


def written(folder: Path, **changes: object) -> Path:
    path = folder / "grid.yaml"
    path.write_text(json.dumps({**GRID, "size": [32, 32], **changes}))
    return path


def sweep(folder: Path, *words: str, **changes: object) -> int:
    return main(["sweep", str(written(folder, **changes)), "--out", str(folder / "out"), "--threads", "1", *words])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_cell_is_its_own_whatever_runs_beside_it() -> None:
    model = load_model()
    cells = [Cell("one", ONE, PROMPT, 5), Cell("one", ONE, OTHER, 9)]
    (_, _), (row, picture) = run_batch(cells, model, (64, 64), "fourier")
    *_, state = distil(OTHER, seed=9, size=(64, 64), estimator="one-step", steps=2)
    torch.testing.assert_close(picture, state.picture()[0], rtol=1e-3, atol=1e-3)
    assert row.evaluations == state.evaluations == 4 and row.accepted is False


def test_samples_and_fits() -> None:
    model = load_model()
    made = sample(model, PROMPT, cfg=3.0, seed=4, steps=2, width=32, height=32)
    (row, picture), *_ = run_batch([Cell("", {"method": "ddim", "steps": 2}, PROMPT, 4)], model, (32, 32), "fourier")
    assert torch.equal(picture, made.pictures[0]) and row.evaluations == made.evaluations == 4
    (fit, again), *_ = run_batch([Cell("", {"method": "fit", "steps": 2}, PROMPT, 4)], model, (32, 32), "fourier")
    assert fit.evaluations == 4 and float((again - picture).square().mean()) < 1e-3


def test_surprise_is_less_for_what_the_model_knows() -> None:
    model = load_model()
    drawn = sample(model, PROMPT, cfg=1.0, steps=8, seed=1).pictures
    noise = torch.rand(drawn.shape, generator=torch.Generator().manual_seed(0))
    ((known,), (unknown,)) = surprise(model, [PROMPT], drawn), surprise(model, [PROMPT], noise)
    assert 0 < known < unknown / 2


def test_the_command_runs_every_cell_once_and_no_cell_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert sweep(tmp_path) == 0
    table = rows(tmp_path)
    assert len(table) == 8 == len({(row["setting"], row["prompt"], row["seed"]) for row in table})
    assert "one: accepted" in capsys.readouterr().out
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").glob("*.json")}
    gone = sorted(files)[0]
    gone.unlink()
    sorted(files)[1].write_text("{")
    assert sweep(tmp_path) == 0
    changed = {path for path, when in files.items() if path.stat().st_mtime_ns != when}
    assert changed == {gone, sorted(files)[1]} and len(rows(tmp_path)) == 8


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    """SIGKILL once a cell is there; afterwards none is lost, none double. No captions: the judge takes seconds."""
    ddim = {"method": "ddim", "steps": 16}
    changes = {"batch": 1, "prompts": ["circle, red"], "seeds": list(range(12)), "settings": {"ddim": ddim}}
    path = written(tmp_path, **changes)
    words = [sys.executable, "-m", "msd_core.cli.main", "sweep", str(path), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603
    cells = tmp_path / "out" / "cells"
    for _ in range(3000):
        if list(cells.glob("*.json")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {file: file.stat().st_mtime_ns for file in cells.glob("*.json")}
    assert 1 <= len(before) < 12
    assert sweep(tmp_path, **changes) == 0
    assert len(rows(tmp_path)) == len(list(cells.glob("*.json"))) == 12
    assert all(file.stat().st_mtime_ns == when for file, when in before.items() if kept(tmp_path / "out", file.stem))


def test_intervals_resample_prompts() -> None:
    """200 prompts, half of them accepted, each with two equal seeds: the interval is that of 200 draws, not of 400."""
    common = {
        "setting": "a",
        "options": {},
        "iou": None,
        "stray": None,
        "surprise": 1.0,
        "evaluations": 2,
        "seconds": 0,
    }
    cells = [{**common, "prompt": str(i), "seed": s, "accepted": i % 2 == 0} for i in range(200) for s in (0, 1)]
    mean = summary(cells)["a"]["accepted"]
    half = 1.96 * (0.25 / 200) ** 0.5
    assert mean.value == 0.5 and mean.count == 400
    assert (mean.high - mean.low) / 2 == pytest.approx(half, rel=0.1)
    assert "iou" not in summary(cells)["a"]


def test_the_grid_multiplies_settings() -> None:
    grid = grid_of({**GRID, "settings": {"one": ONE}, "grid": {"cfg": [1, 2], "lr": [0.1, 0.2, 0.3]}})
    cells = list(grid.cells())
    assert len(grid) == len(cells) == 6 * 2 * 2 == len({grid.identity(cell, "m") for cell in cells})
    assert plan_of(cells[0].options).preset.cfg == 1
    assert grid.identity(cells[0], "m") != grid.identity(cells[0], "other")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": []}, "prompts: got"),
        ({"prompts": [PROMPT, PROMPT]}, "twice"),
        ({"prompts": {"drawn": 0}}, "drawn"),
        ({"prompts": {"drawn": 2, "things": [4]}}, "things: got"),
        ({"seeds": []}, "seeds: got"),
        ({"seeds": [-1]}, "seeds"),
        ({"settings": {}}, "settings: got"),
        ({"settings": {"a": {"method": "none"}}}, "settings: 'a': method: got 'none'"),
        ({"settings": {"a": {"method": "ddim", "lr": 1}}}, "settings: 'a': option of ddim: got 'lr'"),
        ({"settings": {"a": {"method": "sds", "start": "noise"}}}, "start: got 'noise'"),
        ({"grid": {"cfg": []}}, "grid: got"),
        ({"generator": "none"}, "generator: got"),
        ({"size": [32]}, "size: got"),
        ({"batch": 0}, "batch"),
        ({"other": 1}, "entry: got 'other'"),
    ],
)
def test_a_wrong_grid_is_one_line(changes: dict, words: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert sweep(tmp_path, **changes) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("device", ["foo", "meta", "cpu:x"])
def test_a_device_that_is_not_there(device: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert sweep(tmp_path, "--device", device) == 2
    assert f"--device: got '{device}'" in capsys.readouterr().err


def test_a_file_that_is_no_grid(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "grid.yaml"
    for text, words in (
        ("a: [", "cannot be read as YAML"),
        ("- 1", "allowed is a mapping"),
        ("seeds: [1]", "prompts: is missing"),
    ):
        path.write_text(text)
        assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
