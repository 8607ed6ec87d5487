"""An attack on the command line: seeded odd command lines, most in this process, some as real ones on odd streams.

    python tests/attack/command_lines.py --count 500 --seed 3

Right is status 0, or status 2 with exactly one line on stderr that begins with "msd: error: " and is of readable
length; never a traceback, never silence. In this process commands do no long work: the functions that train, compare
and reproduce are stood in for, so that what is attacked is the arguments, files and streams.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

from PIL import Image

from msd_core.cli.main import COMMANDS
from msd_core.cli.main import main as msd
from msd_core.cli.streams import LONGEST
from msd_core.generators import make_generator, save_generator

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a red circle on a blue background"
SUBPROCESSES = 12
"""One command line in so many is a real one."""
WORDS = [
    "", " ", "-", "--", "---", "-1", "0", "1", "nan", "inf", "-inf", "1e9", "1e400", "9" * 5000, "-" + "9" * 5000,
    "0x10",
    "٣", "½", "λ", "σ\u0304", "x" * 100_000, "a/" * 3000 + "b", "n" * 300, ".", "..", "/", "/dev/null",
    "/proc/self/mem",
    "a\nb", "a\tb", "\x1b[31mred", "\udcff", "a\udc80b", "😀" * 50, "*", "%s", "{}", "%(prog)s", "none", "None", "true",
    "512x512x512", "x", "0x0", "1x", "999999999999x1", "file.png", "picture.png", "sub/picture.png",
    "picture.txt", ".png", "..png",
    PROMPT, "a purple dog", "a " * 5000, "red", "karras", "msd", "adam", "all", "table1", "0.5:2", "0.5", ":", "1:2:3",
]  # fmt: skip


BEGUN = {
    "edit": ["picture.png", "--to", PROMPT],
    "inpaint": ["picture.png", PROMPT, "--mask", "picture.png"],
    "restore": ["picture.png", PROMPT, "--task", "x4"],
    "invert": ["picture.png"],
    "fit": ["picture.png"],
    "bench": [PROMPT],
}
"""What makes a command whole: the odd words then come after it."""
REFUSED = [
    "msd_core.manipulation.editing.encoded",
    "msd_core.manipulation.inpainting.encoded",
    "msd_core.manipulation.restoration.normal",
    "msd_core.manipulation.result.encoded",
    "msd_core.generators.fit",
    "msd_core.bench.bench",
]
"""Where the long work of the others begins: what has come so far is refused there."""


@cache
def flags_of(command: str) -> list[str]:
    """Every flag of a command, as its own parser has them."""
    parser = argparse.ArgumentParser()
    COMMANDS[command].add_arguments(parser)
    return sorted(flag for flag in parser._option_string_actions if flag.startswith("--"))


def command_line(r: random.Random) -> list[str]:
    """A command with words and flags, right and wrong ones."""
    command = r.choice([*COMMANDS, *COMMANDS, r.choice(WORDS)])
    flags = flags_of(command) if command in COMMANDS else ["--help", "--version"]
    line = [command]
    begun = BEGUN[command] if command in BEGUN and r.random() < 0.7 else []
    for _ in range(0 if begun else r.choice([0, 1, 1, 2])):
        line.append(r.choice(WORDS))
    line += begun
    for _ in range(r.choice([0, 1, 1, 1]) if begun else r.choice([0, 1, 2, 3])):
        flag, word = r.choice(flags if begun else [*flags, r.choice(WORDS)]), r.choice(WORDS)
        line += [f"{flag}={word}"] if r.random() < 0.3 else [flag, word]
    if r.random() < 0.6 and command in COMMANDS:
        line += ["--out", r.choice(["out", "out.png", "render.png", r.choice(WORDS)])]
    r.shuffle(line[1:])
    return line


@contextlib.contextmanager
def work_stood_in_for() -> Iterator[None]:
    """The commands' long work replaced by nothing; their arguments, files and messages stay."""

    def nothing(*_: object, **__: object) -> int:
        return 0

    with (
        mock.patch("msd_core.cli.run.Run.optimise", nothing),
        mock.patch("msd_core.cli.contact_sheet._cell", side_effect=ValueError("methods: stood in for")),
        mock.patch("msd_core.demo.train.train", nothing),
        mock.patch("msd_core.cli.reproduce._reproduce", lambda *_: []),
        mock.patch("msd_core.cli.sweep._sweep", nothing),
        mock.patch("msd_core.warm.ddim_steps", lambda z, *_: iter([(0.0, z, z)])),
        contextlib.ExitStack() as refused,
    ):
        for work in REFUSED:
            refused.enter_context(mock.patch(work, side_effect=ValueError("work: stood in for")))
        yield


