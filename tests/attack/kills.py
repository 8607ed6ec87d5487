"""Runs of `msd distill` that are killed, stopped or run out of disk, at random moments; and what is left of them.

    python tests/attack/kills.py --kill 100 --term 30 --int 30 --disk 10 --seed 1

Each run is stopped once: at a random moment, or while a file is being written, or while the results are. Then:
  * a state or the results are there, and nothing half written under a final name;
  * at most the seconds between two savings, and a step, are lost;
  * `--resume` ends with the results of the run that was not stopped, to the bit;
  * SIGINT and SIGTERM, once or twice in a row, end with their exit status and say how to go on.
A full disk is a file system of a few hundred kB (`mount -t tmpfs`, as root); without it those are skipped, in words.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROMPT = "a large red circle on a blue background"
STATE, MARKER = "state.safetensors", ".msd-run"
EXACT = ("picture.png", "generator.safetensors", "plot.png", "animation.webp")
STEPS = 24
RUN = ("--steps", str(STEPS), "--estimator", "one-step", "--threads", "1", "--size", "32")
STATUS = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass
class Counts:
    """What happened, by kind of attack."""

    done: dict[str, int] = field(default_factory=dict)
    lost: list[float] = field(default_factory=list)

    def add(self, what: str) -> None:
        """Once more."""
        self.done[what] = self.done.get(what, 0) + 1


def command(folder: Path, *words: str) -> list[str]:
    """`msd distill` into ``folder``."""
    return [sys.executable, "-m", "msd_core.cli.main", "distill", *words, "--out", str(folder)]


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A run in the background, with Ctrl-C as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command(folder, *words), **pipes)  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(process: subprocess.Popen[str], happened: object) -> bool:
    """Until ``happened()``, or the end of the process; whether it happened first."""
    while process.poll() is None:
        if happened():  # type: ignore[operator]
            return True
        time.sleep(0.0005)
    return False


def moment(folder: Path, kind: str, chance: random.Random, length: float) -> object:
    """When to strike: "any" moment of a run of ``length`` seconds, "saving" a state, or "writing" the results."""
    begun: list[float] = []

    def any_moment() -> bool:
        if not begun and (folder / STATE).exists():
            begun.append(time.monotonic() + chance.uniform(0, length))
        return bool(begun) and time.monotonic() >= begun[0]

    number, seen = chance.randrange(1, 20), set()

    def saving() -> bool:
        with contextlib.suppress(FileNotFoundError):  # put in place at this moment
            seen.update(path.stat().st_mtime_ns for path in _there(folder, "state.*.partial*"))
        return len(seen) >= number and (folder / STATE).exists()

    def writing() -> bool:
        return bool(_there(folder, chance.choice(EXACT).replace(".", ".*.partial.")))

    return {"any": any_moment, "saving": saving, "writing": writing}[kind]


def _there(folder: Path, pattern: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in folder.glob(pattern) if path.exists()]
    return []


def check_left(folder: Path, seconds: float, step: float, struck: float, counts: Counts) -> str:
    """Refuse a folder in which something was lost; "state" or "results"."""
    from msd_core.generators import load_generator
    from msd_core.state import load_state

    if (folder / STATE).exists():
        state = load_state(folder / STATE)  # whole, or this raises
        lost = struck - (folder / STATE).stat().st_mtime
        counts.lost.append(max(0.0, lost))
        if state.step < state.steps and lost > seconds + 3 * step + 1.0:
            raise AssertionError(f"{lost:.1f} s of work were lost, saving every {seconds} s")
    for name in EXACT:  # whatever has its final name is whole
        if (folder / name).exists():
            if name.endswith(".safetensors"):
                load_generator(folder / name)
            else:
                from PIL import Image

                Image.open(folder / name).load()
    if (folder / STATE).exists():
        return "state"
    if json.loads((folder / "metrics.json").read_text())["finished"] and all((folder / n).exists() for n in EXACT):
        return "results"
    raise AssertionError("neither a state nor the results are there")


def check_resumed(folder: Path, whole: Path, *words: str) -> None:
    """Go on, and compare with the run that was not stopped."""
    done = subprocess.run(command(folder, "--resume", *words), capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise AssertionError(f"--resume: {done.stderr[-500:]}")
    check_equal(folder, whole)


def check_equal(folder: Path, whole: Path) -> None:
    """The results are those of ``whole``, and nothing else is left."""
    for name in EXACT:
        if (folder / name).read_bytes() != (whole / name).read_bytes():
            raise AssertionError(f"{name} differs from that of the uninterrupted run")
    left = {path.name for path in folder.iterdir()} - {*EXACT, "metrics.json", MARKER, ".msd-run.lock"}
    if left:
        raise AssertionError(f"left behind: {left} {sorted(p.name for p in folder.iterdir())}")


def strike(
    folder: Path, whole: Path, number: int, kind: str, twice: bool, chance: random.Random, counts: Counts
) -> None:
    """One run, one attack, one resume."""
    seconds = chance.choice([0.02, 0.3, 1.0])
    length = json.loads((whole / "metrics.json").read_text())["timing"]["seconds"]
    process = start(folder, PROMPT, *RUN, "--checkpoint", str(seconds))
    try:
        in_time = wait_for(process, moment(folder, kind, chance, length))
        struck = time.time()
        if in_time:
            process.send_signal(number)
            if twice:
                time.sleep(chance.choice([0.0, 0.01, 0.1]))
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
        told = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    name = signal.Signals(number).name + (" twice" if twice else "")
    if not in_time:
        counts.add(f"{name}, {kind}: too late")
        return check_equal(folder, whole)
    if process.returncode not in (STATUS[number], 0) or "Traceback" in told:
        raise AssertionError(f"exit status {process.returncode}: {told[-500:]}")
    if "stopped before the end of the first step; nothing to keep" in told:
        counts.add(f"{name}, {kind}: no step was done")
        if (folder / STATE).exists():
            raise AssertionError("a state is left, although nothing was kept")
        return None
    left = check_left(folder, seconds, length / STEPS, struck, counts)
    counts.add(f"{name}, {kind}: {left} left")
    return check_resumed(folder, whole) if left == "state" else check_equal(folder, whole)


@contextlib.contextmanager
def small_disk(kilobytes: int) -> Iterator[Path | None]:
    """A file system of that size; None where none can be made."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True).returncode == 0  # noqa: S603
    try:
        yield folder if made else None
    finally:
        if made:
            subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607
        shutil.rmtree(folder, ignore_errors=True)


