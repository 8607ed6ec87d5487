"""The study of vector graphics and pixel art: its ways, and what they must show even when it is cut short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("scipy")
pytest.importorskip("resvg_py", reason="resvg-py is not installed: pip install '.[rivals]'")
pytest.importorskip("vtracer", reason="vtracer is not installed: pip install '.[rivals]'")

from msd_core.demo.grammar import parse
from msd_core.demo.scenes import draw
from msd_core.generators import PixelArt, Vector
from msd_core.preset import preset_of
from msd_core.research.studies import graphics as study
from msd_core.research.studies import graphics_sheet
from msd_core.research.studies.result import write
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core
KEPT = {
    ("vector", "sample"),
    ("vector", "sample, vtracer"),
    ("pixel art", "sample, cut down"),
    ("x8", "as given, vtracer"),
}


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture, the quick ways: every table has its rows, and cells are read back."""
    some = {key: case for key, case in study.cases().items() if key in KEPT}
    monkeypatch.setattr(study, "cases", lambda: some)
    tables = study.run(Context(tmp_path, quick=True)).tables
    rows = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for table in tables for row in table.rows}
    assert rows.keys() == KEPT
    assert rows["vector", "sample"]["shapes"] is None and rows["vector", "sample, vtracer"]["shapes"] > 1
    assert (
        rows["vector", "sample"]["accepted"] == 1 and rows["pixel art", "sample, cut down"]["colours"] == study.COLOURS
    )
    assert 10 < rows["x8", "as given, vtracer"]["PSNR at 512"] < 40
    assert [table.rows for table in study.run(Context(tmp_path, quick=True)).tables] == [table.rows for table in tables]


def test_ways_that_distil_are_keyed_by_their_whole_run() -> None:
    """And no other; a run from the drawn sample by its own λ."""
    runs = {key: study.keyed(*key) for key in study.cases()}
    assert {key for key, run in runs.items() if run} == {key for key in runs if "msd" in key[1] or key[1] == "sds"}
    walks = {json.dumps(run["method"]["estimator"]) for key, run in runs.items() if "msd" in key[1]}
    assert walks == {json.dumps(preset_of("msd").to_json()["method"]["estimator"])}, "the default's"
    warm = {key for key, run in runs.items() if "msd" in key[1] and run["method"]["bandwidths"]["start"] == 2.0}
    assert warm == {("vector", "msd from the drawn sample"), ("pixel art", "msd from the sample")}


def test_the_sheets_hold_every_caption_and_compute_none_of_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 cells, each once; each picture of a sheet is what resvg draws of the SVG in its cell."""
    made: list[int] = []

    def case(model: object, scene: object, seed: int) -> object:
        made.append(seed)
        document = Vector(32, 32, paths=3, strokes=2, seed=seed).export("picture.svg")
        return graphics_sheet.kept({"accepted": 1.0, "bytes": float(len(document))}, document)

    monkeypatch.setattr(study, "cases", lambda: {study.ON_SHEET: case})
    result = study.run(Context(tmp_path))
    assert made == list(range(study.PICTURES)) == list(range(24)) and study.run(Context(tmp_path)).figures
    assert len(made) == 24, "the second run reads its cells"
    files = write(result, tmp_path)
    assert {"graphics-sheet.png", "graphics-sheet-large.png"} <= {file.name for file in files}
    for name, side in (("graphics-sheet", 64), ("graphics-sheet-large", 1024)):
        path, shown = tmp_path / f"{name}.png", graphics_sheet.SHOWN[side]
        sheet, step = Image.open(path).convert("RGB"), shown + graphics_sheet.MARGIN
        assert sheet.width == graphics_sheet.MARGIN + 6 * step and path.stat().st_size < 600_000
        down = step + {64: 4, 1024: 3}[side] * graphics_sheet.LINE
        assert sheet.height == graphics_sheet.MARGIN + 4 * down, "the longest caption is whole"
        x, y = graphics_sheet.MARGIN + 5 * step, graphics_sheet.MARGIN + 3 * down
        last = np.array(sheet.crop((x, y, x + shown, y + shown))) / 255.0
        document = Vector(32, 32, paths=3, strokes=2, seed=23).export("picture.svg")
        picture = torch.nn.functional.interpolate(study.drawn_svg(document, side)[None], (shown, shown), mode="area")
        assert study.psnr(torch.from_numpy(last).movedim(-1, 0), picture[0]) > 30
        assert study.psnr(torch.from_numpy(last).movedim(-1, 0), picture[0].flip(-1)) < 25


def test_msd_s_svg_is_kept_in_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    document = Vector(128, 128, paths=3, seed=1)
    monkeypatch.setattr(study, "last_of", lambda *_, **__: (document, 7))
    model, scene = type("Model", (), {"side": 128})(), parse("a large red circle on a blue background")
    found = study.vector_case(model, scene, "msd", 0)
    assert bytes(found.tensors["svg"].tolist()) == document.export("picture.svg") and found.numbers["rows"] == 7
    assert isinstance(study.vector_case(model, scene, "sds", 0), dict)


def test_a_fit_through_the_measurement_sees_nothing_else() -> None:
    """What is in the hole stays as it was, what is around it is drawn."""
    from msd_core.measurement import observe

    picture = draw([parse("a large red circle on a blue background")], 128)
    measurement, _ = study.tasks(128)["hole"]
    observation = observe(picture, measurement)
    made = study.through(study.fitted(Vector(128, 128, paths=8), observation.b), observation, 0, steps=20)
    with torch.no_grad():
        shown = made.render(made.canvas.view)
    assert study.psnr(shown[..., :40, :], picture[..., :40, :]) > 20
    assert float(shown[..., 55:73, 55:73].mean()) < 0.25, "the hole is as dark as it was given"


def test_a_picture_cut_down_has_whole_cells_and_few_colours() -> None:
    picture = draw([parse("a large red circle on a blue background")], 128)
    for palette in (None, PixelArt(8, 8, palette=study.TEN)):
        shown = study.cut_down(picture, palette)
        cells = shown.reshape(3, study.CELLS, 4, study.CELLS, 4)
        assert torch.equal(cells, cells[:, :, :1, :, :1].expand_as(cells))
        assert len(shown.flatten(1).T.unique(dim=0)) <= study.COLOURS
