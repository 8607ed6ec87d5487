"""The studies of the tables, at the smallest size: every number under its own name, and what the text says of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy", reason="the studies need the extra science: pip install -e '.[science]'")
pytest.importorskip("matplotlib", reason="the studies need the extra science: pip install -e '.[science]'")

from msd_core import MSD, SDS, Exact, Split
from msd_core.research.studies import bandwidth, cost, setting, table1, table2
from msd_core.research.studies.paper import TABLE1, TABLE2
from msd_core.research.studies.result import Result, Table
from msd_core.research.studies.setting import CASES, Recipe, Size, make_case, sampler_level, start_points
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core
TINY = Size(side=8, data=150, adam_steps=4, descent_steps=3, toy_steps=12, toy_pool=2**11)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(tmp_path_factory.mktemp("results"), quick=True)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting, "QUICK", TINY)
    monkeypatch.setattr(cost, "SDS_DRAWS", 256)


def rows_of(table: Table) -> list[dict[str, float | str | None]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_recipes_are_the_methods_they_name() -> None:
    assert isinstance(Recipe("sds", 3, samples=5).make(), SDS) and Recipe("sds", 3, samples=5).make().samples == 5
    split, exact = Recipe("split", 10).make(), Recipe("exact", 10, first=0.2, last=0.1).make()
    assert isinstance(split, MSD) and split.estimator == Split(steps=16, truncation=2.0)
    assert isinstance(exact, MSD) and exact.estimator == Exact(steps=4, solver="heun", walk_from="mean")
    assert exact.bandwidth(0, 10) == pytest.approx(0.2) and exact.bandwidth(9, 10) == pytest.approx(0.1)
    assert Recipe("split", 10).optimiser().lr == 0.08 and Recipe("split", 10, "gd", 1.0).optimiser().name == "gd"


def test_the_samplers_levels_and_the_grid() -> None:
    assert sampler_level(0) == pytest.approx(5.0) and sampler_level(1) == pytest.approx(0.002)
    levels = [sampler_level(i / 10) for i in range(11)]
    assert levels == sorted(levels, reverse=True)
    grid = start_points(5)
    assert (
        grid.shape == (25, 2)
        and float(grid.min()) == -1.5
        and float(grid.max()) == 1.5
        and len(grid.unique(dim=0)) == 25
    )


def test_table2_puts_every_number_under_its_name(context: Context) -> None:
    result = table2.run(context)
    rows = rows_of(result.tables[0])
    assert len(rows) == len(CASES) * 2 * 5
    for row in rows:
        method = {"DDIM": "ddim", "SDS": "sds"}.get(row["method"], "msd")
        paper = TABLE2[row["density"], method, row["denoiser"]]
        assert (row["paper NLL"], row["paper P"], row["paper R"]) == (paper.nll, paper.precision, paper.recall)
        for share in ("precision", "recall", "modes reached"):
            assert 0 <= row[share] <= 1
        steps = TINY.descent_steps if row["denoiser"] == "ideal" else TINY.adam_steps
        evaluations = {"DDIM": 32, "SDS": 4 * steps, "MSD one-step": steps, "MSD exact": (1 + 7 * row["draws"]) * steps}
        assert row["evaluations"] == evaluations.get(row["method"], row["evaluations"])
    entropies = {r["density"]: r["entropy"] for r in rows_of(result.tables[1])}
    assert entropies == pytest.approx({"fractal": -1.36, "spiral": -1.40, "pinwheel": -1.27}, abs=0.03)
    assert all(r["their precision"] > 0.9 and 0 < r["± s.d."] < 0.2 for r in rows_of(result.tables[1]))


def test_metrics_tell_the_truth_from_something_else(context: Context) -> None:
    case = make_case("pinwheel")
    good = table2.measured(context, case, setting.truth_points(context, case, "second"), {"points": "a test"})
    bad = table2.measured(context, case, start_points(8), {"points": "the grid"})
    assert good["NLL"] < 0 < bad["NLL"] and good["precision"] > 0.8 > bad["precision"] and good["MMD"] < bad["MMD"]


def test_nothing_is_computed_twice(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    first = table2.run(context)
    for name in ("move_points", "sample_ddim"):
        monkeypatch.setattr(setting, name, None)
    assert rows_of(table2.run(context).tables[0]) == rows_of(first.tables[0])


def assert_table1(result: Result) -> None:
    rows = rows_of(result.tables[0])
    assert len(rows) == len(CASES) * 2 * 4
    for row in rows:
        sds, msd = TABLE1[row["density"]]
        assert row["paper"] == {"SDS": sds, "MSD one-step": None}.get(row["gradient"], msd)
        cost_ = {"SDS": 1, "MSD split": 16, "MSD exact": 8, "MSD one-step": 1}[row["gradient"]]
        assert row["evaluations"] == cost_ and 0 <= row["angle to m"] <= 180 and 0 <= row["angle to ∇log p"] <= 180
        if row["gradient"] == "MSD one-step":
            assert row["ln efficiency"] == math.inf and row["bias²/|m|²"] < 1e-9 and row["variance/|m|²"] == 0
        if row["gradient"] == "MSD split":
            assert row["variance/|m|²"] < 1e-6 and row["ln efficiency"] > max(msd for _, msd in TABLE1.values())
        if row["gradient"] == "MSD exact" and row["denoiser"] == "ideal":
            assert abs(row["bias²/|m|²"]) < 0.02 < row["variance/|m|²"]


def test_table1_puts_every_number_under_its_name(context: Context) -> None:
    result = table1.run(context)
    assert_table1(result)
    swapped = dataclasses.replace(result.tables[0], rows=[[*r[:6], r[7], r[6], *r[8:]] for r in result.tables[0].rows])
    with pytest.raises(AssertionError):
        assert_table1(dataclasses.replace(result, tables=[swapped]))


def test_the_best_error_that_a_budget_buys() -> None:
    walks = {
        "split": [
            {"bias2": 0.2, "variance": 0.0, "evaluations": 8.0},
            {"bias2": 0.1, "variance": 0.0, "evaluations": 32.0},
        ],
        "exact": [{"bias2": -1e-5, "variance": 0.8, "evaluations": 10.0}],
    }
    assert math.isnan(cost.best_mse(walks["split"], 7)) and cost.best_mse(walks["split"], 31) == 0.2
    assert cost.best_mse(walks["split"], 1000) == 0.1
    assert cost.best_mse(walks["exact"], 10) == 0.8 and cost.best_mse(walks["exact"], 39) == pytest.approx(0.8 / 3)
    assert cost.crossing(walks) == 90, "0.8/9 is the first below .1"
    assert cost.crossing(walks | {"exact": [{"bias2": 0.3, "variance": 0.1, "evaluations": 1.0}]}) == math.inf


def test_cost_finds_the_exact_chain_unbiased_and_the_split_walk_biased(context: Context) -> None:
    rows = rows_of(cost.run(context).tables[1])
    at = [r for r in rows if r["density"] == "fractal" and r["λ"] == pytest.approx(math.sqrt(0.1))]
    best = {name: min(r["bias²/|m|²"] for r in at if r["estimator"] == name) for name in ("MSD split", "MSD exact")}
    assert best["MSD exact"] < 0.02 < best["MSD split"]
    one = next(r for r in at if r["estimator"] == "MSD one-step")
    assert (one["evaluations"], one["bias²/|m|²"], one["variance/|m|²"]) == (1, 0, 0)


@pytest.mark.long
def test_bandwidth_recommends_the_most_recall_among_the_likely(context: Context) -> None:
    results = [{"NLL": n, "recall": r} for n, r in ((-3, 0.1), (-2.5, 0.3), (-2.1, 0.5), (-1.9, 0.5), (0, 1), (9, 1))]
    assert bandwidth.recommended(results, entropy=-1.4) == 2, "of two equals the larger start"
    assert bandwidth.recommended(results, entropy=-9) == 4, "none is likely: the most recall, the larger start"
    other = [{"NLL": n, "recall": r} for n, r in ((-3, 0.1), (-3, 0.1), (0, 0.9), (0, 0.9), (0, 0.9), (0, 0.9))]
    found = {("a", "one-step"): results, ("b", "one-step"): other}
    assert bandwidth.default_start(found, {"a": -1.4, "b": -1.4}, "one-step") == 1, "2 is likely in a only"
    result = bandwidth.run(context)
    assert len(result.tables[0].rows) == len(CASES) * 3 * len(bandwidth.FIRST)
    firsts = {r["first λ"] for r in rows_of(result.tables[0])}
    assert firsts == set(bandwidth.FIRST)


def test_equal_seeds_give_equal_points_and_others_others(tmp_path: Path) -> None:
    case, ends = make_case("pinwheel"), []
    for folder, seed in ((tmp_path / "a", 0), (tmp_path / "b", 0), (tmp_path / "c", 1)):
        cell = setting.moved_points(Context(folder, True, seed), case, "ideal", Recipe("exact", 2, "gd", 1.0), 4)
        ends.append(cell.tensors["x"])
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_points_of_another_solver_are_not_taken_for_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of the solver are part of the key: a folder of before they were changed is computed anew."""
    context, case, spent = Context(tmp_path, True), make_case("pinwheel"), []
    for steps in (4, 6):
        monkeypatch.setitem(setting.SOLVER_STEPS, "exact", steps)
        cell = setting.moved_points(context, case, "ideal", Recipe("exact", 2, "gd", 1.0), 4)
        spent.append(cell.numbers["evaluations"])
    assert spent == [2 * 8, 2 * 12]
