"""Presets by name in the nodes: the numbers of the model at hand, what wins over them, and where they are written."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace

import comfy.latent_formats
import comfy.samplers
import pytest
import torch
from comfy.model_base import ModelType
from comfy_extras.nodes_custom_sampler import DualCFGGuider
from msd_pack.msd_core import symptoms
from msd_pack.msd_core.named import DETAIL, KEPT, LAYOUT, NAMED, preset_named
from msd_pack.msd_core.preset import preset_of
from msd_pack.msd_core.settings import flatten
from msd_pack.msd_core.units import Units
from msd_pack.nodes import bandwidth, host
from msd_pack.nodes import distill as distill_nodes
from msd_pack.nodes import run as run_module
from msd_pack.nodes.axis import Axis, data_std_of
from msd_pack.nodes.bandwidth import BandwidthScheduler
from msd_pack.nodes.demo import LoadDemoModel
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator, RenderGenerator
from msd_pack.nodes.graphics import VectorGenerator
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.named import BY_HAND, DEFAULT, WORKFLOW, note, units_at
from msd_pack.nodes.volume import VolumeGenerator
from tiny_families import FAMILIES, conditioning_of, model_of, sampling_of, vae_of

ROWS, COLUMNS = 3, 5
MADE = {"schedule": "exponential", "start": 8.0, "end": 0.7, "steps": 20, "rho": 7.0, "points": ""}
QUICK = {"steps": 2, "solver_steps": 1, "inner_steps": 1}


def born(name: str, representation: str = "latent", rows: int = ROWS, columns: int = COLUMNS) -> HostGenerator:
    family = FAMILIES[name]
    with torch.inference_mode():
        return NeuralImageGenerator.execute(
            representation,
            columns * family.cell,
            rows * family.cell,
            0,
            8,
            1,
            family.channels,
            cell=family.cell,
        ).args[0]


def as_made(node: type = STEPS["msd"]) -> dict:
    """The widgets of a step as the node was made."""
    inputs = [entry for entry in node.GET_SCHEMA().inputs if entry.id != "mask"]
    return {entry.id: entry.default for entry in inputs if getattr(entry, "default", None) is not None}


def step(name: str, generator: HostGenerator, preset: str, **widgets: object) -> tuple:
    with torch.inference_mode():
        sockets = {"positive": conditioning_of(name, 3), "negative": conditioning_of(name, 4), "model": model_of(name)}
        given = as_made() | {"checkpoint_every": 0.0}
        return STEPS["msd"].execute(generator, **given | sockets | {"preset": preset} | widgets).args


def numbers(made: HostGenerator) -> dict:
    return json.loads(made.about["settings"])


# --- the units of the host's models -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_lambda_carries_to_every_family(name: str) -> None:
    """Up to the model's highest σ, a quarter of the length of its latents; noise of that level is λ times the picture
    in the host's own mixture, which for a flow is at another number.
    """
    family, model = FAMILIES[name], model_of(name)
    sampling = model.get_model_object("model_sampling")
    units, axis = units_at(model, born(name).canvas), Axis.of(sampling)
    assert units == Units(1.0, family.channels * ROWS * COLUMNS, axis.sigma_max)
    large = units_at(model, born(name, rows=128, columns=128).canvas)
    for at, side in ((units, ROWS * COLUMNS), (large, 128 * 128)):
        first, last = NAMED["fast"].bandwidths(at)
        assert first == min(max(LAYOUT * math.sqrt(family.channels * side), 2 * DETAIL), axis.sigma_max)
        assert last == DETAIL
        for width in (first, last):
            level, one, none = torch.tensor(float(axis.level(width))), torch.ones(1), torch.zeros(1)
            mixed = [sampling.noise_scaling(level, *both) for both in ((one, none), (none, one))]
            assert float(mixed[0] / mixed[1]) == pytest.approx(width, rel=1e-3)
            assert float(level) == pytest.approx(width, rel=1e-6) or axis.flow


def test_what_that_is_at_the_usual_sizes() -> None:
    """SD 1.5 at 512, SDXL at 1024, SD 3 and Flux at 1024 pixels."""
    found = {}
    for name, side in (("sd15", 64), ("sdxl", 128), ("sd3", 128), ("flux", 128), ("flux2", 64)):
        canvas = born(name, rows=side, columns=side).canvas
        units = units_at(model_of(name), canvas)
        found[name] = [round(NAMED[preset].bandwidths(units)[0], 1) for preset in ("balanced", "faithful")]
    assert found == {
        "sd15": [14.6, 8.0],
        "sdxl": [14.6, 14.6],
        "sd3": [128.0, 32.0],
        "flux": [128.0, 32.0],
        "flux2": [181.0, 45.3],
    }
    assert KEPT < LAYOUT


def test_a_latent_format_of_another_deviation() -> None:
    """Playground 2.5 takes its latents at .5, its format scales them to that, and its sampling says so."""
    sampling = sampling_of(ModelType.EDM, sigma_data=0.5, sigma_max=80.0)
    known = comfy.latent_formats.SDXL_Playground_2_5()
    noise = torch.randn(4, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    inside = known.process_in(known.latents_mean + known.latents_std * noise)
    assert float(inside.std()) == pytest.approx(data_std_of(sampling), rel=0.02)
    assert data_std_of(sampling_of(ModelType.EPS)) == data_std_of(sampling_of(ModelType.FLUX)) == 1.0
    assert data_std_of(SimpleNamespace(sigma_data=0.0)) == 1.0  # pyright: ignore[reportArgumentType]
    halves = [flatten(preset_named("fast", Units(s, 65536, 80.0))) for s in (data_std_of(sampling), 1.0)]
    for end in ("bandwidth_start", "bandwidth_end"):
        assert 2 * halves[0][end] == halves[1][end]


def test_the_denoiser_says_the_deviation() -> None:
    model = model_of("sd15")
    model.add_object_patch("model_sampling", sampling_of(ModelType.EDM, sigma_data=0.5, sigma_max=80.0))
    guider = make_guider(model, conditioning_of("sd15", 3), None, 1.0)
    assert host.run(guider, lambda session: session.denoiser.data_std, ROWS, COLUMNS) == 0.5
    plain = make_guider(model_of("sd15"), conditioning_of("sd15", 3), None, 1.0)
    assert host.run(plain, lambda session: session.denoiser.data_std, ROWS, COLUMNS) == 1.0


# --- the scheduler ----------------------------------------------------------------------------------------------------


def scheduled(preset: str, name: str = "sd15", **widgets: object) -> torch.Tensor:
    with torch.inference_mode():
        sockets = {"model": model_of(name), "generator": born(name, rows=16, columns=16)}
        return BandwidthScheduler.execute(**MADE | sockets | widgets, preset=preset).args[0]


def test_the_scheduler_gives_the_numbers_of_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(bandwidth, "tell", lambda node_id, text: told.append(text))
    for name, first, steps in (("fast", 8.0, 10), ("balanced", 8.0, 20), ("faithful", 2.0, 12)):
        curve = scheduled(name)
        assert (len(curve), float(curve[0]), float(curve[-1])) == (steps, first, pytest.approx(0.7))
    assert told == [
        "fast: λ 8 to 0.7, 10 steps of 15 updates, 60 evaluations",
        "balanced: λ 8 to 0.7, 20 steps of 15 updates, 160 evaluations",
        "faithful: λ 2 to 0.7, 12 steps of 5 updates, 96 evaluations",
    ]
    assert float(scheduled("fast", "sd3")[0]) == 16.0, "16 channels"
    assert len(told) == 4 and torch.equal(scheduled(BY_HAND), scheduled("balanced")) and len(told) == 5


def test_a_changed_widget_of_the_scheduler_wins() -> None:
    curve = scheduled("fast", start=3.0, steps=5)
    assert (len(curve), float(curve[0]), float(curve[-1])) == (5, 3.0, pytest.approx(0.7))
    assert not torch.equal(scheduled("fast", schedule="linear"), scheduled("fast"))
    assert torch.equal(scheduled("fast", start=8.0), scheduled("fast")), "as the node was made"


def test_the_scheduler_needs_what_a_preset_is_for() -> None:
    with pytest.raises(ValueError, match="model and generator: not connected; the preset 'fast' is in the units"):
        BandwidthScheduler.execute(**MADE, preset="fast")
    with pytest.raises(ValueError, match="generator: not connected"):
        BandwidthScheduler.execute(**MADE, preset="fast", model=model_of("sd15"))
    with pytest.raises(ValueError, match="preset: got 'quick'; allowed are 'fast'"):
        scheduled("quick")


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_runs_by_a_preset_on_every_family(name: str) -> None:
    generator = born(name)
    expected = NAMED["faithful"].bandwidths(units_at(model_of(name), generator.canvas))
    used = numbers(step(name, generator, "faithful", steps=2, solver_steps=1)[0])
    assert (used["bandwidth_start"], used["bandwidth_end"]) == expected
    assert (used["steps"], used["solver_steps"], used["inner_steps"], used["lr"]) == (2, 1, 5, 0.005)


def test_a_changed_widget_and_a_connected_curve_win() -> None:
    generator = born("sd15")
    used = numbers(step("sd15", generator, "fast", **QUICK, learning_rate=0.03, cfg=1.0)[0])
    assert used["lr"] == 0.03 and used["cfg"] == 1.0 and used["estimator"] == "exact"
    curve = torch.tensor([5.0, 1.0])
    by_curve = step("sd15", generator, "fast", **QUICK, bandwidths=curve)
    assert numbers(by_curve[0])["bandwidth_schedule"] == "listed" and len(by_curve[3]["loss"]) == 2
    assert numbers(step("sd15", generator, BY_HAND, **QUICK)[0])["bandwidth_start"] == 8.0
    assert numbers(step("sd15", generator, "fast", **QUICK)[0])["bandwidth_start"] == pytest.approx(LAYOUT * 60**0.5)


def test_a_preset_by_hand_is_the_step_as_it_was() -> None:
    """To the bit, and with the numbers of a preset spelled out as with its name."""
    generator = born("sd15", rows=16, columns=16)

    def moved(preset: str, **widgets: object) -> torch.Tensor:
        return next(iter(step("sd15", generator, preset, **widgets)[0].generator.parameters())).detach()

    spelled = moved(BY_HAND, steps=10, solver_steps=1)
    assert torch.equal(moved("fast", solver_steps=1), spelled)
    assert not torch.equal(moved("balanced", solver_steps=1), spelled)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a step tells of itself as it begins."""
    told: list[str] = []
    monkeypatch.setattr(run_module, "tell", lambda node_id, text: told.append(text))
    return told


