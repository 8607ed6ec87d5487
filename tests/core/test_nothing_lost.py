"""Whatever ends a run, what was done is kept, and the run that goes on from it is the one that was not stopped."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from msd_core.autosave import Autosave
from msd_core.cli import unfinished
from msd_core.cli.claim import MARKER, claimed
from msd_core.cli.main import main
from msd_core.cli.run_folder import RESULTS
from msd_core.cli.signals import Signals, Stopped
from msd_core.demo.model import DemoModel, PromptDenoiser

PROMPT = "a large red circle on a blue background"
QUICK = ("--size", "64x64", "--steps", "6", "--inner-steps", "3", "--estimator", "one-step", "--threads", "1")
EXACT = [name for name in RESULTS if name != "metrics.json"]
STATE = unfinished.STATE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a model") / "random weights.safetensors"
    DemoModel.random(0).save(path)
    return path


@pytest.fixture(scope="module")
def distil(model: Path) -> Callable[..., int]:
    return lambda folder, *words: main(["distill", *map(str, words), "--out", str(folder), "--model", str(model)])


@pytest.fixture(scope="module")
def finished(distil: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert distil(folder, PROMPT, *QUICK) == 0
    return folder


def assert_as(folder: Path, finished: Path) -> None:
    """The results in both folders are the same to the bit, and no half-written file is left."""
    for name in EXACT:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
    assert not list(folder.glob("*.partial*")) and not (folder / STATE).exists()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """`at(n, act)`: before its n-th evaluation the model calls ``act``."""

    def arm(count: int, act: Callable[[], object]) -> None:
        original, calls = PromptDenoiser.__call__, iter(range(1, 10**9))

        def denoise(self: PromptDenoiser, z: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
            if next(calls) == count:
                act()
            return original(self, z, sigma)

        monkeypatch.setattr(PromptDenoiser, "__call__", denoise)

    return arm


def raiser(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


ENDS = {
    "SIGINT": (lambda: signal.raise_signal(signal.SIGINT), 130, "msd: stopped after 3 of 6 steps"),
    "SIGTERM": (lambda: signal.raise_signal(signal.SIGTERM), 143, "msd: stopped after 3 of 6 steps"),
    "RuntimeError": (
        raiser(RuntimeError("DefaultCPUAllocator: can't allocate memory")), 2, "RuntimeError: DefaultCPUAllocator"
    ),
    "MemoryError": (raiser(MemoryError()), 2, "MemoryError: no more memory. What was done is in"),
    "ValueError": (raiser(ValueError("z: got nonsense.")), 2, "msd: error: z: got nonsense. What was done is in"),
}  # fmt: skip


@pytest.mark.parametrize(("end", "checkpoint"), [*((end, 0.001) for end in ENDS), ("SIGINT", 0), ("ValueError", 0)])
def test_stopped_and_gone_on_with_the_printed_command(
    at: Callable[..., None],
    end: str,
    checkpoint: float,
    distil: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (act, status, told), folder = ENDS[end], tmp_path / "a folder's name"
    at(4, act)
    assert distil(folder, PROMPT, *QUICK, "--checkpoint", checkpoint) == status
    said = capsys.readouterr().err
    assert told in said
    monkeypatch.undo()
    command = shlex.split(said.strip().splitlines()[-1].split("with: ")[-1])
    assert command[:2] == ["msd", "distill"]
    assert main(command[1:]) == 0
    assert_as(folder, finished)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (MemoryError(), 2)])
def test_a_start_that_took_a_while_is_kept_in_the_first_step(
    error: BaseException,
    status: int,
    at: Callable[..., None],
    distil: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    start, whole, folder = ("--start", str(finished / "picture.png")), tmp_path / "whole", tmp_path / "stopped"
    assert distil(whole, PROMPT, *QUICK, *start) == 0
    at(1, raiser(error))
    assert distil(folder, PROMPT, *QUICK, *start) == status
    assert f"its start is kept in {folder}" in capsys.readouterr().err and (folder / STATE).is_file()
    at(1, raiser(error))
    assert distil(tmp_path / "plain", PROMPT, *QUICK) == status
    assert "nothing to keep" in capsys.readouterr().err and not (tmp_path / "plain" / STATE).exists()
    monkeypatch.undo()
    assert distil(folder, "--resume") == 0
    assert_as(folder, whole)


class KilledError(BaseException):
    """Like a SIGKILL: nothing of the command runs afterwards."""


@pytest.mark.parametrize("target", ["write_results", "remove_unfinished", "claim"])
def test_killed_at_the_end(
    target: str, distil: Callable[..., int], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the results are written, while they are, and between them and the removal of the state."""
    place = {"write_results": "run.write_results", "remove_unfinished": "run.remove_unfinished"}
    monkeypatch.setattr(
        f"msd_core.cli.{place.get(target, 'claim.Claim.record')}", lambda *_, **__: raiser(KilledError())()
    )
    with pytest.raises(KilledError):
        distil(tmp_path, PROMPT, *QUICK)
    monkeypatch.undo()
    assert distil(tmp_path, "--resume") == 0
    assert_as(tmp_path, finished)


