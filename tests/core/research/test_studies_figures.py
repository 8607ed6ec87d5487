"""Fields, landscapes, Fig. 1, Fig. 3 and the ideal denoiser's study: what they claim, on reduced sizes."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from msd_core import GaussianMixture, IdealDenoiser
from msd_core.research.densities import Density
from msd_core.research.landscape import grid
from msd_core.research.studies import fields, fig1, fig3, ideal, setting, timing
from msd_core.research.studies.fields import Resolution, Truth, compare, draw_field, integrated, peaks, smoothed
from msd_core.research.studies.result import write
from msd_core.research.studies.setting import SQUARE, Size, start_points
from msd_core.research.studies.study import Cell, Context
from msd_core.research.toy import smaller, train_steps, unconditional

pytestmark = pytest.mark.core
SMALL = Resolution(side=30, bandwidth=0.2, levels=6, pairs=2, chains=32)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def truth(mixture: GaussianMixture) -> Truth:
    """The truth of `SMALL` behind the mixture of the tests."""
    from msd_core.research.densities.modes import find_modes

    wide = smoothed(mixture, SMALL.bandwidth)
    values = wide.log_prob(grid(SQUARE, (SMALL.side, SMALL.side)).flatten(0, 1)).reshape(SMALL.side, SMALL.side)
    return Truth(values - values.max(), find_modes(wide), values > values.max() - 5, -5.0)


def land(denoiser, method: str, resolution: Resolution = SMALL) -> Cell:  # noqa: ANN001
    return integrated(*draw_field(denoiser, method, resolution, generator(), lambda done, total: None))


def assert_shows_the_density(denoiser, method: str, truth: Truth) -> None:  # noqa: ANN001
    report = compare(land(denoiser, method).tensors["potential"], truth)
    assert report["order"] > 0.99
    assert report["peaks at a mode"] == 1
    assert report["rise at a peak"] < 0.1
    assert report["modes with a peak"] == 1


@pytest.mark.parametrize("method", ["one-step", "exact"])
def test_the_mean_shift_landscape_is_the_log_of_the_smoothed_density(
    method: str, mixture: GaussianMixture, truth: Truth
) -> None:
    assert_shows_the_density(mixture, method, truth)


def test_the_landscape_of_sds_is_another(mixture: GaussianMixture, truth: Truth) -> None:
    with pytest.raises(AssertionError):
        assert_shows_the_density(mixture, "sds", truth)


def test_a_field_turned_round_would_fail(mixture: GaussianMixture, truth: Truth) -> None:
    with pytest.raises(AssertionError):
        assert_shows_the_density(lambda z, sigma: 2 * z - mixture(z, sigma), "one-step", truth)


def test_the_potential_is_in_nats(mixture: GaussianMixture, truth: Truth) -> None:
    """m/lambda^2, not m: the potential's differences are those of log (p * N)."""
    potential = land(mixture, "one-step", Resolution(side=90, bandwidth=SMALL.bandwidth)).tensors["potential"]
    nodes = grid(SQUARE, (90, 90)).flatten(0, 1)
    true = smoothed(mixture, SMALL.bandwidth).log_prob(nodes).reshape(90, 90)
    near = true > true.max() - 4
    torch.testing.assert_close((potential - potential.max())[near], (true - true.max())[near], rtol=0, atol=0.05)


def sds_slope(x: Tensor, variance: float, levels: int) -> Tensor:
    """The expected field for N(0, variance I): w/sigma (D(x) - x), since D is linear and E[n] = 0."""
    total = torch.zeros_like(x)
    for i in range(levels):
        sigma = setting.sampler_level(1 - (0.02 + 0.96 * (i + 0.5) / levels))
        total += sigma / (1 + sigma**2) * (variance / (variance + sigma**2) - 1) * x
    return total / levels


def test_the_field_of_sds_in_closed_form() -> None:
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 2), 0.09 * torch.eye(2)[None])
    halves, evaluations = draw_field(normal, "sds", SMALL, generator(), lambda done, total: None)
    true = sds_slope(grid(SQUARE, (SMALL.side, SMALL.side)), 0.09, SMALL.levels)
    torch.testing.assert_close(halves.mean(dim=0), true, rtol=1e-4, atol=1e-5)  # antithetic noise cancels
    assert evaluations == SMALL.levels * 2 * SMALL.pairs
    with pytest.raises(AssertionError):
        torch.testing.assert_close(halves.mean(dim=0), -true, rtol=1e-4, atol=1e-5)


