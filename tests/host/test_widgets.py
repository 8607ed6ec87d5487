"""The nodes and the settings in step, field by field; what saved graphs know stays where it was."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_api.latest import io
from msd_pack.msd_core.bandwidth import BANDWIDTHS
from msd_pack.msd_core.distillation import METHODS
from msd_pack.msd_core.distillation.base import needs_of
from msd_pack.msd_core.mean_shift import ESTIMATORS
from msd_pack.msd_core.named import NAMED
from msd_pack.msd_core.preset import Preset, preset_of
from msd_pack.msd_core.settings import Setting, build, flatten, leaves, menu, settings_of
from msd_pack.nodes import MeanShiftExtension, curve
from msd_pack.nodes.bandwidth import BandwidthScheduler
from msd_pack.nodes.distill import BESIDE, OF_THE_KERNEL, STEPS, has_presets, step_preset, step_settings, widget_id
from msd_pack.nodes.kept import EVERY
from msd_pack.nodes.named import BY_HAND
from msd_pack.nodes.widgets import is_switch, is_text, sentence, shown, value_of, widget

SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in asyncio.run(MeanShiftExtension().get_node_list())}
SNAPSHOT = Path(__file__).with_name("schemas.json")
BEFORE = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
NEWER = set() if curve.KNOWN else {"CURVE"}
"""Types of inputs that this host does not know, and which it therefore does not have."""


def described(entry: io.Input) -> dict[str, Any]:
    default = getattr(entry, "default", None)
    return {"id": entry.id, "type": entry.get_io_type(), "optional": bool(entry.optional), "default": default}


def interface(schema: io.Schema) -> dict[str, list[dict[str, Any]]]:
    """What saved graphs know of a node: inputs by id and position, outputs by position."""
    outputs = [{"id": entry.id, "type": entry.get_io_type()} for entry in schema.outputs]
    return {"inputs": [described(entry) for entry in schema.inputs], "outputs": outputs}


def here(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What this host can have of the inputs or outputs of the snapshot."""
    return [entry for entry in entries if entry["type"] not in NEWER]


def kept(now: list[dict[str, Any]], before: list[dict[str, Any]]) -> bool:
    before = here(before)
    return now[: len(before)] == before


@pytest.mark.parametrize("node_id", BEFORE)
def test_inputs_and_outputs_stay_where_saved_graphs_have_them(node_id: str) -> None:
    """Widget values are saved by position, links by slot: ids, order, types and defaults only ever get longer."""
    now, before = interface(SCHEMAS[node_id]), BEFORE[node_id]
    for side in ("inputs", "outputs"):
        assert kept(now[side], before[side])
        if before[side]:
            renamed = [{**now[side][0], "id": "renamed"}, *now[side][1:]]
            assert not kept(renamed, before[side]) and not kept(now[side][1:], before[side]), (
                "planted changes must show"
            )
    assert all(entry["optional"] for entry in now["inputs"][len(here(before["inputs"])) :]), (
        "old graphs do not give them"
    )


def test_every_node_is_held_to() -> None:
    """`MSD_WRITE_SCHEMAS=1` adds what is new to the snapshot; what is there it leaves, so that a change still fails."""
    empty: dict[str, list[Any]] = {"inputs": [], "outputs": []}
    longer = {}
    for node_id, schema in SCHEMAS.items():
        now, before = interface(schema), BEFORE.get(node_id, empty)
        longer[node_id] = {side: [*before[side], *now[side][len(here(before[side])) :]] for side in before}
    if "MSD_WRITE_SCHEMAS" in os.environ:
        SNAPSHOT.write_text(text_of(BEFORE | longer), encoding="utf-8")
    assert set(BEFORE) <= set(SCHEMAS), "a node that was is gone"
    assert BEFORE | longer == BEFORE or "MSD_WRITE_SCHEMAS" in os.environ, "new ones: write them to the snapshot"


def text_of(snapshot: dict[str, Any]) -> str:
    """JSON with a line for each input and output."""
    sides = [
        f' "{node_id}": {{\n'
        + ",\n".join(
            f'  "{side}": [' + ",".join(f"\n   {json.dumps(entry, ensure_ascii=False)}" for entry in entries) + "]"
            for side, entries in node.items()
        )
        + "\n }"
        for node_id, node in snapshot.items()
    ]
    return "{\n" + ",\n".join(sides) + "\n}\n"


