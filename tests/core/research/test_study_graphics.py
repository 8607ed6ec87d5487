"""The study of vector graphics and pixel art: its ways, and what they must show even when it is cut short."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("resvg_py", reason="resvg-py is not installed: pip install '.[rivals]'")
pytest.importorskip("vtracer", reason="vtracer is not installed: pip install '.[rivals]'")

from msd_core.demo.grammar import parse
from msd_core.demo.scenes import draw
from msd_core.generators import PixelArt
from msd_core.research.studies import graphics as study
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


def test_a_fit_through_the_measurement_sees_nothing_else() -> None:
    """What is in the hole stays as it was, what is around it is drawn."""
    from msd_core.generators import Vector
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