def test_a_disk_that_is_full_at_the_end_loses_nothing(
    distil: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("msd_core.cli.run_folder.plot_curves", raiser_of(OSError(28, "No space left on device")))
    assert distil(tmp_path, PROMPT, *QUICK) == 2
    said = capsys.readouterr().err
    assert "No space left" in said and "The run up to step 6 is in" in said and "--resume" in said
    assert not any((tmp_path / name).exists() for name in RESULTS) and not list(tmp_path.glob("*.partial*"))
    monkeypatch.undo()
    assert distil(tmp_path, "--resume") == 0
    assert_as(tmp_path, finished)


def raiser_of(error: Exception) -> Callable[..., None]:
    def act(*_: object, **__: object) -> None:
        raise error

    return act


def test_a_disk_that_is_full_on_the_way_keeps_the_last_saved_state(
    at: Callable[..., None],
    distil: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    full = raiser_of(OSError(28, "No space left on device"))
    at(4, lambda: monkeypatch.setattr("msd_core.atomic.os.replace", full))
    assert distil(tmp_path, PROMPT, *QUICK, "--checkpoint", 0.001) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left" in said and "The run up to step 3 is in" in said
    monkeypatch.undo()
    assert distil(tmp_path, "--resume") == 0
    assert_as(tmp_path, finished)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"damaged")], ids=["missing", "damaged"])