def seen_at_first(inputs: list[io.Input]) -> list[str]:
    """Widgets of a node that was just added; the host puts "control after generate" below every seed."""
    seen = [entry.id for entry in inputs if isinstance(entry, io.WidgetInput) and not entry.as_dict().get("advanced")]
    return seen + ["control"] * seen.count("seed")


STEPS_AND_GENERATORS = [
    *(node.GET_SCHEMA().node_id for node in STEPS.values()),
    *(f"MSD_{name}Generator" for name in ("NeuralImage", "Vector", "PixelArt", "Sticker", "Volume")),
    "MSD_MeanShiftRefine",
]


@pytest.mark.parametrize("node_id", STEPS_AND_GENERATORS)
def test_a_new_seed_stays_as_it_is(node_id: str) -> None:
    """Or the same graph would not go on from where it was stopped; hosts that know no such choice are asked nothing."""
    (seed,) = [entry for entry in SCHEMAS[node_id].inputs if entry.id == "seed"]
    told = json.loads(json.dumps(seed.as_dict())).get("control_after_generate")
    assert told == ("fixed" if hasattr(io, "ControlAfterGenerate") else None)


@pytest.mark.parametrize("node_id", SCHEMAS)
def test_at_most_twelve_widgets_are_seen_at_first(node_id: str) -> None:
    assert len(seen_at_first(SCHEMAS[node_id].inputs)) <= 12
    more = [widget(Setting(f"x{i}", f"x{i}", "help", 1.0), f"x{i}") for i in range(13)]
    assert len(seen_at_first(more)) == 13, "a planted excess must show"
    folded = widget(Setting("x", "x", "help", 1.0, expert=True), "x")
    assert seen_at_first([folded]) == []


def test_the_search_finds_nodes_by_what_people_call_them() -> None:
    """On hosts that know aliases; the others search by name alone."""
    found = {node_id: getattr(schema, "search_aliases", None) for node_id, schema in SCHEMAS.items()}
    if all(words is None for words in found.values()):
        return
    assert all("score distillation" in found[node.GET_SCHEMA().node_id] for node in STEPS.values())
    assert {"invert", "unsample"} <= set(found["MSD_DDIMInversion"])
    assert all(found.values())


def widgets_of(node_id: str) -> dict[str, io.Input]:
    return {entry.id: entry for entry in SCHEMAS[node_id].inputs}


def assert_made_from(entry: Setting, made: io.Input) -> None:
    assert made.tooltip == sentence(entry.help)
    if entry.family is not None or entry.choices:
        assert list(made.options) == list(entry.choices or menu(entry.family))
    elif is_text(entry):
        assert made.default == shown(entry, entry.default)
    else:
        assert made.default == (entry.default or 0 if is_switch(entry) else entry.default)
    if not is_text(entry) and entry.kind in (int, float):
        assert made.min <= made.default <= made.max
        if not is_switch(entry):
            assert entry.above is None or made.min > entry.above
            assert entry.low is None or made.min >= entry.low
        assert entry.high is None or made.max <= entry.high


def test_every_setting_of_every_method_is_a_widget_of_its_step() -> None:
    for name, node in STEPS.items():
        known, widgets = step_settings(name), widgets_of(node.GET_SCHEMA().node_id)
        expected = {flag for flag, entry in leaves(METHODS[name]) if not entry.hidden and "bandwidth_" not in flag}
        kernel = "bandwidths" in settings_of(METHODS[name])
        expected |= {flag for flag in settings_of(Preset) if flag != "method" and (kernel or flag not in OF_THE_KERNEL)}
        assert set(known) == expected
        for flag, entry in known.items():
            assert_made_from(entry, widgets[widget_id(flag)])
        sockets = {"generator", "seed", "model", "positive", "negative", "vae", "guider", *(["bandwidths"] * kernel)}
        sockets |= {EVERY, "mask", *(["preset"] * has_presets(name))} | {
            socket.id for need in needs_of(METHODS[name]) for socket in BESIDE[need]
        }
        assert set(widgets) == {widget_id(flag) for flag in known} | sockets, "and no widget is without a field"