def fill(whole: Path, chance: random.Random, counts: Counts) -> None:
    """One run on a disk that gets full before it, on its way or at its end; then there is room, and it goes on."""
    with small_disk(20_000) as disk:
        if disk is None:
            counts.add("full disk: skipped, no file system can be mounted here")
            return
        folder, ballast = disk / "out", disk / "ballast"
        ballast.write_bytes(bytes(1000 * chance.randrange(9_000, 19_700)))
        done = subprocess.run(  # noqa: S603
            command(folder, PROMPT, *RUN, "--checkpoint", "0.05"), capture_output=True, text=True
        )
        ballast.unlink()
        if done.returncode not in (0, 2) or "Traceback" in done.stderr:
            raise AssertionError(f"exit status {done.returncode}: {done.stderr[-500:]}")
        if done.returncode == 0:
            counts.add("full disk: there was room")
            return check_equal(folder, whole)
        if not (folder / STATE).exists():
            counts.add("full disk: before the first state, refused at once")
            if (
                "No step was finished" not in done.stderr
                and "cannot" not in done.stderr
                and "No space" not in done.stderr
            ):
                raise AssertionError(done.stderr[-500:])
            return None
        counts.add("full disk: state left")
        return check_resumed(folder, whole)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kill", 100), ("term", 30), ("int", 30), ("disk", 10), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    chance, counts, failures = random.Random(arguments.seed), Counts(), 0  # noqa: S311
    numbers = {signal.SIGKILL: arguments.kill, signal.SIGTERM: arguments.term, signal.SIGINT: arguments.int}
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "whole")
        subprocess.run(command(whole, PROMPT, *RUN), check=True, capture_output=True)  # noqa: S603
        plan = [number for number, count in numbers.items() for _ in range(count)] + [None] * arguments.disk
        for i, number in enumerate(plan):
            folder = Path(place, "run")
            try:
                if number is None:
                    fill(whole, chance, counts)
                else:
                    kind = chance.choice(["any", "saving", "writing"])
                    twice = number != signal.SIGKILL and chance.random() < 0.5
                    strike(folder, whole, number, kind, twice, chance, counts)
            except (AssertionError, OSError) as error:
                failures += 1
                print(f"FAILED, run {i} ({number}, {kind}) {counts.done}: {error}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            print(f"\r{i + 1} of {len(plan)}, {failures} failures", end="", file=sys.stderr)
    print(file=sys.stderr)
    for what, count in sorted(counts.done.items()):
        print(f"{count:4}  {what}")
    print(f"{failures} failures; most seconds between the last state and the strike: {max(counts.lost, default=0):.2f}")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
