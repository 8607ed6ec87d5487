"""Presets by name: the numbers that were measured, in the units of the model; what is given beside one wins."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from tiny_model import FIRE, TinyModel, assert_same, last

from msd_core import MSD, Exponential, Preset, distil, preset_of
from msd_core.cli.main import main
from msd_core.cli.settings import Settings
from msd_core.distillation.base import bandwidth_of
from msd_core.generators.volume.volume import Volume
from msd_core.named import LAYOUT, NAMED, changes_of, planned_evaluations, preset_at, preset_named, said
from msd_core.preset import preset_for
from msd_core.settings import build, flatten
from msd_core.units import Units, units_of

pytestmark = pytest.mark.core
DEMO = Units(1.0, 1024, 14.6146)
FRONTIER = Path(__file__).resolve().parents[2] / "docs" / "frontier.yaml"


def test_on_the_demo_model_they_are_the_settings_that_were_measured() -> None:
    """Those of docs/frontier.yaml, whose table they stand in."""
    settings = yaml.safe_load(FRONTIER.read_text(encoding="utf-8"))["settings"]
    for name, row in (("fast", "fast"), ("balanced", "balanced"), ("faithful", "faithful")):
        measured = {key: value for key, value in settings[row].items() if key not in ("method", "start")}
        assert preset_named(name, DEMO) == preset_of("msd", **measured)
        assert NAMED[name].start == settings[row].get("start", "")
    assert preset_named("balanced", DEMO) == preset_of("msd"), "the default"
    slower = build(preset_named("fast", DEMO), {"steps": 11})
    assert slower != preset_of(
        "msd", **{key: settings["fast"][key] for key in ("solver_steps", "steps", "inner_steps")}
    )


def test_the_papers_own() -> None:
    preset = preset_named("paper", DEMO)
    used = flatten(preset)
    stated = {"steps": 400, "lr": 1e-2, "cfg": 7.5, "optimizer": "adam", "pull": "latent", "estimator": "split"}
    assert {key: used[key] for key in stated} == stated and used["samples"] == 1 and used["centre"] == "inversion"
    assert (used["bandwidth_start"], used["bandwidth_end"]) == (1000.0, 0.01)


@pytest.mark.parametrize(("name", "most"), [("fast", 60), ("balanced", 160), ("faithful", 96), ("paper", 51_200)])
def test_what_they_cost(name: str, most: int) -> None:
    assert planned_evaluations(preset_named(name, DEMO), DEMO) == most
    assert f"{most:,} evaluations" in said(preset_named(name, DEMO), DEMO)
    assert planned_evaluations(preset_named(name, DEMO, {"cfg": 1.0}), DEMO) == most // 2


@pytest.mark.parametrize("changes", [{}, {"cfg": 1.0}, {"truncation": 1.1, "estimator": "split", "steps": 9}])
def test_the_cost_is_that_of_the_run(changes: dict) -> None:
    model, changed = TinyModel(), {"steps": 4, "solver_steps": 5, "inner_steps": 1, **changes}
    units = units_of(model, 6, 6)
    states = distil(FIRE, model=model, preset="fast", **changed)
    spent = last(states).evaluations
    guided = 2 if changed.get("cfg") != 1 else 1
    assert planned_evaluations(preset_named("fast", units, changed), units, cost=2) == spent * guided, "TinyModel is 1"
    assert planned_evaluations(preset_named("fast", units, {**changed, "steps": 3}), units) != spent * guided


def test_evaluations_of_an_inversion_at_its_own_guidance_are_planned() -> None:
    """An inversion without guidance takes half of the rows of one with it."""
    changed: dict[str, object] = {"steps": 3}
    guided = planned_evaluations(preset_named("paper", DEMO, changed), DEMO)
    assert 0 < planned_evaluations(preset_named("paper", DEMO, {**changed, "inversion_cfg": 1.0}), DEMO) < guided


def test_what_is_given_wins() -> None:
    changed = preset_named("fast", DEMO, {"steps": 7, "bandwidth_end": 0.5, "bandwidth_schedule": "karras", "lr": 0.02})
    used = flatten(changed)
    assert (used["steps"], used["bandwidth_end"], used["bandwidth_schedule"], used["lr"]) == (7, 0.5, "karras", 0.02)
    assert (used["bandwidth_start"], used["inner_steps"]) == (8.0, 15), "the rest is the preset's"
    one = preset_named("fast", DEMO, {"estimator": "one-step"})
    assert flatten(one)["estimator"] == "one-step" and one.steps == 10
    own = preset_named("balanced", Units(0.5, 4096, 14.6), {"bandwidth_start": 3.0})
    assert flatten(own)["bandwidth_start"] == 3.0 and flatten(own)["bandwidth_end"] == pytest.approx(0.35)


def test_the_door_takes_a_name() -> None:
    """As the numbers themselves, to the last bit, at the size of the run or of the generator that is given."""
    model, quick = TinyModel(), {"steps": 3, "solver_steps": 2}
    units = units_of(model, 6, 6)
    ends = {key: value for key, value in changes_of("fast", units).items() if key.startswith("bandwidth_")}
    assert ends["bandwidth_start"] == max(LAYOUT * 18**0.5, 1.4) == 1.4, "a latent of 18 numbers"
    door = last(distil(FIRE, seed=7, model=model, preset="fast", **quick))
    assert_same(door, last(distil(FIRE, seed=7, model=model, **ends, **quick)))
    with pytest.raises(AssertionError):
        assert_same(door, last(distil(FIRE, seed=7, model=model, **{**ends, "bandwidth_start": 8.0}, **quick)))
    larger = last(distil(FIRE, model=model, preset="fast", size=(40, 40), generator="pixels", **quick))
    assert larger.history[0].bandwidth == pytest.approx(LAYOUT * 800**0.5)
    again = last(distil(FIRE, model=model, preset="fast", generator=larger.generator, **quick))
    assert again.history[0].bandwidth == larger.history[0].bandwidth


def test_without_a_name_it_is_balanced_in_the_units_of_the_model() -> None:
    """Unless a method, a generator or both ends of lambda say otherwise."""
    quick = {"steps": 3, "solver_steps": 2, "seed": 7}
    small = last(distil(FIRE, model=TinyModel(), preset="balanced", **quick))
    assert_same(last(distil(FIRE, model=TinyModel(), **quick)), small)
    assert [info.bandwidth for info in small.history] == pytest.approx([1.4, 0.98995, 0.7])
    size = (64, 64)
    assert_same(
        last(distil(FIRE, model=TinyModel(), generator="pixels", size=size, **quick)),
        last(distil(FIRE, model=TinyModel(), generator="pixels", size=size, preset="balanced", **quick)),
    )

    def ends(*arguments: object, **named: object) -> tuple[float, float]:
        preset = preset_at(lambda: units_of(TinyModel(), *size), *arguments, **named)  # type: ignore[arg-type]
        return bandwidth_of(preset.method, 0, preset.steps), bandwidth_of(preset.method, preset.steps - 1, preset.steps)

    own = LAYOUT * 2048**0.5
    assert ends() == pytest.approx((own, 0.7))
    assert ends("msd", {"bandwidth_end": 0.5}) == pytest.approx((own, 0.5))
    assert ends("msd", {"bandwidth_schedule": "karras", "estimator": "split"}) == pytest.approx((own, 0.7))
    assert ends("msd", {"bandwidth_start": 3.0, "bandwidth_end": 0.5}) == pytest.approx((3.0, 0.5))
    for given in (MSD(), preset_of("msd")):
        assert ends(given) == pytest.approx((8.0, 0.7)), "its own numbers"
    assert ends("msd", {}, Volume) == ends(preset_for(Volume, "msd", {}))
    assert preset_at(lambda: units_of(TinyModel(), *size), "sds") == preset_of("sds")


def test_faithful_begins_with_a_sample_unless_there_is_a_start() -> None:
    quick = {"preset": "faithful", "steps": 2, "solver_steps": 2, "generator": "pixels", "seed": 4}
    sampled = last(distil(FIRE, model=TinyModel(), **quick))
    assert_same(sampled, last(distil(FIRE, model=TinyModel(), start="sample", **quick)))
    own = last(distil(FIRE, model=TinyModel(), start=torch.full((1, 3, 6, 6), 0.9), **quick))
    assert not torch.equal(sampled.picture(), own.picture())


REFUSED = [
    ({"preset": "quick"}, "preset: got 'quick'; allowed are 'fast', 'balanced', 'faithful', 'paper'"),
    ({"preset": "fast", "method": "sds"}, "preset: got 'fast' with the method 'sds'; allowed with 'msd' alone"),
    ({"preset": "fast", "method": Preset()}, "preset: got 'fast' with the method Preset; allowed with 'msd' alone"),
    ({"preset": "fast", "generator": "volume"}, "preset: got 'fast' for a generator that has settings of its own"),
    ({"preset": "fast", "t_min": 0.1}, "t_min: got 0.1"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_wrong_names(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distil(FIRE, model=TinyModel(), **options)


def test_a_method_with_its_own_settings_is_no_name() -> None:
    """A preset replaces the method's settings: they are given by plain name."""
    assert preset_named("fast", DEMO, method="msd") == preset_named("fast", DEMO)
    with pytest.raises(ValueError, match="preset: got 'fast' with the method MSD"):
        preset_named("fast", DEMO, method=MSD(Exponential(4.0, 1.0)))
    with pytest.raises(ValueError, match="settings of its own"):
        preset_named("fast", DEMO, generator=Volume)


