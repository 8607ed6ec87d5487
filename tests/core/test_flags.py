"""The command line and the settings in step, field by field."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from msd_core.bandwidth import BANDWIDTHS
from msd_core.cli.flags import Flag, flag_of, flags, generator_flags, given
from msd_core.cli.main import main, make_parser
from msd_core.cli.settings import Settings, new_settings
from msd_core.cli.solver import Inpainting, Restoring
from msd_core.cli.unfinished import load_unfinished
from msd_core.demo.model import load_demo_model
from msd_core.distillation import METHODS
from msd_core.generators import load_generator
from msd_core.mean_shift import ESTIMATORS
from msd_core.preset import Preset, named_presets, preset_of
from msd_core.settings import Setting, build, flatten, menu, settings_of
from msd_core.tensorfile import write_tensors

pytestmark = pytest.mark.core
RUN = [name for name, entry in settings_of(Preset).items() if entry.family is None]
CASES = [
    *((Preset, {}, name) for name in RUN),
    *((METHODS[kind], {"method": kind}, name) for kind in METHODS for name in settings_of(METHODS[kind])),
    *((ESTIMATORS[kind], {"estimator": kind}, name) for kind in ESTIMATORS for name in settings_of(ESTIMATORS[kind])),
    *(
        (BANDWIDTHS[kind], {"bandwidth_schedule": kind}, name)
        for kind in menu(BANDWIDTHS)
        for name in settings_of(BANDWIDTHS[kind])
    ),
]
VISIBLE = [case for case in CASES if not settings_of(case[0])[case[2]].hidden]


NEEDS = {"inversion_cfg": {"centre": "inversion"}, "antithetic": {"samples": 2}}
"""What must be set before an estimator allows another value than the default."""


def other_value(entry: Setting) -> Any:  # noqa: ANN401
    """A value that is allowed and not the default."""
    if entry.family is not None:
        return next(name for name in menu(entry.family) if entry.family[name] is not type(entry.default))
    if entry.kind is bool:
        return not entry.default
    if entry.choices:
        return next(choice for choice in entry.choices if choice != entry.default)
    if entry.kind is tuple:
        return ((0.25, 4.0), (0.5, 2.0))
    if entry.length:
        return (0.25, 2.0)
    if entry.kind is int:
        return (entry.default or 1) + 1
    top = entry.high if entry.high is not None else math.inf
    return min((entry.default or 1.0) * 0.75, top)


def words(value: Any) -> list[str]:  # noqa: ANN401
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return [":".join(map(str, pair)) for pair in value]
    return [str(part) for part in value] if isinstance(value, tuple) else [str(value)]


def options(name: str, value: Any) -> list[str]:  # noqa: ANN401
    if isinstance(value, bool):
        return [flag_of(name) if value else flag_of(f"no_{name}")]
    text = words(value)
    return [f"{flag_of(name)}={text[0]}"] if len(text) == 1 else [flag_of(name), *text]


def parse(*arguments: str) -> Settings:
    parsed = make_parser().parse_args(["distill", "a red circle", "--out", "x", *arguments])
    return new_settings(parsed, load_demo_model(), "digest")


def plain_name(kinds: dict[str, str], entry: Setting) -> str:
    return f"bandwidth_{entry.flag}" if "bandwidth_schedule" in kinds else entry.flag


@pytest.mark.parametrize(("owner", "kinds", "name"), VISIBLE, ids=lambda part: getattr(part, "__name__", str(part)))
def test_a_flag_changes_its_field_and_nothing_else(owner: type, kinds: dict[str, str], name: str) -> None:
    entry = settings_of(owner)[name]
    plain, value = plain_name(kinds, entry), other_value(entry)
    with_kinds = [option for key, kind in kinds.items() for option in options(key, kind)]
    first = NEEDS.get(name, {}) if "estimator" in kinds else {}
    needs = [option for key, needed in first.items() for option in options(key, needed)]
    before, after = parse(*with_kinds, *needs).preset, parse(*with_kinds, *needs, *options(plain, value)).preset
    old, new = flatten(before), flatten(after)
    changed = {key: value for key, value in new.items() if value != old.get(key)}
    if entry.family is None:
        assert changed == {plain: value}
    else:
        assert changed[plain] == value
    method = kinds.get("method", "msd")
    wanted = {**kinds, **first, plain: value}
    wanted.pop("method", None)
    assert after == build(preset_of(method), wanted), "as the settings themselves say it"


def test_no_flag_is_without_a_field_and_each_says_what_the_field_says() -> None:
    known = {plain_name(kinds, settings_of(owner)[name]): 0 for owner, kinds, name in VISIBLE}
    assert set(flags()) == {*known, "method"}
    for owner, kinds, name in VISIBLE:
        entry = settings_of(owner)[name]
        assert entry.help.replace("%", "%%") in flags()[plain_name(kinds, entry)].text


def test_none_is_written_none() -> None:
    assert given(make_parser().parse_args(["distill", "x", "--out", "x", "--inversion-cfg", "none"])) == {
        "inversion_cfg": None
    }
    assert parse("--method=sdi", "--inversion-cfg=none").preset.method.inversion_cfg is None  # pyright: ignore


def test_an_option_of_another_method_is_refused_in_words_of_the_command_line() -> None:
    with pytest.raises(
        ValueError, match="^--bandwidth-start: got 3.0 with the method 'sds'; allowed with msd. Leave it"
    ):
        parse("--method=sds", "--bandwidth-start=3")
    with pytest.raises(ValueError, match="^((?!widget).)*$"):
        parse("--method=sds", "--bandwidth-start=3")


def test_settings_survive_json() -> None:
    settings = parse("--estimator=split", "--truncation=2", "--interval", "0.1", "4", "--bandwidth-schedule=karras")
    assert Settings.from_json(settings.to_json()) == settings


OLD = {
    "steps": 6,
    "cfg": 3.0,
    "optimizer": "adam",
    "lr": 0.01,
    "pull": "image",
    "bandwidth_schedule": "piecewise",
    "bandwidth_start": 8.0,
    "bandwidth_end": 0.7,
    "bandwidth_points": [[0.5, 2.0]],
    "min_bandwidth": 0.0,
    "lr_coupling": None,
    "estimator": "one-step",
    "solver": "ddim",
    "solver_steps": 8,
    "samples": 4,
    "antithetic": False,
    "centre": "x",
    "interval": None,
    "truncation": None,
    "inversion_cfg": None,
}


def test_the_settings_of_an_earlier_release_are_read() -> None:
    about = {"prompt": "a", "negative": "", "generator": "siren", "size": [64, 32], "seed": 3, "model": "d"}
    read = Settings.from_json({**about, "method": "msd", "preset": OLD})
    wanted = {
        "steps": 6,
        "bandwidth_schedule": "piecewise",
        "bandwidth_points": ((0.5, 2.0),),
        "estimator": "one-step",
    }
    assert read.preset == build(preset_of("msd"), wanted) and read.size == (64, 32)
    saved = {**OLD, "estimator": "split", "interval": [0.1, 2.0]}
    split = Settings.from_json({**about, "method": "msd", "preset": saved})
    assert flatten(split.preset)["interval"] == (0.1, 2.0) and flatten(split.preset)["samples"] == 4
    sdi = Settings.from_json({**about, "method": "sdi", "preset": {"steps": 5, "eta": 0.5, "anneal": "sqrt"}})
    assert sdi.preset == preset_of("sdi", steps=5, eta=0.5, anneal="sqrt")
    with pytest.raises(ValueError, match="settings: the saved ones are damaged"):
        Settings.from_json({"method": "msd"})


def test_sizes_are_the_models_own() -> None:
    assert parse().size == (128, 128)
    with pytest.raises(ValueError, match="--size: got '60x64'; allowed are multiples of 8, .* write 64x64"):
        parse("--size", "60x64")


def test_a_run_on_a_former_demo_model_is_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped after one of four steps by version 0.1: read, but its model is none of this release."""
    old = Path(__file__).parent / "data" / "run-of-0.1"
    shutil.copy(old / "state.safetensors", tmp_path)
    frame = torch.zeros(128, 256, 3, dtype=torch.uint8)
    write_tensors(tmp_path / "frames.safetensors", {"00000001": frame}, "msd-frames", "1", {})
    before = (tmp_path / "state.safetensors").read_bytes()
    settings, done = load_unfinished(tmp_path)
    assert (settings.method, settings.preset.steps, done.state.step) == ("msd", 4, 1)
    assert main(["distill", "--resume", "--out", str(tmp_path)]) == 2
    assert "demo model of version 1 (coloured shapes at 64×64 pixels)" in capsys.readouterr().err
    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_a_generator_of_an_earlier_release_is_drawn() -> None:
    generator = load_generator(Path(__file__).parent / "data" / "run-of-0.1" / "generator.safetensors")
    picture = generator.render(generator.frame(16, 8)).detach()
    assert picture.shape[-2:] == (16, 8) and torch.isfinite(picture).all() and float(picture.std()) > 0.01