def bounded(line: list[str]) -> bool:
    """Whether a command line asks for no picture that would take long to draw: memory is another attack's."""
    return not any(word in ("1", "999999999999x1") for word in line) or line[0] not in ("render", "sample")


def in_process(line: list[str]) -> str:
    """What is wrong with a command line, or nothing."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with work_stood_in_for(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status: object = msd(line)
    except SystemExit as stop:
        status = stop.code
    except BaseException as error:  # noqa: BLE001 - what the attack looks for
        return f"{type(error).__name__}: {str(error)[:200]}"
    return verdict(status, out.getvalue(), err.getvalue())


def verdict(status: object, out: str, err: str) -> str:
    """What is wrong with how a command ended, or nothing."""
    lines = [part for part in err.replace("\r", "\n").split("\n") if part and "%|" not in part and "it/s" not in part]
    if "Traceback" in err or status not in (0, 2):
        return f"status {status}: {err[-300:]}"
    if status == 0:
        return "" if out or not lines else f"status 0 and {err[:200]!r}"
    if len(lines) != 1 or not lines[0].startswith("msd: error: "):
        return f"stderr is no single line: {err[:300]!r}"
    if len(lines[0]) > LONGEST + 200:
        return f"a line of {len(lines[0])} characters: {lines[0][:100]}"
    return "" if lines[0].isprintable() else f"control characters: {lines[0][:200]!r}"


def as_process(line: list[str], folder: Path, r: random.Random) -> str:
    """As `in_process`, as a command of its own, on streams and with encodings of all kinds."""
    how = r.choice(
        ["plain", "ascii", "C", "closed out", "full out", "no reader", "closed err", "full err", "both closed"]
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    environment |= {"ascii": {"PYTHONIOENCODING": "ascii"}, "C": {"LC_ALL": "C", "PYTHONUTF8": "0"}}.get(how, {})
    redirect = {"closed out": ">&-", "full out": ">/dev/full", "no reader": "| true", "closed err": "2>&-",
                "full err": "2>/dev/full", "both closed": ">&- 2>&-"}.get(how, "")  # fmt: skip
    words = [os.fsencode(word).replace(b"\0", b"") for word in line]
    shell = [
        "bash",
        "-c",
        f'set -o pipefail; "$@" {redirect}',
        "bash",
        sys.executable,
        "-m",
        "msd_core.cli.main",
        *words,
    ]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, timeout=120)  # noqa: S603
    err = done.stderr.decode(errors="replace")
    if how in ("closed err", "full err", "both closed"):
        return "" if done.returncode in (0, 2) and not err else f"{how}: status {done.returncode}, {err[-300:]}"
    if how == "no reader" and done.returncode == 141 and "Traceback" not in err:
        return ""
    out = "?" if how == "closed out" else done.stdout.decode(errors="replace")
    fault = verdict(done.returncode, out, err)
    return fault and f"{how}: {fault}"


def quick(line: list[str]) -> bool:
    """Whether a real command does no long work: it asks for help, or a needed argument is wrong or missing."""
    return "--help" in line or line[0] not in COMMANDS or line[0] == "render"


def run(count: int, seed: int, *, subprocesses: int = SUBPROCESSES) -> tuple[Counter[str], list[str]]:
    """``count`` command lines; outcomes, and a line for each fault."""
    outcomes: Counter[str] = Counter()
    faults = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        try:
            save_generator(make_generator("pixels", height=4, width=4), folder / "file.safetensors")
            Image.new("RGB", (16, 16)).save(folder / "picture.png")
            for number in range(count):
                r = random.Random(seed * 1_000_003 + number)  # noqa: S311 - reproducible, not secret
                line = command_line(r)
                while not bounded(line):
                    line = command_line(r)
                real = number % subprocesses == 0
                while real and not quick(line):
                    line = command_line(r)
                fault = as_process(line, folder, r) if real else in_process(line)
                outcomes["fault" if fault else "process" if real else "line"] += 1
                if fault:
                    shown = " ".join(word[:60] for word in line).encode(errors="backslashreplace").decode()
                    faults.append(f"{seed * 1_000_003 + number} {shown!r}: {fault}")
        finally:
            os.chdir(before)
    return outcomes, faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Attack the command line.")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes, faults = run(arguments.count, arguments.seed)
    print(*(fault.encode(errors="backslashreplace").decode() for fault in faults), sep="\n")
    print(f"{arguments.count} command lines, seed {arguments.seed}: {dict(outcomes)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
