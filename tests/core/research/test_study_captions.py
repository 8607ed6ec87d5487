"""The studies on the demo model's captions, cut short: Table 3 with Fig. 4, Figs. 6 and 8, and the learned denoiser."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("scipy")

from msd_core import sd15_schedule
from msd_core.demo.model import load_demo_model
from msd_core.preset import preset_of
from msd_core.randomness import seeded
from msd_core.research.studies import captions, fig6, fig8, learned, table3
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(captions, "TOGETHER", 2)
    monkeypatch.setattr(learned, "TOGETHER", 2)
    return Context(tmp_path, quick=True)


@pytest.mark.long
def test_a_learned_denoiser_and_its_reference(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: learned.ESTIMATORS[name] for name in ("exact, 8 levels", "one-step")}
    monkeypatch.setattr(learned, "ESTIMATORS", few)
    monkeypatch.setattr(learned, "REFERENCE", {"estimator": "exact", "steps": 8})
    result = learned.run(context)
    rows = {(row[0], row[3]): row[4:] for row in result.tables[0].rows}
    assert set(rows) == {(place, name) for place in ("start", "end") for name in few}
    for place in ("start", "end"):
        exact, single = rows[place, "exact, 8 levels"], rows[place, "one-step"]
        assert exact[0] == 16 and single[0] == 2, "rows under guidance"
        assert exact[2] > 0 == single[2], "one evaluation has no noise"
        assert single[1] > 0.2 > exact[1], "asked where it was never trained, the model is wrong"


def test_bias_without_its_monte_carlo_part() -> None:
    """Known: draws with mean t + b and deviation s in D numbers have bias²/|t|² = |b|²/|t|² and variance D s²/|t|²."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.full((5, 40), 2.0)
    draws = truth + 0.5 + 1.5 * torch.randn(64, 5, 40, generator=rng)
    reference = truth + 1.5 * torch.randn(64, 5, 40, generator=rng)
    bias2, variance = learned.compared(draws, reference)
    assert bias2 == pytest.approx(0.25 / 4, abs=0.02) and variance == pytest.approx(2.25 / 4, rel=0.1)
    other = truth + 1.5 * torch.randn(64, 5, 40, generator=rng)
    assert abs(learned.compared(other, reference)[0]) < 0.01, "equal distributions"
    naive = float(((draws.mean(0) - reference.mean(0)).square().sum(1) / truth.square().sum(1)).mean())
    assert naive > bias2, "what the subtraction is for"


@pytest.mark.long
def test_fig6_wants_more_under_a_wide_kernel(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig6, "PLACES", {"early": 1, "late": 20})
    monkeypatch.setattr(fig6, "BANDWIDTHS", (8.0, 0.1))
    monkeypatch.setattr(fig6, "LEVELS", 4)
    table = fig6.run(context).tables[0]
    assert [row[:2] for row in table.rows] == [["early", 8.0], ["early", 0.1], ["late", 8.0], ["late", 0.1]]
    for wide, narrow in (table.rows[:2], table.rows[2:]):
        assert wide[2] > 2 * narrow[2], "|m| falls with λ"


@pytest.mark.long
def test_fig8_runs_every_setting(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval that holds every level of the chain, as the study once had, makes the pictures of none."""
    names = ("split", "split, interval", "exact")
    monkeypatch.setattr(fig8, "SETTINGS", {name: fig8.SETTINGS[name] for name in names})
    result = fig8.run(context)
    assert [row[0] for row in result.tables[0].rows] == list(names)
    assert result.tables[0].rows[2][3] == 2 * 8, "two targets"

    def pictures(**settings: object) -> torch.Tensor:
        (prompts,) = captions.in_cells(captions.captions(0, fig8.QUICK_CAPTIONS))
        return captions.passed(context, prompts, "msd", [2], steps=2, **settings).tensors["pictures"]

    split, within, exact = (pictures(**fig8.SETTINGS[name]) for name in names)
    assert not torch.equal(split, within) and not torch.equal(split, exact)
    assert torch.equal(split, pictures(**fig8.SPLIT, interval=(0.0, 8.0)))


def test_table3_counts_what_each_row_cost(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table3, "RUNS", {"sds": table3.RUNS["sds"]})
    monkeypatch.setattr(captions, "fitted", lambda generator, model, pictures: generator)  # a fit takes no rows
    monkeypatch.setattr(table3, "BUDGETS", {60: {"MSD, 10 x 15": table3.BUDGETS[60]["MSD, 10 x 15"]}})
    result = table3.run(context)
    assert [row[:2] for row in result.tables[0].rows] == [
        ["DDIM, 32 steps", 4], ["DDIM, then fitted", 4], ["MSD, 10 x 15 (60)", 12]
    ]  # fmt: skip


@pytest.mark.parametrize(("budget", "name"), [(b, n) for b, known in table3.BUDGETS.items() for n in known])
def test_every_budget_is_met(budget: int, name: str) -> None:
    """Rows under guidance of all steps, counted by a denoiser that does nothing else."""
    method, settings = table3.BUDGETS[budget][name]
    preset, counted = preset_of(method, **settings), Counted()
    for step in range(preset.steps):
        preset.method(torch.zeros(1, 4, 2, 2), counted, step=step, steps=preset.steps, rng=seeded(step))
    assert 2 * counted.rows == pytest.approx(budget, rel=0.04)


class Counted:
    """Zero, with the levels of a chain; counts its rows."""

    rows = 0
    percent_to_sigma = staticmethod(sd15_schedule().percent_to_sigma)

    def __call__(self, z: torch.Tensor, sigma: object) -> torch.Tensor:
        self.rows += len(z)
        return 0 * z

    def with_cfg(self, cfg: float) -> Counted:
        return self

    def parts(self, z: torch.Tensor, sigma: object) -> tuple[torch.Tensor, torch.Tensor]:
        return self(z, sigma), self(z, sigma)


def test_the_interval_of_shares_is_one_of_shares() -> None:
    """That of a mean: as wide as its standard error says, and between the least and the largest value."""
    values = torch.rand(400, generator=torch.Generator().manual_seed(0))
    found, error = captions.interval(values), float(values.std()) / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    few = captions.interval(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]))
    assert 0 <= few.low < few.value < few.high <= 1


def test_what_a_run_passes_is_what_it_ends_with(context: Context) -> None:
    prompts = captions.captions(0, 2)
    cell = captions.passed(context, prompts, "sds", [0, 1, 3], steps=3)
    assert cell.numbers["evaluations"] == [0, 2, 6] and cell.tensors["pictures"].shape == (3, 2, 3, 128, 128)
    alone = captions.passed(context, prompts[:1], "sds", [3], steps=3)
    gap = (alone.tensors["pictures"][0, 0].float() - cell.tensors["pictures"][2, 0].float()).abs()
    assert gap.max() <= 1, "side by side as alone"
    x = captions.encoded(cell.tensors["pictures"][2])
    assert torch.allclose(x, load_demo_model().encode(cell.tensors["pictures"][2] / 255.0), atol=1e-5)
