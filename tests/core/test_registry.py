"""Registries: built-in entries are imported when asked for, others are added by name, plugins by an entry point.

What depends on a fresh interpreter is tried in one: which modules `import msd_core` loads, an installed plugin.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

import msd_core
from msd_core import BANDWIDTHS, ESTIMATORS, GENERATORS, INVERSIONS, METHODS, MODELS, SDS, Exact, setting
from msd_core.generators import FIELDS
from msd_core.registry import Registry

pytestmark = pytest.mark.core
ROOT = Path(msd_core.__file__).parents[1]
ALL = {"methods": METHODS, "estimators": ESTIMATORS, "bandwidths": BANDWIDTHS, "generators": GENERATORS,
       "fields": FIELDS, "inversions": INVERSIONS, "models": MODELS}  # fmt: skip


def fresh(code: str, *folders: Path) -> tuple[dict, str]:
    """What ``code`` prints as JSON in a fresh interpreter that sees ``folders``, and its warnings."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *folders])), "PYTHONWARNINGS": "always"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT.anchor)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


# --- entries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("registry", ALL.values(), ids=ALL)
def test_every_built_in_entry_is_there(registry: Registry) -> None:
    assert len(registry) == len(list(registry)) > 0
    for name, entry in registry.items():
        assert callable(entry) and registry[name] is entry and registry.find("it", name) is entry


def test_the_built_in_names() -> None:
    assert list(METHODS)[:3] == ["msd", "sds", "sdi"]
    assert list(ESTIMATORS)[:4] == ["naive", "split", "exact", "one-step"]
    assert list(GENERATORS)[:5] == ["fourier", "siren", "hashgrid", "pixels", "latent"]


def mine() -> Registry:
    return Registry("method", "msd_core.distillation", {"sds": "sds:SDS", "broken": "nowhere:Nothing"})


def test_an_entry_is_imported_when_it_is_asked_for() -> None:
    registry = mine()
    assert list(registry) == ["sds", "broken"], "a module that does not exist harms nobody who does not ask for it"
    assert registry["sds"] is SDS
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        _ = registry["broken"]


def test_registering() -> None:
    registry = mine()
    registry.register("exact", Exact)
    assert registry["exact"] is Exact and list(registry)[-1] == "exact" and "exact" in registry and len(registry) == 3
    registry.register("exact", Exact)
    assert len(registry) == 3, "the same again is no conflict: a module may be imported twice"