def test_noise_is_told_from_a_flow_without_landscape(mixture: GaussianMixture) -> None:
    exact, certain = land(mixture, "exact").numbers, land(mixture, "one-step").numbers
    assert certain["noise"] == 0 < exact["noise"] < 0.1
    x = grid(SQUARE, (30, 30))
    vortex = torch.stack([-x[..., 1], x[..., 0]], dim=2) * (-4 * x.square().sum(dim=2, keepdim=True)).exp()
    whirl = integrated(vortex[None], 1.0).numbers
    assert whirl["residual"] > 0.95 > 0.05 > certain["residual"]


def test_peaks_are_inside_and_at_the_top() -> None:
    x = grid(SQUARE, (31, 31))
    centre = torch.tensor([0.3, -0.6], dtype=torch.float64)
    found = peaks(-(x - centre).square().sum(dim=2))
    torch.testing.assert_close(found, centre[None], rtol=0, atol=1e-9)
    assert len(peaks(x[..., 0].contiguous())) == 0
    assert len(peaks(torch.zeros(5, 5))) == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, mixture: GaussianMixture) -> Context:
    """A context whose studies are smaller than quick, of cheap densities, without training to speak of."""
    return Context(tmp_path_factory.mktemp("studies"), quick=True)


@pytest.fixture
def reduced(monkeypatch: pytest.MonkeyPatch, mixture: GaussianMixture) -> Density:
    """Every density is the tests' mixture with a second class; 64 points, a few steps."""
    other = GaussianMixture(mixture.weights, -mixture.means, mixture.covariances)
    density = Density("reduced", {"A": mixture, "B": other})
    monkeypatch.setattr(setting, "QUICK", Size(12, 144, 4, 3, 8, 2**12))
    monkeypatch.setattr(setting, "make_density", lambda name: density)
    monkeypatch.setattr(fig3, "make_density", lambda name: density)
    monkeypatch.setattr(fields, "COARSE", Resolution(side=20, bandwidth=0.3, levels=2, chains=2))
    return density


def test_fig1_whole(tiny: Context, reduced: Density) -> None:
    result = fig1.run(tiny)
    points, lands = result.tables
    assert [row[0] for row in points.rows] == [fig1.label(n) for n in ("ddim", *fig1.GUIDANCES, *fig1.DESCENTS)]
    assert all(0 <= row[points.columns.index("outside")] <= 1 for row in points.rows)
    truth = dict(zip(lands.columns, lands.rows[0], strict=True))
    assert truth["order"] == pytest.approx(1) and truth["peaks at a mode"] == 1
    assert not any("nan" in text for text in result.paragraphs)
    files = {path.name for path in write(result, tiny.folder, quick=True)}
    assert {"fig1.png", "fig1-close.png", "fig1.csv", "fig1.json"} <= files


def test_fig3_whole(tiny: Context, reduced: Density) -> None:
    result = fig3.run(tiny)
    shown = len(fig3.PAPER) * len(fig3.METHODS) * 2 + len(fig3.OTHERS)
    assert [len(table.rows) for table in result.tables] == [shown, shown + len(fig3.PAPER) + len(fig3.OTHERS)]
    files = {path.name for path in write(result, tiny.folder, quick=True)}
    assert {f"fig3-{name}.png" for name in (*fig3.PAPER, "others")} <= files


def test_guidance_starts_from_the_noise_of_ddim(tiny: Context, reduced: Density) -> None:
    """At cfg = 1 it would be the same points: the difference is guidance alone."""
    case = setting.make_case("fractal")
    plain = setting.moved_points(tiny, case, "learned", setting.recipe_of(tiny, "learned", "ddim"), 12).tensors["x"]
    noise = tiny.rng("move", case.name, "learned", "ddim")
    denoiser = setting.learned_denoiser(tiny, case)
    torch.testing.assert_close(setting.sample_ddim(denoiser, len(plain), noise), plain)
    assert not torch.equal(fig1.guided_points(tiny, case, "cfg").tensors["x"], plain)


def test_a_learned_denoiser_is_trained_once_on_its_class(tiny: Context, reduced: Density) -> None:
    case = setting.make_case("fractal")
    own = setting.toy_settings(tiny, case, "B")
    denoiser, seconds = setting.learned_denoiser(tiny, case, own), tiny.seconds
    again = setting.learned_denoiser(tiny, case, own)
    *_, state = train_steps(own, reduced.of("B"))
    for model in (denoiser, again):
        assert all(torch.equal(v, state.average[k]) for k, v in model.network.state_dict().items())
        assert model.box is not None and torch.equal(model.box[1], reduced.of("B").box()[1])
        assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert tiny.seconds == seconds
    other = setting.learned_denoiser(tiny, case, setting.toy_settings(tiny, case, "A"))
    assert not torch.equal(other(start_points(4), 0.5), denoiser(start_points(4), 0.5))


