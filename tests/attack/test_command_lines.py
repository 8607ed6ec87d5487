"""The command line under attack: the examples that once ended in tracebacks or silence, and a small seeded part."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from msd_core.cli.main import main as msd
from msd_core.cli.streams import one_line
from msd_core.demo.recorded import record_settings
from msd_core.demo.train import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
DIGITS = "9" * 5000


def loaded(name: str) -> ModuleType:
    """A file beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


command_lines = loaded("command_lines")


def test_a_small_part() -> None:
    outcomes, faults = command_lines.run(40, 30, subprocesses=10_000)
    assert not faults, "\n".join(faults)
    assert outcomes["line"] >= 35


@pytest.mark.parametrize(
    ("status", "err"),
    [
        (1, "msd: error: x\n"),
        (2, "Traceback (most recent call last):\n"),
        (2, "msd: error: one\nand two\n"),
        (2, ""),
        (2, "msd: error: " + "x" * 5000 + "\n"),
        (2, "msd: error: \x1b[31mred\n"),
    ],
)
def test_the_attack_sees_faults(status: int, err: str) -> None:
    assert command_lines.verdict(status, "", err)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["render", "."], "argument FILE: got '.', a folder"),
        (["render", "a\0b"], "argument FILE: got 'a\\x00b'"),
        (["render", "n" * 300], "names of 1 to 255"),
        (["render", "a\udcff\nb"], "there is no file 'a\\udcff\\nb'"),
        (["render", "x", "--size", f"{DIGITS}x1"], "argument --size: got '999"),
        (["sample", "red", "--seed", DIGITS], "argument --seed: got '999"),
        (["sample", "red", "--cfg", DIGITS], "argument --cfg: got '999"),
        (["sample", "x" * 100_000], "has words that the demo model does not know: xxx"),
        (["sample", "\x1b[31m"], "\\x1b[31m"),
        (["compare", "--out", "out", "--count", "1000000000"], "at most 10000"),
        (["train-demo", "--out", "out", "--steps", DIGITS], "argument --steps: got '999"),
        (["x" * 100_000], "invalid choice: 'xxx"),
    ],
)
def test_refused_in_one_line(
    line: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = msd(line)
    except SystemExit as stop:
        status = stop.code
    err = capsys.readouterr().err
    assert not command_lines.verdict(status, "", err) and told in err, err


@pytest.mark.parametrize(
    ("command", "redirect", "environment", "status", "err"),
    [
        ("render", ">&-", {}, 0, ""),
        ("render", ">/dev/full", {}, 2, "msd: error: standard output cannot be written"),
        ("render", ">/dev/full", {"PYTHONUNBUFFERED": "1"}, 2, "msd: error: standard output cannot be written"),
        ("render", "| true", {}, 141, ""),
        ("distill", "2>&-", {"PYTHONIOENCODING": "ascii"}, 0, ""),
    ],
)
def test_streams(command: str, redirect: str, environment: dict[str, str], status: int, err: str) -> None:
    """`sleep` sees to it that the reader has gone before anything is written."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    shell = ["bash", "-c", f'set -o pipefail; (sleep 0.2; exec "$@") {redirect}', "bash", sys.executable, "-m"]
    done = subprocess.run(  # noqa: S603
        [*shell, "msd_core.cli.main", command, "--help"],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status and done.stderr.startswith(err) and bool(done.stderr) == bool(err), done.stderr
    assert "λ" not in done.stdout and (("\\u03bb" in done.stdout) == ("PYTHONIOENCODING" in environment))


def test_an_error_is_one_printable_line() -> None:
    assert one_line("a\n\tb \x1b[0m λ \udcff") == "a b \\x1b[0m λ \\udcff"
    assert len(one_line("x" * 10**6)) < 1300


def test_a_training_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    settings = TrainSettings(steps=10)
    record_settings(settings, tmp_path)
    record_settings(settings, tmp_path)
    with pytest.raises(ValueError, match="--steps: got 11, but the training in .* has 10"):
        record_settings(dataclasses.replace(settings, steps=11), tmp_path)
    (tmp_path / "settings.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="settings.json' is damaged"):
        record_settings(settings, tmp_path)
    (tmp_path / "settings.json").unlink()
    (tmp_path / "denoiser.pt").touch()
    with pytest.raises(ValueError, match="without settings.json"):
        record_settings(settings, tmp_path)