def test_every_setting_of_every_curve_is_a_widget_of_the_scheduler() -> None:
    widgets = widgets_of("MSD_BandwidthScheduler")
    fields = {name: entry for kind in menu(BANDWIDTHS) for name, entry in settings_of(BANDWIDTHS[kind]).items()}
    drawn = ["curve"] if curve.KNOWN else []
    assert set(widgets) == {"schedule", "steps", *fields, "preset", "model", "generator", *drawn}
    assert list(widgets["preset"].options) == [BY_HAND, *NAMED]
    assert list(widgets["schedule"].options) == [*menu(BANDWIDTHS), *(["drawn"] if drawn else [])]
    for name, entry in fields.items():
        assert_made_from(entry, widgets[name])
    assert_made_from(replace(settings_of(Preset)["steps"], default=preset_of("msd").steps), widgets["steps"])


def test_what_only_some_schedules_take_is_folded() -> None:
    """The menu's own widgets stay where saved graphs have them; those of one choice are not in the others' way."""
    taken = [set(settings_of(BANDWIDTHS[kind])) for kind in menu(BANDWIDTHS)]
    widgets, some = widgets_of("MSD_BandwidthScheduler"), set.union(*taken) - set.intersection(*taken)
    some |= {"curve"} & set(widgets)
    assert some >= {"rho", "points"} and set.intersection(*taken) == {"start", "end"}
    assert {name for name, entry in widgets.items() if entry.as_dict().get("advanced")} == some


def other(entry: Setting) -> Any:  # noqa: ANN401
    """What a widget may give that is not its default, and the value it stands for."""
    if entry.family is not None:
        return next(name for name in menu(entry.family) if entry.family[name] is not type(entry.default))
    if entry.choices:
        return next(choice for choice in entry.choices if choice != entry.default)
    if entry.kind is bool:
        return not entry.default
    if entry.length:
        return "0.25:2"
    if is_text(entry):
        return "0.5"
    return 3 * entry.default if entry.kind is int else (entry.default or 1.0) / 2


NEEDS = {
    ("msd", "inversion_cfg"): {"centre": "inversion"},
    ("msd", "antithetic"): {"samples": 2},
    ("ism", "t_max"): {"t_late": 0.3},
}
CASES = [
    (name, kind, flag)
    for name in METHODS
    for kind in (ESTIMATORS if name == "msd" else [""])
    for flag in step_settings(name)
    if flag != "estimator"
]


@pytest.mark.parametrize(("name", "kind", "flag"), CASES)
def test_a_widget_changes_its_field_and_nothing_else(name: str, kind: str, flag: str) -> None:
    entry = step_settings(name)[flag]
    chosen = {"estimator": kind} if kind else {}
    if flag not in flatten(build(preset_of(name), chosen)):
        return  # an option of other estimators: see the test below
    first = {**chosen, **NEEDS.get((name, flag), {})}
    raw = other(entry)
    before, after = (flatten(step_preset(name, {**first, **more})) for more in ({}, {widget_id(flag): raw}))
    assert {key: value for key, value in after.items() if value != before[key]} == {flag: value_of(entry, flag, raw)}


def test_all_defaults_are_the_methods_own() -> None:
    for name, node in STEPS.items():
        widgets = node.GET_SCHEMA().inputs
        defaults = {entry.id: entry.default for entry in widgets if isinstance(entry, io.WidgetInput)}
        assert step_preset(name, defaults) == preset_of(name)


def test_options_of_other_estimators() -> None:
    """Those that stand there for walking estimators mean nothing to the others; what changes the meaning is refused."""
    walking = {"solver": "heun", "solver_steps": 3, "samples": 4, "antithetic": True, "truncation": 0.0, "interval": ""}
    assert flatten(step_preset("msd", {"estimator": "one-step", **walking}))["solver_steps"] == 3
    for option in ({"truncation": 2.0}, {"centre": "inversion"}, {"interval": "1:2"}, {"inversion_cfg": "1"}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: got .* with the estimator 'exact'; allowed with"):
            step_preset("msd", option)


def test_a_connected_curve_is_spread_over_the_steps() -> None:
    curve = BandwidthScheduler.execute("linear", 5, start=3.0, end=1.0, rho=7.0, points="").args[0]
    preset = step_preset("msd", {"steps": 9}, curve)
    assert len(preset.method.bandwidths.values) == 9
    assert preset.method.bandwidths(9)[[0, 4, 8]].tolist() == pytest.approx([3.0, 2.0, 1.0])
    assert torch.equal(step_preset("msd", {"steps": 5}, curve).method.bandwidths(5), curve)
