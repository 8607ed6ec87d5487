"""The study of known posteriors: its rows, and what they must show even when it is cut short."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy")

from msd_core.posterior import INVERSE_SOLVERS
from msd_core.posterior.kalman import Kalman
from msd_core.posterior.proximal import Proximal
from msd_core.research.studies import posterior as study
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core


def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task, two of the solvers with something to choose: a table a prior, references in their order."""
    monkeypatch.setattr(study, "TASKS", {"pool": study.TASKS["pool"]})
    monkeypatch.setattr(study, "INVERSE_SOLVERS", ("kalman", "ddrm"))
    monkeypatch.setattr(study, "GRIDS", {"kalman": [Kalman(1), Kalman(2)], "ddrm": study.GRIDS["ddrm"]})
    result = study.run(Context(tmp_path, quick=True))
    assert [table.name for table in result.tables] == ["posterior-3-24", "posterior-1-24"]
    for table in result.tables:
        rows = {row[1]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
        assert list(rows) == [*study.REFERENCES, "kalman", "ddrm"]
        assert rows["exact samples"]["W2"] < rows["kalman"]["W2"] < rows["no measurement"]["W2"]
        assert rows["exact denoiser, ODE"]["mean"] < rows["no measurement"]["mean"]
        assert rows["kalman"]["setting"].split(", ")[0] in study.WALKS
    assert result.tables[1].rows[0][-1] is None, "one Gaussian has no weights"
    assert study.run(Context(tmp_path, quick=True)).tables == result.tables, "cells are read back"


def test_what_a_solver_cannot_measure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "TASKS", {"blur": study.TASKS["blur"]})
    monkeypatch.setattr(study, "REFERENCES", ())
    monkeypatch.setattr(study, "INVERSE_SOLVERS", ("ddrm", "replacement"))
    for row in study.run(Context(tmp_path, quick=True)).tables[0].rows:
        assert row[2] == "cannot" and set(row[3:]) == {None}


def test_every_solver_has_a_grid_within_its_settings() -> None:
    assert set(study.GRIDS) == set(INVERSE_SOLVERS)
    for name, grid in study.GRIDS.items():
        assert all(type(solver) is INVERSE_SOLVERS[name] for solver in grid)
    assert study.words((Proximal(2.0), "ODE")) == "ODE, error 2" and study.words((Kalman(), "")) == "default"


def test_the_figures_of_exact_samples_are_small_and_those_of_another_measurement_are_not() -> None:
    case = study.Case.of(3, "mask", 3, torch.Generator().manual_seed(0))
    drawn = case.drawn("exact samples", "", 0, 2000, torch.Generator().manual_seed(1))
    good, bad = (case.figures(x, torch.Generator().manual_seed(2)) for x in (drawn, drawn.roll(1, 0)))
    assert all(max(good[name]) < 0.15 for name in study.FIGURES)
    assert sum(bad["W2"]) > 3 * sum(good["W2"]) and sum(bad["mean"]) > 5 * sum(good["mean"])
    assert all(float(one.weights.max()) < 0.999 for one in case.posteriors), "several modes stay possible"
