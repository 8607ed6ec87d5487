"""docs/extending.md: a method, an estimator and a generator from outside, in Python and on the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.core
ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("plugin", ROOT / "tests" / "plugin.py")
assert _SPEC is not None and _SPEC.loader is not None
plugin = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plugin)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugin.write_plugin(tmp_path_factory.mktemp("outside"))


def python(outside: Path, *arguments: str, **options: str) -> str:
    """What a fresh interpreter prints that finds the plugin on its path."""
    path = os.pathsep.join([str(outside), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=outside,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120", **options},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_s_python(outside: Path) -> None:
    lines = python(outside, "-c", plugin.blocks("python")[1]).split()
    assert lines[::2] == ["1", "2", "3", "4"] and all(float(norm) > 0 for norm in lines[1::2])


def test_the_page_s_command_lines(outside: Path) -> None:
    """They run; what they save names the kinds, and is drawn and resumed by them."""
    for line in plugin.blocks("sh")[0].splitlines():
        python(outside, "-m", "msd_core.cli.main", *shlex.split(line)[1:])
    blend, stripes = (json.loads((outside / out / "metrics.json").read_text()) for out in ("out", "out2"))
    assert blend["settings"]["preset"]["method"] == {"kind": "blend", "sigma": 2.0, "share": 0.4}
    assert stripes["settings"]["preset"]["method"]["estimator"] == {"kind": "noisy-step", "spread": 0.5}
    assert [step["evaluations"] for step in stripes["steps"]] == [2] * 4
    python(outside, "-m", "msd_core.cli.main", "render", "out2/generator.safetensors", "--size", "30x20")


def test_it_is_seen_in_the_help(outside: Path) -> None:
    text = " ".join(python(outside, "-m", "msd_core.cli.main", "distill", "--help").split())
    for name in ("blend", "noisy-step", "stripes"):
        assert re.search(rf"\b{name}\b", text), name
    for flag, words in {
        "--share": "share of the way towards the guess",
        "--spread": "how much of the noise λ is added to x",
        "--sigma": "noise level of the guess",
    }.items():
        assert flag in text and words in text
    without = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "msd_core.cli.main", "distill", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "noisy-step" not in without.stdout, "it comes from outside"


def test_its_checks_are_made_from_the_fields(outside: Path) -> None:
    run = "list(msd_core.distil('a red circle', method='blend', share=2.0, steps=1))"
    wrong = f"import msd_core\ntry: {run}\nexcept ValueError as error: print(error)"
    assert "share: got 2.0; allowed is a finite number above 0 up to 1" in python(outside, "-c", wrong)