def test_frames_never_refuse_a_good_resume(
    spoil: Callable[[Path], object],
    at: Callable[..., None],
    distil: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    at(4, raiser(KeyboardInterrupt()))
    assert distil(tmp_path, PROMPT, *QUICK) == 130
    spoil(tmp_path / unfinished.FRAMES_FILE)
    assert distil(tmp_path, "--resume") == 0
    assert "the animation will lack its first frames" in capsys.readouterr().err
    assert (tmp_path / "generator.safetensors").read_bytes() == (finished / "generator.safetensors").read_bytes()


def test_a_state_of_something_else_is_refused(
    at: Callable[..., None], distil: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from msd_core.state import load_state, save_state

    at(4, raiser(KeyboardInterrupt()))
    assert distil(tmp_path, PROMPT, *QUICK) == 130
    save_state(load_state(tmp_path / STATE), tmp_path / STATE, {"settings": "{}", "seconds": "1"})
    assert (
        distil(tmp_path, "--resume") == 2
        and "is not of a run of the command line, or damaged" in capsys.readouterr().err
    )
    save_state(load_state(tmp_path / STATE), tmp_path / STATE, {"prompt": "x"})
    assert distil(tmp_path, "--resume") == 2 and "is not of a run of the command line" in capsys.readouterr().err


def test_threads_are_the_runs_own(
    at: Callable[..., None], distil: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A run goes on with as many as it began with, wherever that is, and says so in its record."""
    before = torch.get_num_threads()
    try:
        at(4, raiser(KeyboardInterrupt()))
        assert distil(tmp_path, PROMPT, *QUICK[:-1], "2") == 130
        torch.set_num_threads(1)
        assert distil(tmp_path, "--resume", "--threads", "1") == 2
        assert "--threads: got 1, but the run to resume has 2" in capsys.readouterr().err
        assert distil(tmp_path, "--resume") == 0 and torch.get_num_threads() == 2
        assert json.loads((tmp_path / "metrics.json").read_text())["settings"]["threads"] == 2
    finally:
        torch.set_num_threads(before)


def test_what_no_run_has_written_is_not_replaced(
    distil: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"somebody's own")
    assert distil(tmp_path, PROMPT, *QUICK) == 2
    said = capsys.readouterr().err
    assert str(picture) in said and "no run here has written it" in said and "--force" in said
    assert picture.read_bytes() == b"somebody's own"
    assert distil(tmp_path, PROMPT, *QUICK, "--force") == 0
    assert distil(tmp_path, PROMPT, *QUICK) == 0  # its own results may be replaced
    (tmp_path / "plot.png").write_bytes(b"edited by hand")
    assert distil(tmp_path, PROMPT, *QUICK) == 2 and "plot.png" in capsys.readouterr().err
    (tmp_path / MARKER).write_text("[" * 100_000)  # nothing is known about who wrote what
    assert distil(tmp_path, PROMPT, *QUICK) == 2 and "picture.png" in capsys.readouterr().err


def test_one_run_at_a_time(distil: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with claimed(tmp_path, RESULTS):
        assert distil(tmp_path, PROMPT, *QUICK) == 2
        assert f"is in use by process {os.getpid()} on " in capsys.readouterr().err
        assert distil(tmp_path, PROMPT, *QUICK, "--force") == 2
    assert distil(tmp_path, PROMPT, *QUICK) == 0


def test_what_a_killed_writer_left_is_cleared_away(distil: Callable[..., int], tmp_path: Path) -> None:
    names = ("picture.4711.partial.png", "state.4711.partial.safetensors", "frames.4711.partial.safetensors")
    left, own = [tmp_path / name for name in names], tmp_path / "other.4711.partial.png"
    for path in (*left, own):
        path.write_bytes(b"half")
    assert distil(tmp_path, PROMPT, *QUICK) == 0
    assert not any(path.exists() for path in left) and own.exists()


def test_force_gives_an_unfinished_run_up(
    at: Callable[..., None], distil: Callable[..., int], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    at(4, raiser(KeyboardInterrupt()))
    assert distil(tmp_path, PROMPT, *QUICK, "--seed", 1) == 130
    assert distil(tmp_path, PROMPT, *QUICK) == 2 and "--force to give it up" in capsys.readouterr().err
    assert distil(tmp_path, PROMPT, *QUICK, "--force") == 0
    assert_as(tmp_path, finished)


def test_a_signal_waits_while_it_is_held_and_is_raised_once() -> None:
    signals, passed = Signals(), []
    with signals.watched():
        with pytest.raises(Stopped) as stop:
            with signals.held():
                signal.raise_signal(signal.SIGTERM)
                passed.append("the save is finished")
        assert stop.value.status == 143 and passed
        signal.raise_signal(signal.SIGINT)  # answered only
        with signals.held():
            signal.raise_signal(signal.SIGINT)
    with signals.watched():
        signals.shut()
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # as before


def test_a_process_that_only_has_to_go_is_not_stopped() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with Signals().watched(to_the_end=True):
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # as a second one, when the command is over
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
        signal.signal(signal.SIGTERM, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals().watched():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_saving_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, saved = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    keep = Autosave(saved.append, 10)
    for second in range(0, 35, 4):
        now[0] = 100.0 + second
        keep(second)
    assert saved == [12, 24]
    never = Autosave(saved.append, 0)
    now[0] = 1e9
    assert not never(1) and len(saved) == 2
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds: got"):
            Autosave(saved.append, seconds)


def test_threads_spin_briefly_unless_the_user_says_otherwise() -> None:
    code = "import os; from msd_core.cli.main import patient_threads as p; p(); print(os.environ.get('GOMP_SPINCOUNT'))"

    def turns(**environment: str) -> str:
        clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
        return subprocess.check_output([sys.executable, "-c", code], env=clean | environment, text=True).strip()  # noqa: S603

    assert turns() == "10000"
    assert turns(GOMP_SPINCOUNT="7") == "7"
    assert turns(OMP_WAIT_POLICY="ACTIVE") == turns(KMP_BLOCKTIME="200") == "None"