@pytest.mark.parametrize("name", ["sds", "broken", "exact"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    registry = mine()
    registry.register("exact", Exact)
    with pytest.raises(ValueError, match=f"name: '{name}' is the name of another method; allowed is one that is free"):
        registry.register(name, object)
    assert list(registry) == ["sds", "broken", "exact"]


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_is_a_text(name: object) -> None:
    with pytest.raises(ValueError, match="name: got .*; allowed is a text of 1 to 80 letters. Give the method a name"):
        mine().register(name, Exact)  # type: ignore[arg-type]


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="method: got 'csm'; allowed are 'sds', 'broken'. Pick one of these"):
        mine().find("method", "csm")
    for other in (None, 3, SDS):
        with pytest.raises(ValueError, match="it: got"):
            mine().find("it", other)
    with pytest.raises(KeyError):
        _ = mine()["csm"]


def test_the_name_of_a_class_and_of_its_instances() -> None:
    for registry in (METHODS, ESTIMATORS, BANDWIDTHS, INVERSIONS):
        for name, kind in registry.items():
            assert registry.name_of(kind) == registry.name_of(kind()) == name

    class Other(SDS):
        pass

    with pytest.raises(ValueError, match="method: Other has no name here; allowed are msd, .*register_method.'name'"):
        METHODS.name_of(Other())


def test_the_public_doors_register(monkeypatch: pytest.MonkeyPatch) -> None:
    doors = [
        (msd_core.register_method, METHODS),
        (msd_core.register_estimator, ESTIMATORS),
        (msd_core.register_generator, GENERATORS),
    ]
    for door, registry in doors:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        before = list(registry)
        door("mine", Exact)
        assert list(registry) == [*before, "mine"] and registry["mine"] is Exact
        with pytest.raises(ValueError, match="'mine' is the name of another"):
            door("mine", SDS)


# --- plugins ----------------------------------------------------------------------------------------------------------


def install(folder: Path, name: str, module: str, entry: str) -> None:
    """A distribution as an installer leaves it: a module, and its metadata with one entry point."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(module))
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[msd_core.plugins]\n{name} = {entry}\n")


GOOD = """
    from dataclasses import dataclass
    from typing import ClassVar

    calls = []

    def register(msd_core):
        from msd_core.settings import check_settings, setting

        @dataclass(frozen=True)
        class Still:
            "A method that wants nothing."

            label: ClassVar[str] = "Still"
            strength: float = setting(0.5, "how little it wants", low=0, high=1)

            def __post_init__(self):
                check_settings(self)

            def __call__(self, x, denoiser, *, step, steps, rng):
                return 0 * x, msd_core.measure(0 * x, 0)

        calls.append(1)
        msd_core.register_method("still", Still)
"""


def test_a_plugin_appears_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    install(tmp_path, "goodplugin", GOOD, "goodplugin:register")
    install(
        tmp_path, "badplugin", "def register(msd_core):\n    raise RuntimeError('no licence')\n", "badplugin:register"
    )
    install(
        tmp_path,
        "greedy",
        "def register(msd_core):\n    msd_core.register_method('sds', msd_core.SDI)\n",
        "greedy:register",
    )
    install(tmp_path, "gone", "", "gone:nothing")
    code = """
        import json, sys
        import msd_core
        assert "goodplugin" not in sys.modules, "plugins wait until a registry is asked"
        names = list(msd_core.METHODS)
        from msd_core.settings import flatten, leaves
        preset = msd_core.preset_of("still", strength=0.25, steps=2)
        started = msd_core.start(msd_core.Pixels(2, 2), steps=2)
        state = list(msd_core.optimize(started, preset.method, msd_core.score))[-1]
        import goodplugin
        print(json.dumps({
            "names": names, "again": list(msd_core.METHODS), "calls": len(goodplugin.calls),
            "sds": msd_core.METHODS["sds"].__module__, "leaves": [name for name, _ in leaves(msd_core.Preset)],
            "saved": preset.to_json(), "same": msd_core.Preset.from_json(preset.to_json()) == preset,
            "mean": float(state.picture().mean()),
        }))
    """
    found, warned = fresh(code, tmp_path)
    assert found["names"] == found["again"] == [*METHODS, "still"] and found["calls"] == 1
    assert "strength" in found["leaves"], "its settings are those of the command line and the nodes"
    assert found["saved"]["method"] == {"kind": "still", "strength": 0.25} and found["same"] and found["mean"] == 0.5
    assert found["sds"] == "msd_core.distillation.sds"
    assert "the plugin 'badplugin' (badplugin:register) was left out: no licence" in warned
    assert "the plugin 'greedy' (greedy:register) was left out: name: 'sds' is the name of another method" in warned
    assert "the plugin 'gone' (gone:nothing) was left out" in warned
    assert "'goodplugin'" not in warned


# --- public names -----------------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    assert len(msd_core.__all__) == len(set(msd_core.__all__)) > 50
    for name in msd_core.__all__:
        value = getattr(msd_core, name)
        assert value is not None and name in dir(msd_core)
        assert type(value) is not type(msd_core) and type(value).__name__ != "module", name


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'msd_core' has no attribute 'heun_sample'"):
        _ = msd_core.heun_sample
    assert not hasattr(msd_core, "stop_below")


def test_importing_the_package_loads_nothing() -> None:
    code = """
        import json, sys
        import msd_core
        heavy = [name for name in ("torch", "numpy", "PIL", "safetensors", "matplotlib") if name in sys.modules]
        inside = sorted(name for name in sys.modules if name.startswith("msd_core."))
        print(json.dumps({"heavy": heavy, "inside": inside, "planted": "json" in sys.modules}))
    """
    found, _ = fresh(code)
    assert found == {"heavy": [], "inside": ["msd_core.lazy"], "planted": True}


def test_functions_keep_their_names_where_files_are_called_the_same() -> None:
    """In either order: the function first, or the file first."""
    code = """
        import importlib, json, types
        names = ("mean_shift", "optimize", "distil")
        import msd_core
        import msd_core.mean_shift
        first = [isinstance(getattr(msd_core, name), types.FunctionType) for name in names]
        modules = [importlib.import_module(f"msd_core.{name}") for name in names]
        later = [isinstance(getattr(msd_core, name), types.FunctionType) for name in names]
        same = [getattr(module, name) is getattr(msd_core, name) for module, name in zip(modules, names)]
        from msd_core import optimize
        from msd_core.optimize import start
        print(json.dumps({
            "functions": [first, later], "modules": [isinstance(m, types.ModuleType) for m in modules], "same": same,
            "imported": optimize is modules[1].optimize and start is msd_core.start,
            "other": isinstance(msd_core.preset, types.ModuleType),
        }))
    """
    found, _ = fresh(code)
    assert found == {
        "functions": [[True] * 3, [True] * 3], "modules": [True] * 3, "same": [True] * 3, "imported": True,
        "other": True,
    }  # fmt: skip


def test_a_class_that_the_settings_cannot_describe_is_refused() -> None:
    @dataclass(frozen=True)
    class Kindless:
        share: float | None = setting(None, "without a kind")

    @dataclass(frozen=True)
    class Needy:
        share: float

    for name, owner, words in (
        ("kindless", Kindless, "Kindless.share: is of kind NoneType; allowed are bool"),
        ("needy", Needy, "Needy: cannot be made without arguments"),
        ("int", int, "int: is no dataclass"),
    ):
        for register, registry in ((msd_core.register_method, METHODS), (msd_core.register_estimator, ESTIMATORS)):
            with pytest.raises(ValueError, match=words):
                register(name, owner)
            assert name not in registry
    for name in ("batch", "points", "fourier"):
        with pytest.raises(ValueError, match=f"name: '{name}' is the name of another generator"):
            msd_core.register_generator(name, object)
