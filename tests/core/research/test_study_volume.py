"""The study of text to 3-D, cut short: its tables, its cells, and what its figures are of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy")

from msd_core.research.studies import volume as study
from msd_core.research.studies.study import Cell, Context

pytestmark = pytest.mark.core


@pytest.mark.long
def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thing and one way: every table has its rows, and cells are read back."""
    monkeypatch.setattr(study, "ROUND_THINGS", dict(list(study.ROUND_THINGS.items())[:1]))
    monkeypatch.setattr(study, "WAYS", (("msd", "four words"),))
    monkeypatch.setattr(study, "SIDES", (16,))
    round_things, solids, costs = study.run(Context(tmp_path, quick=True)).tables
    assert [row[0] for row in round_things.rows] == ["a large red circle on a blue background"]
    assert [tuple(row[:2]) for row in solids.rows] == [("msd", "four words")]
    rows = dict(zip(solids.columns, solids.rows[0], strict=True))
    assert rows["rows"] == 2 * 4 * 18, "two steps of four views, of nine evaluations under cfg"
    assert 0 <= rows["iou"] <= 1 and rows["seconds"] > 0
    again = study.run(Context(tmp_path, quick=True)).tables
    assert [table.rows for table in again] == [round_things.rows, solids.rows, costs.rows]
    assert [tuple(row[:2]) for row in costs.rows] == [("dense", 16), ("hash", 16)]
    assert all(seconds > 0 for row in costs.rows for seconds in row[2:5]) and costs.rows[0][5] > 0


def test_the_best_round_solid_has_any_width_height_and_place() -> None:
    place = study.grid_of(torch.zeros(()))
    x, y, z = place.unbind(dim=-1)
    own = torch.stack([(x - 0.05) / 0.6, (y + 0.1) / 0.4, (z + 0.08) / 0.6], dim=-1)
    for solid in ("cone", "cylinder"):
        filled = study.distance(solid, own, 1.0) < 0
        assert study.best_round(solid, filled) > 0.97, solid
    assert study.best_round("sphere", filled) < 0.9, "of a cylinder"


def test_every_way_takes_the_same_rows() -> None:
    """As near as whole iterations come: 18 rows a step of MSD and a view, 2 of SDS, 2 (i + 1) of SDI's inversion."""
    steps = {way: settings["steps"] for way, (_, settings) in study.RUNS.items()}
    assert steps["msd"] * 4 * 18 == steps["sds"] * 4 * 2 == 4320 and steps[study.ONE] == steps["msd"]


def test_another_default_is_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read back that was made with the defaults of before."""
    monkeypatch.setattr(study, "solid_case", lambda *_: Cell({"IoU": 1.0}))

    def cells() -> int:
        study.solid_cell(Context(tmp_path), 0, "msd", "four words", 0)
        return len(list((tmp_path / "cells").glob("volume-*")))

    assert cells() == cells() == 1
    monkeypatch.setattr(study.Volume, "recommended", {"msd": {"solver_steps": 3}})
    assert cells() == 2


def test_the_scenes_are_of_every_solid_and_always_the_same() -> None:
    scenes = study.scenes_of(0)
    assert len({scene.solid for scene in scenes}) == 6 and scenes == study.scenes_of.__wrapped__(0)
    assert {scene.size for scene in scenes} == {"large"}
