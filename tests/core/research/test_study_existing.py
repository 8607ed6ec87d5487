"""The study of pictures that exist: its rows, and what they must show even when it is cut short."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy")

from msd_core.demo.evaluate import draw_scenes
from msd_core.research.studies import existing as study
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core
KEPT = {("box", "kalman"), ("x8", "restored"), ("x8", "as given"), ("one word", "dreamsampler"), ("one word", "none")}


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures: what is restored and edited is accepted where what was given is not."""
    some = [case for case in study.cases() if case[:2] in KEPT]
    monkeypatch.setattr(study, "cases", lambda: iter(some))
    monkeypatch.setattr(study, "EDIT_STEPS", 20)
    (table,) = study.run(Context(tmp_path, quick=True)).tables
    rows = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows.keys() == KEPT
    assert rows["x8", "restored"]["PSNR"] > rows["x8", "as given"]["PSNR"] + 3
    assert rows["x8", "restored"]["accepted"] > rows["x8", "as given"]["accepted"]
    assert rows["one word", "dreamsampler"]["accepted"] > rows["one word", "none"]["accepted"] == 0
    assert rows["box", "kalman"]["rows"] == 48 and rows["one word", "none"]["rows"] == 0
    assert study.run(Context(tmp_path, quick=True)).tables[0].rows == table.rows, "cells are read back"


def test_rewording_changes_one_word() -> None:
    for i, scene in enumerate(draw_scenes(12, 3, (2, 3))):
        other = study.reworded(scene, torch.Generator().manual_seed(i))
        words, changed = (study.caption(one).split() for one in (scene, other))
        assert sum(a not in ("a", "an") and a != b for a, b in zip(words, changed, strict=True)) == 1