def test_a_generator_s_settings_share_no_name_with_those_of_a_run() -> None:
    """`distil(..., name=value)` and the command line tell them apart by name alone."""
    own = set(generator_flags())
    assert {"paths", "cells", "palette", "tile", "symmetry", "field"} <= own and not own & set(flags())


def shown(entry: Setting) -> str:
    """The default as the help has it."""
    value = entry.default if entry.family is None else entry.family.name_of(entry.default)
    if isinstance(value, bool):
        return "yes" if value else "no"
    words = {None: "none", (): "none", "": "empty"}
    return words[value] if value in words else f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("made", [generator_flags, lambda: flags(Inpainting), lambda: flags(Restoring)])
def test_the_help_of_generators_and_solvers_tells_every_default(made: Callable[[], dict[str, Flag]]) -> None:
    for flag in made().values():
        told = flag.text.rpartition(" (default: ")[2].removesuffix(")")
        defaults = {kind: shown(entry) for kind, entry in flag.uses}
        if len(set(defaults.values())) == 1:
            assert told == next(iter(defaults.values())), flag.name
        else:
            assert all(re.search(rf"{kind}[^0-9]* {re.escape(value)}(,|$)", told) for kind, value in defaults.items())


def test_the_help_of_methods_tells_the_defaults_that_the_table_lacks() -> None:
    table = {name: flatten(preset) for name, preset in named_presets().items()}
    for flag in flags().values():
        told = flag.text.partition(" (default: ")[2]
        for kind, entry in flag.uses:
            tabled = any(values.get(flag.name, math) == entry.default for values in table.values())
            assert kind in ("", *METHODS) or tabled or shown(entry) in told, (flag.name, kind)
    assert flags()["solver_steps"].text.endswith("(default: naive, split, one-step 8)")
    assert flags()["truncation"].text.endswith("(default: none)") and "(default" not in flags()["steps"].text
