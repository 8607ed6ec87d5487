"""A sweep: no cell lost, none run twice, a picture that is its own whatever ran beside it, and honest intervals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from msd_core import Denoiser, EpsDenoiser, FlowDenoiser, VDenoiser, distil, sample, sd15_schedule
from msd_core.cli.main import main
from msd_core.denoiser import Unchanged
from msd_core.model import load_model
from msd_core.named import NAMED
from msd_core.sweep import cells, plan
from msd_core.sweep.cells import run_batch, surprise
from msd_core.sweep.grid import Cell, grid_of
from msd_core.sweep.plan import plan_of
from msd_core.sweep.store import kept
from msd_core.sweep.table import summary, write

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


@pytest.mark.parametrize("unit", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["epsilon", "v", "flow"])
def test_surprise_is_that_of_any_parametrisation(kind: str, unit: float) -> None:
    """Data N(m, s^2), whose D(z; sigma) = m + k (z - m), k = s^2 / (s^2 + sigma^2), errs at x by
    (1 - k)^2 |x - m|^2 / (sigma^2 dim x) + k^2, whatever the network predicts, and in whatever unit x is measured.
    """
    mean, spread = 0.4 * unit, unit
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    want = torch.zeros(2)
    for sigma in (0.5 * unit, unit, 2 * unit):
        k = spread**2 / (spread**2 + sigma**2)
        want += ((1 - k) ** 2 * (x * unit - mean).square().mean(dim=(1, 2, 3)) / sigma**2 + k**2) / 3
    model = Gaussian(kind, mean, spread, unit)
    error = 4 * (2 / (4 * x[0].numel())) ** 0.5  # four standard errors of the mean of n^2, over four draws
    assert surprise(model, [PROMPT] * 2, x) == pytest.approx(want.tolist(), rel=error)
    model.mean += unit
    assert surprise(model, [PROMPT] * 2, x) != pytest.approx(want.tolist(), rel=error)


def test_a_thing_that_cannot_be_seen_is_drawn_and_not_judged() -> None:
    unseen = "a white circle on a white background"
    cell = Cell("", {"method": "ddim", "steps": 1}, unseen, 0)
    ((row, picture),) = run_batch([cell], load_model(), (32, 32), "fourier")
    assert row.accepted is None and row.iou is None and row.surprise > 0 and picture.shape == (3, 32, 32)
    assert cells.judged(PROMPT, picture)["accepted"] is False
    with pytest.raises(ValueError, match="picture: got shape"):
        cells.judged(PROMPT, picture[0])


class Gaussian:
    """A model of pictures in another unit, with a network of each kind that is exact for N(mean, spread^2)."""

    cell, channels, side, differentiable, decode = 1, 3, 32, True, None

    def __init__(self, kind: str, mean: float, spread: float, unit: float) -> None:
        self.kind, self.mean, self.spread, self.unit = kind, mean, spread, unit

    def encode(self, picture: Tensor) -> Tensor:
        return picture * self.unit

    def denoiser(self, prompt: object, negative: object = "", cfg: float = 1.0) -> Denoiser:
        schedule = sd15_schedule()

        def network(x: Tensor, t: Tensor) -> Tensor:
            level = (t / (1 - t) if self.kind == "flow" else schedule.sigma(t)).reshape(-1, 1, 1, 1)
            root = 1 + level if self.kind == "flow" else (1 + level**2).sqrt()
            z = x * root
            noise = (z - self.mean) * level / (self.spread**2 + level**2)
            y = z - level * noise
            return {"epsilon": noise, "v": (noise - level * y) / root, "flow": noise - y}[self.kind]

        kinds = {"epsilon": EpsDenoiser, "v": VDenoiser}
        made = FlowDenoiser(network) if self.kind == "flow" else kinds[self.kind](network, schedule)
        return InUnits(made, self.spread)


@dataclass(frozen=True)
class InUnits(Unchanged):
    denoiser: Denoiser
    data_std: float

    def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        return self.denoiser(z, sigma)


def test_a_cell_that_fails_does_not_sink_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One prompt has words that the model does not know, in a batch with one that it knows; it is tried again."""
    few = {"prompts": ["circle, red", "Xylophon"], "settings": {"ddim": {"method": "ddim", "steps": 1}}, "seeds": [0]}
    for _ in range(2):
        assert sweep(tmp_path, **few) == 1
        error = capsys.readouterr().err
        assert "1 of 2 cells are there" in error
        assert "failed: 'ddim', 'Xylophon', seed 0: ValueError: prompt: 'Xylophon' has words that" in error
        assert [row["prompt"] for row in rows(tmp_path)] == ["circle, red"]
    (note,) = (tmp_path / "out" / "cells").glob("*.error")
    few["prompts"].pop()
    assert sweep(tmp_path, **few) == 0 and note.is_file()
    cell = Cell("ddim", few["settings"]["ddim"], "Xylophon", 0)
    with pytest.raises(ValueError, match="Xylophon"):
        run_batch([cell], load_model(), (32, 32), "fourier")