def test_a_step_is_made_with_the_default_and_so_is_a_graph_that_names_none() -> None:
    generator, model = born("sd15"), model_of("sd15")
    first, last = NAMED[DEFAULT].bandwidths(units_at(model, generator.canvas))
    assert as_made()["preset"] == DEFAULT and first != 8.0
    named, by_hand = (step("sd15", generator, preset, **QUICK) for preset in (DEFAULT, BY_HAND))
    assert (numbers(named[0])["bandwidth_start"], numbers(named[0])["bandwidth_end"]) == (first, last)
    assert numbers(by_hand[0])["bandwidth_start"] == 8.0
    sockets = {"positive": conditioning_of("sd15", 3), "negative": conditioning_of("sd15", 4), "model": model}
    given = {name: value for name, value in as_made().items() if name != "preset"} | {"checkpoint_every": 0.0}
    with torch.inference_mode():
        unnamed = STEPS["msd"].execute(generator, **given | sockets | QUICK).args[0]
    assert numbers(unnamed) == numbers(named[0])
    curve = torch.tensor([5.0, 1.0])
    wins = [step("sd15", generator, preset, **QUICK, bandwidths=curve)[0] for preset in (DEFAULT, BY_HAND)]
    assert numbers(wins[0]) == numbers(wins[1]), "a connected curve wins"
    moved = [torch.cat([p.detach().flatten() for p in made.generator.parameters()]) for made in wins]
    assert torch.equal(*moved)


