"""The study of pictures that exist: its rows, and what they must show even when it is cut short."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scipy")

from msd_core.research.studies import existing as study
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core
COLD = "in pixels, 16 steps, temperature 0"
KEPT = {("box", COLD), ("x8", "restored"), ("x8", "as given")}


@pytest.mark.long
def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures: what is restored is accepted where what was given is not."""
    some = [case for case in study.cases() if case[:2] in KEPT]
    monkeypatch.setattr(study, "cases", lambda: iter(some))
    (table,) = study.run(Context(tmp_path, quick=True)).tables
    rows = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows.keys() == KEPT
    assert rows["x8", "restored"]["PSNR"] > rows["x8", "as given"]["PSNR"] + 3
    assert rows["x8", "restored"]["accepted"] > rows["x8", "as given"]["accepted"]
    assert rows["box", COLD]["rows"] == 16 and rows["x8", "as given"]["rows"] == 0
    assert study.run(Context(tmp_path, quick=True)).tables[0].rows == table.rows, "cells are read back"