def test_what_is_not_finite_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that is NaN could be written, and not be read again: the cell would be run for ever."""
    monkeypatch.setattr(cells, "surprise", lambda *_: [float("nan")])
    with pytest.raises(ValueError, match=r"^model: NaN or infinity in 1 of .* picture or its surprise"):
        run_batch([Cell("", {"method": "ddim", "steps": 1}, "circle, red", 0)], load_model(), (32, 32), "fourier")


def test_tables_of_a_sweep_that_is_not_done(tmp_path: Path) -> None:
    """Of b one prompt is there, and a figure that a lacks: numbers stay under their heads, and the sheet is drawn."""
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    one = {"options": {}, "stray": None, "surprise": 1.0, "evaluations": 2, "seconds": 0.5, "seed": 0, "wrong": None}
    known = [
        {**one, "setting": "a", "prompt": "p", "accepted": None, "iou": None},
        {**one, "setting": "a", "prompt": "q", "accepted": None, "iou": None},
        {**one, "setting": "b", "prompt": "p", "accepted": True, "iou": 0.25},
    ]
    write(tmp_path, known, [tmp_path / "a.png"] * 3, [])
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["setting"], first["count"], first["iou"], first["surprise"]) == ("a", "2", "", "1.0")
    assert (second["setting"], second["count"], second["iou"], second["surprise"]) == ("b", "1", "0.25", "1.0")
    sheet = Image.open(tmp_path / "contact_sheet.png").convert("RGB")
    assert sheet.getpixel((10 + 72, 10 + 30 + 18 + 72)) == (255, 0, 0)
    assert sheet.getpixel((10 + 72, 10 + 30 + 18 + 10)) == (255, 255, 255)


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
    ddim = {"method": "ddim", "steps": 8}
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


def test_a_cell_is_another_when_a_default_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the options leave open is filled in by this version: a cell of another may be another picture."""
    grid = grid_of({**GRID, "size": [32, 32]})
    one, *_, sampled = grid.cells()
    known = [grid.identity(cell, "m") for cell in (one, sampled)]
    assert known == [grid.identity(cell, "m") for cell in (one, sampled)] and known[0] != known[1]
    named = Cell("one", {"method": "msd", "preset": "fast"}, PROMPT, 0)
    fast = grid.identity(named, "m")
    changes = {**NAMED["fast"].changes, "steps": 11}
    monkeypatch.setitem(NAMED, "fast", replace(NAMED["fast"], changes=changes))  # type: ignore[arg-type]
    assert grid.identity(named, "m") != fast
    assert grid.identity(one, "m") == known[0]
    monkeypatch.setitem(plan._SAMPLE_OPTIONS, "cfg", 4.0)
    assert grid.identity(sampled, "m") != known[1]


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
        ({"generator": "volume"}, "generator: got 'volume', which is seen from several sides"),
        ({"size": [32]}, "size: got"),
        ({"size": 32}, "size: got 32; allowed is [width, height]"),
        ({"batch": 0}, "batch"),
        ({"other": 1}, "entry: got 'other'"),
        ({"settings": {"a": {"method": "dds"}}}, "settings: 'a': method: got 'dds', which edits a picture"),
        ({"settings": {"a": {"preset": "best"}}}, "settings: 'a': preset: got 'best'"),
        ({"settings": {"a": {"method": "sds", "preset": "fast"}}}, "preset: got 'fast' with the method 'sds'"),
        ({"settings": {"a": {"method": "ddim", "negative": 1}}}, "settings: 'a': negative: got 1"),
        ({"model": 1}, "model: got 1"),
        ({"model": "nowhere"}, "model: got 'nowhere', which is not there"),
        ({"model_kind": "none"}, "model_kind: got 'none'"),
        ({"model_kind": "diffusers"}, "model: got none with model_kind diffusers"),
        ({"dtype": "int8", "model": "m", "model_kind": "diffusers"}, "dtype: got 'int8'"),
        ({"dtype": "float16"}, "dtype: got 'float16' with model_kind demo"),
        ({"offload": "model"}, "offload: got 'model' with model_kind demo"),
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
