"""Settings say once what they are: every registered method, estimator and curve is held to it, field by field.

The suites run over the registries, so that a new entry is under them on the day it is registered.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from msd_core import BANDWIDTHS, ESTIMATORS, METHODS, MSD, SDI, SDS, Exact, Listed, OneStep, Preset, Split, preset_of
from msd_core.bandwidth import Exponential, Karras, Linear, Piecewise
from msd_core.preset import named_presets
from msd_core.settings import (
    Setting,
    build,
    check_settings,
    flatten,
    from_json,
    leaves,
    menu,
    setting,
    settings_of,
    settings_table,
    to_json,
)

pytestmark = pytest.mark.core
FAMILIES = (METHODS, ESTIMATORS, BANDWIDTHS)
KINDS = [(family, name) for family in FAMILIES for name in family]
EACH = [pytest.param(family[name], id=f"{family.what}-{name}") for family, name in KINDS]


def runs() -> Iterator[Preset]:
    """A preset of every method; for those that hold an estimator and a curve, of every pair of these."""
    for method in METHODS:
        yield preset_of(method)
        if {"estimator", "bandwidth_schedule"} <= flatten(METHODS[method]()).keys():
            for estimator, curve in product(ESTIMATORS, BANDWIDTHS):
                yield preset_of(method, estimator=estimator, bandwidth_schedule=curve)


RUNS = list(runs())


def test_there_are_runs_to_look_at() -> None:
    assert len(RUNS) >= 3 + 4 * 6


# --- every entry of every registry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EACH)
def test_an_entry_is_a_frozen_dataclass_with_defaults(kind: type) -> None:
    instance = kind()
    assert hash(instance) == hash(kind()) and instance == kind()
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")
    with pytest.raises(dataclasses.FrozenInstanceError):
        instance.__setattr__(next(iter(settings_of(kind)), "anything"), None)


@pytest.mark.parametrize("kind", EACH)
def test_every_field_is_a_setting_with_one_line_of_help(kind: type) -> None:
    assert list(settings_of(kind)) == [field.name for field in dataclasses.fields(kind)]
    for entry in settings_of(kind).values():
        assert entry.help.strip() == entry.help and "\n" not in entry.help and 5 < len(entry.help) < 200, entry.name
        assert entry.default is None or entry.family or entry.length or type(entry.default) is entry.kind, entry.name
        assert entry.default is not None or entry.optional, entry.name


@pytest.mark.parametrize("kind", EACH)
def test_json_round_trip(kind: type) -> None:
    instance = kind()
    assert from_json(kind, json.loads(json.dumps(to_json(instance)))) == instance


@pytest.mark.parametrize("preset", RUNS, ids=range(len(RUNS)))
def test_a_run_survives_json_and_plain_names(preset: Preset) -> None:
    assert Preset.from_json(json.loads(json.dumps(preset.to_json()))) == preset
    assert hash(preset) == hash(Preset.from_json(preset.to_json()))
    flat = flatten(preset)
    assert build(preset, flat) == preset
    other = build(Preset(), {name: value for name, value in flat.items() if name != "bandwidth_points"})
    hidden = isinstance(getattr(preset.method, "bandwidths", None), Listed)
    assert other == preset or hidden or "bandwidth_points" in flat


def plain_names(instance: object, prefix: str = "") -> list[str]:
    """Every plain name below ``instance``, with those that occur twice twice."""
    found = []
    for name, entry in settings_of(instance).items():
        if not entry.hidden:
            found.append(prefix + entry.flag)
        if entry.family is not None:
            below = "bandwidth_" if entry.flag == "bandwidth_schedule" else ""
            found += plain_names(getattr(instance, name), below)
    return found


@pytest.mark.parametrize("preset", RUNS, ids=range(len(RUNS)))
def test_plain_names_are_unique_within_a_run(preset: Preset) -> None:
    names = plain_names(preset)
    assert len(names) == len(set(names)) and names == list(flatten(preset))
    known = {name for name, _ in leaves(Preset)}
    assert set(names) <= known, "the command line makes its flags from leaves"


def test_a_name_that_stands_twice_would_show() -> None:
    @dataclasses.dataclass(frozen=True)
    class Clashing:
        method: object = setting(SDS(), "holds one of several", family=METHODS)
        t_min: float = setting(0.5, "the same name as a setting of the method")

    names = plain_names(Clashing())
    assert len(names) > len(set(names))


def outside(entry: Setting) -> Iterator[Any]:
    """Values that a setting must refuse."""
    if entry.kind is bool:
        yield from (1, 0, "yes", None)
    elif entry.choices:
        yield from ("", f"{entry.choices[0]}?", 3)
    elif entry.kind is int:
        yield from (2.5, True, "3", math.nan)
        yield from () if entry.low is None else (int(entry.low) - 1,)
        yield from () if entry.high is None else (int(entry.high) + 1,)
    elif entry.kind is float:
        yield from (math.nan, "3", True, -math.inf, *(() if entry.infinite else (math.inf,)))
        yield from () if entry.low is None else (math.nextafter(entry.low, -math.inf),)
        yield from () if entry.above is None else (entry.above, entry.above - 1)
        yield from () if entry.high is None else (math.nextafter(entry.high, math.inf),)
    yield from () if entry.optional or entry.kind in (bool, str) else (None,)


PLAIN = [
    pytest.param(kind.values[0], entry, id=f"{kind.id}-{entry.name}")
    for kind in [*EACH, pytest.param(Preset, id="preset")]
    for entry in settings_of(kind.values[0]).values()
    if entry.family is None and entry.kind is not tuple and kind.values[0] is not Listed
]


@pytest.mark.parametrize(("kind", "entry"), PLAIN)
def test_values_outside_are_refused_by_name(kind: type, entry: Setting) -> None:
    if entry.kind is str and not entry.choices:
        pytest.fail(f"{entry.name}: any text is allowed")
    for value in outside(entry):
        given = value
        if entry.length:
            given = (value,) * max(entry.length, 2) if value is not None else [0.0, 1.0]
        with pytest.raises(ValueError, match=rf"{entry.name}\b.*: .*(got|is|entry) .*"):
            kind(**{entry.name: given})
    if entry.optional:
        needed = {"centre": "inversion"} if entry.name == "inversion_cfg" and "centre" in settings_of(kind) else {}
        assert getattr(kind(**needed, **{entry.name: None}), entry.name) is None


@pytest.mark.parametrize(("kind", "entry"), PLAIN)
def test_the_ends_of_the_range_are_inside_and_what_is_usual_too(kind: type, entry: Setting) -> None:
    usual = entry.usual or ()
    assert all((entry.low is None or end >= entry.low) for end in usual)
    assert all((entry.high is None or end <= entry.high) for end in usual)
    if entry.usual and isinstance(entry.default, (int, float)):
        assert usual[0] <= entry.default <= usual[1]
    if entry.low is not None and not entry.length and entry.name not in ("t_min", "t_max"):
        low = entry.kind(entry.low)
        assert getattr(kind(**{entry.name: low}), entry.name) == low


@pytest.mark.parametrize("value", [(1.0,), (0.0, 1.0, 2.0), [0.0, 1.0], 3.0, "01"])
def test_a_pair_is_a_pair(value: object) -> None:
    with pytest.raises(
        ValueError, match="interval: got .*; allowed is a tuple of 2 values, each a number from 0, or None. Pass one"
    ):
        Split(interval=value)  # type: ignore[arg-type]


def test_an_interval_may_have_no_end_but_not_no_number() -> None:
    assert Split(interval=(0.5, math.inf)).interval == (0.5, math.inf)
    assert from_json(Split, json.loads(json.dumps(to_json(Split(interval=(0.5, math.inf)))))).interval[1] == math.inf
    with pytest.raises(ValueError, match="interval: got nan"):
        Split(interval=(0.5, math.nan))


# --- plain names and back ---------------------------------------------------------------------------------------------


def test_a_preset_is_known_by_these_names() -> None:
    flat = flatten(preset_of("msd"))
    assert (flat["method"], flat["estimator"], flat["bandwidth_schedule"]) == ("msd", "exact", "exponential")
    assert {"bandwidth_start", "bandwidth_end", "solver_steps", "samples", "steps", "cfg", "lr"} <= flat.keys()
    assert flatten(preset_of("msd", bandwidth_schedule="karras"))["bandwidth_rho"] == 7.0
    assert "sigmas" not in flat, "for Python alone"


def test_build_reaches_every_floor() -> None:
    made = build(
        Preset(),
        {"steps": 7, "estimator": "split", "truncation": 2.0, "solver_steps": 5, "bandwidth_start": 4.0, "cfg": 2},
    )
    assert made == Preset(MSD(Exponential(4.0, 0.7), Split(steps=5, truncation=2.0)), steps=7, cfg=2)
    assert build(made, {}) is not None and build(made, {}) == made
    assert Preset() == Preset(MSD()), "the base is left as it was"


def test_a_held_object_may_be_given_whole() -> None:
    assert build(MSD(), {"estimator": Split(truncation=2.0)}).estimator == Split(truncation=2.0)
    assert build(MSD(), {"estimator": Split(truncation=2.0), "solver_steps": 3}).estimator == Split(
        truncation=2.0, steps=3
    )


def test_another_kind_keeps_what_was_changed_and_has_its_own_defaults() -> None:
    exact = MSD(Karras(4.0, 0.5, rho=3.0), Exact(steps=5, samples=4))
    changed = build(exact, {"estimator": "split", "bandwidth_schedule": "linear"})
    assert changed == MSD(Linear(4.0, 0.5), Split(steps=5, samples=4))
    assert build(exact, {"estimator": "one-step"}).estimator == OneStep(steps=5)
    assert build(Preset(SDS(t_max=0.5)), {"method": "sdi"}).method == SDI(t_max=0.5), "none is no annealing of SDI's"
    assert build(Preset(SDI()), {"method": "sds"}).method == SDS(), "linear is SDI's default, not the user's choice"
    assert build(Preset(SDI(anneal="sqrt")), {"method": "sds"}).method == SDS(anneal="sqrt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": 3}, "colour: got 3; allowed are method, .*steps, .*Leave it out, or correct the name"),
        ({"truncation": 2.0}, "truncation: got 2.0 with the estimator 'exact'; allowed with split. Leave it out"),
        (
            {"bandwidth_rho": 3.0},
            "bandwidth_rho: got 3.0 with the bandwidth_schedule 'exponential'; allowed with karras",
        ),
        ({"weighting": "sigma"}, "weighting: got 'sigma' with the method 'msd'; allowed with sds"),
        (
            {"method": "sds", "samples": 2, "solver": "ddim"},
            "solver: got 'ddim' with the method 'sds'; allowed with msd",
        ),
        ({"estimator": "mean"}, "estimator: got 'mean'; allowed are 'naive', 'split', 'exact', 'one-step'"),
        ({"method": "csm"}, "method: got 'csm'; allowed are 'msd'"),
        ({"bandwidth_schedule": "linea"}, "bandwidth_schedule: got 'linea'"),
        ({"bandwidth_start": -1.0}, "bandwidth_start: got -1.0; allowed is a finite number above 0"),
        ({"solver_steps": 0}, "solver_steps: got 0; allowed is a whole number of at least 1"),
        ({"steps": 0}, "^steps: got 0"),
        ({"optimizer": "sgd"}, "optimizer: got 'sgd'"),
        ({"sigmas": (1.0, 0.5)}, "sigmas: the last entry is 0.5"),
    ],
)
def test_wrong_options_are_called_by_their_plain_names(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(Preset(), options)


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"stepz": 3}, "stepz: got 3; allowed are method, .*It was saved by another release"),
        ({"steps": 0}, "steps: got 0"),
        ({"method": {"kind": "csm"}}, "method: got 'csm'"),
        ({"method": {}}, "method: got {}; allowed is a mapping with the entry 'kind'"),
        ({"method": "msd"}, "method: got 'msd'; allowed is a mapping with the entry 'kind'"),
        ({"method": None}, "method: got None"),
        (
            {"method": {"kind": "msd", "estimator": {"kind": "split", "sample": 3}}},
            "sample: got 3; allowed are solver, steps, samples",
        ),
        ({"method": {"kind": "sds", "t_max": 2}}, "t_min, t_max: got 0.02, 2"),
    ],
)
def test_what_was_not_saved_by_it_is_refused(saved: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Preset.from_json(saved)


def test_what_is_left_out_is_the_default() -> None:
    assert Preset.from_json({}) == Preset()
    assert Preset.from_json({"method": {"kind": "sds"}}).method == SDS()


def test_only_what_has_a_name_is_saved() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine:
        def __call__(self) -> None: ...

    with pytest.raises(ValueError, match="method: Mine has no name here; .*register_method.'name', Mine."):
        to_json(Preset(Mine()))  # type: ignore[arg-type]


# --- the pieces -------------------------------------------------------------------------------------------------------


def test_a_menu_leaves_out_what_is_for_python() -> None:
    assert "listed" in BANDWIDTHS and "listed" not in menu(BANDWIDTHS)
    assert menu(ESTIMATORS) == list(ESTIMATORS)


def test_the_table_has_a_row_for_every_name_and_none_twice() -> None:
    rows = settings_table(Preset).splitlines()[2:]
    assert len(rows) == len(set(rows))
    named = {row.split("`")[1] for row in rows}
    assert named == {name for name, entry in settings_of(Preset).items() if not entry.hidden}
    assert all(row.count("|") - row.count("\\|") >= 5 for row in rows)


def test_presets_are_what_their_files_recommend() -> None:
    for name, preset in named_presets().items():
        assert type(preset.method) is METHODS[name] and preset.method == METHODS[name]()
        recommended = getattr(METHODS[name], "recommended", {})
        assert {key: flatten(preset)[key] for key in recommended} == dict(recommended)
    assert preset_of(SDS(samples=3)) == preset_of("sds", samples=3)
    with pytest.raises(ValueError, match="method: got 'csm'"):
        preset_of("csm")


def test_piecewise_reads_its_points_from_json() -> None:
    curve = Piecewise(3, 0.7, ((0.25, 2), (0.5, 1)))
    assert from_json(Piecewise, json.loads(json.dumps(to_json(curve)))) == curve
    with pytest.raises(ValueError, match="points: got"):
        from_json(Piecewise, {"start": 3, "end": 0.7, "points": [[0.5, 9.0]]})


def test_checks_are_called_for() -> None:
    """The negative control: a class that forgets to call `check_settings` is not checked, and the suite shows it."""

    @dataclasses.dataclass(frozen=True)
    class Forgetful:
        samples: int = setting(1, "draws", low=1)

    entry = settings_of(Forgetful)["samples"]
    with pytest.raises(pytest.fail.Exception):
        test_values_outside_are_refused_by_name(Forgetful, entry)
    with pytest.raises(ValueError, match="samples: got 0; allowed is a whole number of at least 1"):
        check_settings(Forgetful(0))