def test_guidance_combines_the_right_models(tiny: Context, reduced: Density) -> None:
    case, z = setting.make_case("fractal"), start_points(6)
    own = setting.toy_settings(tiny, case, case.cls)
    cond = setting.learned_denoiser(tiny, case)(z, 0.5)
    for name, guide, cfg in (("cfg", unconditional(own), 4.0), ("autoguidance", smaller(own), 3.0)):
        other = setting.learned_denoiser(tiny, case, guide)(z, 0.5)
        guided = fig1.guided_denoiser(tiny, case, name)
        torch.testing.assert_close(guided(z, 0.5), other + cfg * (cond - other))
        assert guided.cost == 2 and float((cond - other).norm()) > 0


def wrong(data: Tensor, z: Tensor, sigma: float) -> Tensor:
    """A kernel of twice the variance."""
    return timing.plain(data, z, sigma * math.sqrt(2))


def test_the_forms_agree_with_the_reference_and_a_wrong_one_does_not() -> None:
    data, z = torch.rand(300, 2), torch.rand(200, 2)
    forms = {"plain": timing.plain, "ours": lambda data, z, sigma: IdealDenoiser(data)(z, sigma)}
    for form in forms.values():
        torch.testing.assert_close(form(data, z, 0.3).double(), timing.reference(data, z, 0.3), rtol=0, atol=1e-5)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(wrong(data, z, 0.3).double(), timing.reference(data, z, 0.3), rtol=0, atol=1e-5)


def test_the_stopwatch_takes_turns_and_leaves_preparation_out() -> None:
    calls: list[str] = []
    done = timing.fastest({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, {"b": calls.clear})
    assert calls == ["b"] and set(done) == {"a", "b"} and all(0 <= s < 0.1 for s in done.values())
    slow = timing.fastest({"wait": lambda: torch.rand(300, 300) @ torch.rand(300, 300), "none": lambda: None}, 2)
    assert slow["wait"] > slow["none"]


def test_the_chain_is_charged_with_its_own_evaluations(mixture: GaussianMixture) -> None:
    cost = timing.chain_cost(mixture, torch.rand(50, 2), 0.3, generator(), 1)
    assert cost["count"] == 2 * setting.SOLVER_STEPS["exact"]  # one at x, two a step, one in the last
    assert cost["chain"] > 0 and cost["evaluations"] > 0


def numbers(plain: float, ours: float, exponentials: float) -> dict[str, float]:
    times = {"plain": plain, "float32": ours, "float64": ours, "exponentials": exponentials}
    return times | {"error 32": 1e-7, "error 64": 1e-14, "error plain": 1e-6}


def test_the_verdict_is_counted() -> None:
    used = {"float32": 90.0, "float64": 120.0, "plain": 900.0}
    good = {("grid", 1.0): numbers(1.0, 0.1, 0.001), ("grid", 0.1): numbers(0.1, 0.1, 0.06)}
    assert "holds in 2 of 2 cases." in ideal.verdict(good, used)
    bad = good | {("grid", 0.3): numbers(0.3, 0.1, 0.04)}
    assert "holds in 2 of 3 cases, and not at σ = 0.3 at the grid (3.0 times plain" in ideal.verdict(bad, used)
    assert "90 MB (below 200)" in ideal.verdict(good, used)
    assert "300 MB (not below 200)" in ideal.verdict(good, used | {"float32": 300.0})


def test_one_level_of_the_ideal_study(tmp_path: Path) -> None:
    context = Context(tmp_path, quick=True)
    data = torch.rand(400, 2, generator=generator())
    n = ideal.one_level(context, data, "grid", 0.1)
    assert max(n["error 32"], n["error plain"]) < 1e-5 and n["error 64"] < 1e-11
    table = ideal.speed_table({("grid", 0.1): n}, len(data))
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["× faster than plain"] == pytest.approx(n["plain"] / n["float32"])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc")
def test_the_peak_is_that_of_the_form_and_not_of_the_process_that_asks() -> None:
    held = torch.ones(150_000_000)  # 600 MB: more than either form needs
    used = {
        "plain": timing.peak_megabytes("plain", "torch.float32", 10_000, (1.0,)),
        "ours": timing.peak_megabytes("ours", "torch.float32", 10_000, (1.0, 0.2, 0.002)),
    }
    assert held.numel() and used["plain"] > 400 > 200 > used["ours"] > 0