def test_the_default_refuses_nothing(lines: list[str]) -> None:
    """A generator with settings of its own, and a model of which nothing is known, run as the widgets show."""
    volume = VolumeGenerator.execute(**{**as_made(VolumeGenerator), "width": 16, "height": 16}).args[0]
    made = step("sd15", volume, DEFAULT, **QUICK, vae=vae_of("sd15"))[0]
    assert numbers(made) == numbers(step("sd15", volume, BY_HAND, **QUICK, vae=vae_of("sd15"))[0])
    assert lines[0].startswith(f"by hand ({DEFAULT} has no numbers here): λ 8 to 0.7, 2 steps, cfg 3")
    model = model_of("sd15")
    sampling = sampling_of(ModelType.EPS)
    sampling.set_sigmas(torch.linspace(0.1, 0.5, 100))
    model.add_object_patch("model_sampling", sampling)
    low = step("sd15", born("sd15"), DEFAULT, **QUICK, model=model)[0]
    assert numbers(low)["bandwidth_start"] == 8.0, "all its levels lie below the last λ of a preset"
    with pytest.raises(ValueError, match="preset: got 'fast', which ends at λ 0.7, for a model whose highest level"):
        step("sd15", born("sd15"), "fast", **QUICK, model=model)


def test_a_step_tells_the_numbers_that_it_runs_with(lines: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Also where widgets that mean their defaults are filled: 20 steps of cfg 3 become 400 of 7.5."""
    with caplog.at_level(logging.INFO):
        generator = NeuralImageGenerator.execute("pixels", 40, 24, 0, 8, 1, 4).args[0]
        step("sd15", generator, "paper", solver_steps=1, min_bandwidth=900.0, vae=vae_of("sd15"))
    told = (
        "paper: λ 1e+03 to 0.01, 400 steps, cfg 7.5; in place of the widgets: steps 400, cfg 7.5, inner_steps 1, "
        "estimator split, centre inversion, pull latent"
    )
    assert sorted(lines[0].split(", ")) == sorted(told.split(", ")) and lines[0] in caplog.text


def test_what_stands_under_a_running_step(lines: list[str]) -> None:
    step("sd15", born("sd15"), "fast", **QUICK, cfg=1.0)
    head = "fast: λ 1.94 to 0.7, 2 steps, cfg 1"
    assert lines[0] == head and [line.split("\n")[1] for line in lines[1:3]] == [head, head]
    lines.clear()
    step("sd15", born("sd15"), BY_HAND, **QUICK)
    assert lines[0] == "by hand: λ 8 to 0.7, 2 steps, cfg 3"


def test_the_cfg_that_is_written_is_the_guiders(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The widget's is not asked with a guider; one with a rule of its own has none, and no warning that names one."""
    warned: list[bool] = []
    plain = symptoms.warning_of
    monkeypatch.setattr(symptoms, "warning_of", lambda *a, **k: (warned.append(k["own_guidance"]), plain(*a, **k))[1])
    model = model_of("sd15")
    stock = comfy.samplers.CFGGuider(model)
    stock.set_conds(conditioning_of("sd15", 3), conditioning_of("sd15", 4))
    stock.set_cfg(5.5)
    made = step("sd15", born("sd15"), DEFAULT, **QUICK, guider=stock)[0]
    assert numbers(made)["cfg"] == 5.5 and ", cfg 5.5" in lines[0]
    three = [conditioning_of("sd15", seed) for seed in (3, 4, 5)]
    own = DualCFGGuider.execute(model, *three, 5.5, 2.0, "regular").args[0]
    lines.clear()
    made = step("sd15", born("sd15"), DEFAULT, **QUICK, guider=own)[0]
    assert "cfg" not in numbers(made) and "cfg" not in lines[0].split(";")[0]
    assert warned == [False, True]


TWINS = Path(__file__).parents[1] / "server" / "workflows"
BY_NAME = {
    "balanced": {"start": 8.0, "end": 0.7, "steps": 20, "inner_steps": 15, "lr": 0.01},
    "faithful": {"start": 2.0, "end": 0.7, "steps": 12, "inner_steps": 5, "lr": 0.005},
}
NAMING = [
    (path.stem, node["inputs"])
    for path in sorted(TWINS.glob("*.json"))
    for node in json.loads(path.read_text(encoding="utf-8")).values()
    if node["class_type"] == "MSD_BandwidthScheduler" and "preset" in node["inputs"]
]


@pytest.mark.parametrize(("template", "inputs"), NAMING, ids=[name for name, _ in NAMING])
def test_a_template_by_name_has_the_numbers_that_it_had_by_hand(template: str, inputs: dict) -> None:
    """On the demo model at the template's size, to the bit; on another model they are in its units."""
    graph = json.loads((TWINS / f"{template}.json").read_text(encoding="utf-8"))
    made, plain = graph[inputs["generator"][0]]["inputs"], BY_NAME[inputs["preset"]]
    moved = next(node["inputs"] for node in graph.values() if node["class_type"] == "MSD_MeanShiftDistillStep")
    with torch.inference_mode():
        model = LoadDemoModel.execute().args[0]
        generator = NeuralImageGenerator.execute("fourier", made["width"], made["height"], 0, 8, 1, 4).args[0]
        sockets = {"model": model, "generator": generator}
        curve = BandwidthScheduler.execute(**inputs | sockets).args[0]
        ends = {name: plain[name] for name in ("start", "end", "steps")}
        assert torch.equal(curve, BandwidthScheduler.execute(**MADE | ends).args[0])
        larger = NeuralImageGenerator.execute("fourier", 512, 512, 0, 8, 1, 4).args[0]
        assert float(BandwidthScheduler.execute(**inputs | sockets | {"generator": larger}).args[0][0]) > plain["start"]
    usual = preset_named(moved["preset"], units_at(model, generator.canvas))
    run = flatten(distill_nodes.step_preset("msd", moved, curve, usual))
    changed = moved["learning_rate"] if moved["learning_rate"] != 0.01 else plain["lr"]
    assert (run["steps"], run["inner_steps"], run["lr"]) == (plain["steps"], plain["inner_steps"], changed)
    assert len(NAMING) == 10 and moved["preset"] == inputs["preset"]


def test_the_guidance_of_the_paper_reaches_the_guider(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    plain = distill_nodes.make_guider

    def make(model: object, positive: object, negative: object, cfg: float, guider: object) -> object:
        asked.append(cfg)
        return plain(model, positive, negative, cfg, guider)

    monkeypatch.setattr(distill_nodes, "make_guider", make)
    generator = NeuralImageGenerator.execute("pixels", 40, 24, 0, 8, 1, 4).args[0]
    for widgets in ({}, {"cfg": 5.0}, {"cfg": 3.0}):
        step("sd15", generator, "paper", **QUICK | {"steps": 1}, **widgets, vae=vae_of("sd15"))
    assert asked == [7.5, 5.0, 7.5]


def test_generators_with_settings_of_their_own_are_refused() -> None:
    volume = VolumeGenerator.execute(**{**as_made(VolumeGenerator), "width": 16, "height": 16}).args[0]
    with pytest.raises(ValueError, match="preset: got 'fast' for a generator that has settings of its own"):
        step("sd15", volume, "fast", vae=vae_of("sd15"))
    drawn = VectorGenerator.execute(**{**as_made(VectorGenerator), "width": 40, "height": 24}).args[0]
    made = step("sd15", drawn, "fast", **QUICK, vae=vae_of("sd15"))[0]
    assert numbers(made)["bandwidth_start"] == pytest.approx(LAYOUT * 60**0.5)


# --- where the numbers are written ------------------------------------------------------------------------------------


def test_the_workflow_holds_the_numbers() -> None:
    extra = {"workflow": {"nodes": [], "extra": {"ds": {"scale": 1.0}}}}
    preset = preset_named("fast", Units(1.0, 1024, 14.6))
    note(extra, "7", preset.to_json())
    note(extra, "9", preset_of("msd").to_json())
    written = json.loads(json.dumps(extra))["workflow"]["extra"]
    assert written["ds"] == {"scale": 1.0} and list(written[WORKFLOW]) == ["7", "9"]
    assert written[WORKFLOW]["7"]["steps"] == 10 and written[WORKFLOW]["7"]["method"]["bandwidths"]["start"] == 8.0
    for without in (None, {}, {"workflow": None}):
        note(without, "7", preset.to_json())
    untouched: dict = {"workflow": {}}
    note(untouched, None, preset.to_json())
    assert untouched == {"workflow": {}}


def test_a_step_writes_into_the_hosts_workflow() -> None:
    extra: dict = {"workflow": {"extra": {}}}
    node = STEPS["msd"]
    hidden = SimpleNamespace(unique_id="7", dynprompt=None, prompt=None, extra_pnginfo=extra)
    bound = type("Bound", (node,), {"hidden": hidden, "__module__": node.__module__})
    given = as_made()
    sockets = {"positive": conditioning_of("sd15", 3), "negative": conditioning_of("sd15", 4)}
    with torch.inference_mode():
        bound.execute(born("sd15"), **given | sockets | QUICK | {"model": model_of("sd15"), "preset": "fast"})
    written = extra["workflow"]["extra"][WORKFLOW]["7"]
    assert written["steps"] == 2 and written["cfg"] == 3.0
    assert "extra_pnginfo" in [entry.name for entry in node.GET_SCHEMA().hidden]


def test_a_picture_that_is_drawn_later_holds_the_numbers_too() -> None:
    """The host keeps what a step made, and does not run it again: its generator brings the settings of its steps."""
    generator, settings = born("sd15"), {"steps": 2}
    moved = HostGenerator(generator.generator, model_of("sd15").get_model_object("latent_format"), {}, {"7": settings})
    extra: dict = {"workflow": {"extra": {"ds": {}}}}
    hidden = SimpleNamespace(unique_id="9", prompt=None, extra_pnginfo=extra)
    bound = type("Bound", (RenderGenerator,), {"hidden": hidden, "__module__": RenderGenerator.__module__})
    with torch.inference_mode():
        bound.execute(moved, generator.canvas.width, generator.canvas.height)
    assert extra["workflow"]["extra"] == {"ds": {}, WORKFLOW: {"7": settings}}
    assert "extra_pnginfo" in [entry.name for entry in RenderGenerator.GET_SCHEMA().hidden]


def test_a_chain_of_steps_brings_all_of_them() -> None:
    node, first = STEPS["msd"], born("sd15")
    sockets = {"positive": conditioning_of("sd15", 3), "negative": conditioning_of("sd15", 4)}
    sockets |= {"model": model_of("sd15"), "checkpoint_every": 0.0}
    for node_id in ("7", "9"):
        hidden = SimpleNamespace(unique_id=node_id, dynprompt=None, prompt=None, extra_pnginfo={})
        bound = type("Bound", (node,), {"hidden": hidden, "__module__": node.__module__})
        with torch.inference_mode():
            first = bound.execute(first, **as_made() | sockets | QUICK).args[0]
    assert list(first.noted) == ["7", "9"] and all(settings["steps"] == 2 for settings in first.noted.values())


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("learning_rate", "told"), [(0.01, ""), (0.5, "so the learning rate 0.5 is too high")])
def test_a_destroyed_run_says_so_in_the_node(
    learning_rate: float, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On the demo model, whose picture is finished by the preset at half its levels."""
    texts: list[str] = []
    monkeypatch.setattr(run_module, "tell", lambda node_id, text: texts.append(text))
    with torch.inference_mode():
        model, clip, vae = LoadDemoModel.execute().args
        words = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red boat at sea", "")]
        generator = NeuralImageGenerator.execute("fourier", 128, 128, 0, 64, 3, 4).args[0]
        given = as_made() | {"checkpoint_every": 0.0}
        sockets = {"model": model, "vae": vae, "positive": words[0], "negative": words[1]}
        changed = {"preset": "fast", "solver_steps": 4, "learning_rate": learning_rate}
        STEPS["msd"].execute(generator, **given | sockets | changed)
    warnings = [text for text in texts if text.startswith("warning: ")]
    assert (told in warnings[0] and warnings == texts[-1:]) if told else not warnings
    assert (told in caplog.text) if told else "not ended at a picture" not in caplog.text