def test_a_model_that_ends_below_the_last_bandwidth_is_refused() -> None:
    with pytest.raises(ValueError, match="preset: got 'fast', which ends at λ 0.7, for a model whose highest level is"):
        preset_named("fast", Units(1.0, 1024, 0.5))


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The numbers are said and saved; a flag beside the name wins; a run to resume has its own."""
    quick = ["--size", "64x64", "--solver-steps", "4", "--inner-steps", "1", "--generator", "pixels"]
    given = ["distill", "a red circle", "--out", str(tmp_path / "run"), "--preset", "fast", "--steps", "2", *quick]
    assert main(given) == 0
    assert "msd: fast: λ 4 to 0.7, 2 steps, 16 evaluations" in capsys.readouterr().err
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    used = flatten(Settings.from_json(saved["settings"]).preset)
    assert (used["bandwidth_start"], used["bandwidth_end"], used["steps"], used["solver_steps"]) == (4.0, 0.7, 2, 4)
    assert [step["bandwidth"] for step in saved["steps"]] == pytest.approx([4.0, 0.7])
    assert "the run has not ended at a picture" in saved["warning"], "of two steps"
    assert main(["distill", "x", "--out", str(tmp_path / "none"), "--preset", "quick"]) == 2
    assert "--preset: got 'quick'; allowed are" in capsys.readouterr().err


def test_a_run_to_resume_takes_no_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    quick = ["--size", "64x64", "--solver-steps", "1", "--inner-steps", "1", "--generator", "pixels", "--steps", "3"]
    out = ["--out", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msd_core.cli.run._report", stop)
        assert main(["distill", "a red circle", "--preset", "fast", *out, *quick]) == 130
    assert main(["distill", "--resume", "--preset", "fast", *out]) == 2
    assert "--preset: got 'fast' with --resume; the run to resume has its numbers already" in capsys.readouterr().err
    assert main(["distill", "--resume", *out]) == 0
    steps = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["steps"]
    assert steps[0]["bandwidth"] == 4.0 and len(steps) == 3
