"""The study of the inversions: its rows, and what they must show on the demo model even when it is cut short."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy")

from msd_core.research.studies import inversion as study
from msd_core.research.studies.result import write
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three inversions, one picture, four steps: one table and one CSV; exact means exact, explicit is not."""
    names = ("explicit", "implicit", "direct")
    monkeypatch.setattr(study, "INVERSIONS", {name: study.INVERSIONS[name] for name in names})
    monkeypatch.setattr(study, "CFGS", (1.0, 7.5))
    monkeypatch.setattr(study, "QUICK_PICTURES", 1)
    monkeypatch.setattr(study, "STEPS", 4)
    context = Context(tmp_path, quick=True)
    result = study.run(context)
    (table,) = result.tables
    rows = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert len(rows) == len(table.rows) == 2 * (len(names) + 1)
    for cfg in (1.0, 7.5):
        assert rows["direct", cfg]["picture, worst dB"] > 80
        assert rows["explicit", cfg]["picture, worst dB"] < 45
        assert rows["explicit", cfg]["evaluations"] == 4 and rows["explicit", cfg]["unconverged"] is None
        assert rows["direct", cfg]["rows up"] == (8 if cfg == 1 else 12)
    found = rows["implicit", 1.0]
    assert found["latent, worst dB"] > rows["explicit", 1.0]["latent, worst dB"] + 5
    assert found["rows down"] == 4 and rows["implicit", 7.5]["rows down"] == 8
    negative = [rows[study.NEGATIVE_PROMPT, cfg]["latent, worst dB"] for cfg in (1.0, 7.5)]
    assert negative[0] == pytest.approx(negative[1], abs=3), "the source's prompt on both sides: cfg does nothing"
    assert [path.name for path in write(result, tmp_path)] == ["inversion.csv", "inversion.json"]
    assert study.run(Context(tmp_path, quick=True)).tables == result.tables, "cells are read back"


def test_pictures_are_those_of_the_whole_whatever_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of one picture and of two: the same latents, and the same figures."""
    monkeypatch.setattr(study, "STEPS", 4)
    whole, alone = study._latents(0, 3, 0), study._latents(1, 3, 0)
    assert torch.allclose(alone[0], whole[0][1:], atol=1e-4) and alone[1] == whole[1][1:]
    found = {}
    for batch in (1, 2):
        monkeypatch.setattr(study, "BATCH", batch)
        found[batch] = study.round_trip(Context(tmp_path / str(batch)), "uni-inv", 1.0, 3)
        assert found[batch].pop("unconverged") is None
    assert found[1] == pytest.approx(found[2], rel=0.02, nan_ok=True)
    assert [len(list((tmp_path / str(batch) / "cells").glob("*.safetensors"))) for batch in (1, 2)] == [3, 2]
