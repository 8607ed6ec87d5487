"""Freeze what the code puts out, and compare it with what other code puts out: the guard of a refactoring.

    python tests/freeze.py make DIR [--tree TREE] [--only GLOB …] [--saved DIR]
    python tests/freeze.py compare DIR DIR [--only GLOB …]

`make` runs the code of TREE through what its users know: the command line, and graphs posted to a ComfyUI that has TREE
as a pack (found as tests/conftest.py does; left out, loudly, without one). Nothing of TREE is imported here, so old and
new code run alike. One thread and the same machine, or bits differ for no fault of the code.

    distill/  sample/  compare/     each method × estimator × generator, in few steps; the presets whole
    render/  resume/                saved files drawn at another size; a run stopped by Ctrl-C and resumed
    studies/                        `msd reproduce --quick`, without its cells; of `ideal`, a stopwatch, only the errors
    host/                           the pictures of graphs, and every node's schema

With --saved DIR the files to draw and to resume are those that DIR holds, which other code may have written.

`compare` looks at every byte, and says how each file differs; `CLOCKS` do between any two runs, and do not count.
Exit status 1: something differs that `DIFFERENCES` does not name.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence
from safetensors import safe_open

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS / "server")]

from comfy_server import Server, started  # noqa: E402
from conftest import find_host  # noqa: E402

DIFFERENCES: dict[str, str] = {
    "*/metrics.json: key settings.*": "a method's settings are nested by what owns them: bandwidths, estimator",
    "compare/compare.json: key settings.*": "as in metrics.json",
    "*/generator.safetensors: metadata config, *": "a neural image that is not square knows its size",
    "host/*.png: text prompt, *": "the graph in the picture's file names the inputs that were appended",
    "host/object_info.json: *.tooltip, *": "a widget's tooltip is its field's help",
    "host/object_info.json: *": "nodes are made from the fields: what was missing is appended, with the fields' ranges",
}
"""A glob of "file: difference", as `compare` prints it, to the reason why that difference is meant."""

CLOCKS = re.compile(r"seconds|timing|MB|.* s|× .*|of the exponentials|.* / evaluations")
"""Names of JSON keys, CSV columns and metadata that are times, or made of times."""
CLOCK_LINE = re.compile(r"of computing\b")
CHANCE = "stopped"
"""A folder of this name is not compared: where Ctrl-C falls is chance."""

PROMPT, OTHER_PROMPT = "a red circle on a blue background", "a small yellow star left of a green square"
GENERATORS = ("fourier", "siren", "hashgrid", "pixels", "latent")
METHODS = {
    "msd-exact": "--solver-steps 3",
    "msd-exact-heun": "--solver heun --samples 2 --antithetic --solver-steps 3",
    "msd-split": "--estimator split --solver-steps 4",
    "msd-split-truncated": "--estimator split --truncation 2 --solver-steps 6",
    "msd-split-inverted": "--estimator split --centre inversion --interval 0.3 6 --inversion-cfg 1 --solver-steps 4",
    "msd-naive": "--estimator naive --solver-steps 6 --samples 2",
    "msd-naive-inverted": "--estimator naive --centre inversion --interval 0.1 4 --solver-steps 5",
    "msd-one-step": "--estimator one-step",
    "msd-one-step-inverted": "--estimator one-step --centre inversion --solver-steps 4",
    "sds-none-sigma": "--method sds",
    "sds-linear-uniform": "--method sds --anneal linear --weighting uniform",
    "sds-sqrt-dreamfusion": "--method sds --anneal sqrt --weighting dreamfusion --t-min 0.1 --t-max 0.9",
    "sdi": "--method sdi",
    "sdi-other": "--method sdi --anneal sqrt --t-min 0.1 --t-max 0.8 --inversion-steps 4 --eta 0 --inversion-cfg 1",
}
EVERYWHERE = ("msd-exact", "sds-none-sigma", "sdi")
"""The methods that move every generator; the others move a neural image and one more."""
VARIATIONS = {
    "pull-latent-msd": "--pull latent --solver-steps 3 --generator siren",
    "pull-latent-sds": "--pull latent --method sds --generator hashgrid",
    "pull-latent-sdi": "--pull latent --method sdi --generator pixels",
    "gd-msd": "--optimizer gd --lr 0.3 --solver-steps 3",
    "gd-coupled": "--optimizer gd --lr 0.3 --lr-coupling 3 --solver-steps 3 --generator pixels",
    "gd-latent": "--optimizer gd --lr 0.3 --method sds --generator latent",
    "adam-coupled": "--lr-coupling 3 --lr 0.02 --solver-steps 3",
    "min-bandwidth": "--min-bandwidth 2 --steps 8 --estimator one-step",
    "linear": "--bandwidth-schedule linear --bandwidth-start 5 --bandwidth-end 1 --estimator one-step",
    "cosine": "--bandwidth-schedule cosine --estimator one-step",
    "exponential": "--bandwidth-schedule exponential --bandwidth-start 3 --estimator one-step",
    "karras": "--bandwidth-schedule karras --estimator one-step",
    "piecewise": "--bandwidth-schedule piecewise --bandwidth-points 0.25:5 0.6:1 --estimator one-step",
    "negative": f"--negative '{OTHER_PROMPT}' --solver-steps 3",
    "cfg-1": "--cfg 1 --solver-steps 3",
    "seed": "--seed 7 --method sdi",
    **{f"wide-{kind}": f"--size 96x64 --solver-steps 3 --generator {kind}" for kind in GENERATORS},
}
STUDIES = ("table2", "table1", "fig1", "fig3", "bandwidth", "cost", "ideal")
SAMPLES = {"default": "", "several": "--n 3 --steps 5 --scheduler karras --cfg 1 --size 96x64 --seed 3"}
WORKFLOWS = TESTS / "server" / "workflows"
RUN = "import json, sys; from msd_core.cli.main import main; sys.exit(max(map(main, json.load(sys.stdin)), default=0))"


# Runs ----------------------------------------------------------------------------------------------------------------


def distillations() -> dict[str, str]:
    """Options of `msd distill`, by name."""
    return {
        f"{method}-{kind}": f"{options} --generator {kind}"
        for i, (method, options) in enumerate(METHODS.items())
        for kind in (GENERATORS if method in EVERYWHERE else ("fourier", GENERATORS[1 + i % 4]))
    } | VARIATIONS


def command_lines(out: Path, saved: Path) -> Iterator[tuple[str, list[str]]]:
    """(name, arguments of `msd`) of every run that is one command line; it draws files that lie in ``saved``."""
    for name, options in distillations().items():
        steps = [] if "--steps" in options.split() else ["--steps", "4"]
        arguments = ["distill", PROMPT, *steps, *shlex.split(options)]
        yield f"distill/{name}", [*arguments, "--out", str(out / "distill" / name)]
    for name, options in SAMPLES.items():
        yield f"sample/{name}", ["sample", OTHER_PROMPT, *options.split(), "--out", str(out / f"sample/{name}.png")]
    for kind in GENERATORS:
        file = saved / "distill" / f"msd-exact-{kind}" / "generator.safetensors"
        for suffix in ("png", "webp"):
            picture = out / f"render/{kind}.{suffix}"
            yield f"render/{kind}", ["render", str(file), "--size", "200x120", "--out", str(picture)]
    yield "compare/presets", ["compare", PROMPT, "--out", str(out / "compare")]
    for name in STUDIES:
        folder = out / ("stopwatch" if name == "ideal" else "studies")
        yield f"studies/{name}", ["reproduce", name, "--quick", "--out", str(folder)]


def changed(graph: dict, **inputs: Mapping[str, Any]) -> dict:
    """A copy of an API graph with other inputs in some nodes, ``n6={...}``; an input that is None is disconnected."""
    graph = copy.deepcopy(graph)
    for node, values in inputs.items():
        merged = graph[node[1:]]["inputs"] | values
        graph[node[1:]]["inputs"] = {name: value for name, value in merged.items() if value is not None}
    return graph


def graphs() -> dict[str, dict]:
    """The two workflows whole, and the first of them in three steps with other choices."""
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in WORKFLOWS.glob("*.json")}
    text = read["text_to_neural_image"]
    short = changed(text, n6={"steps": 3, "solver_steps": 3}, n5={"steps": 3}, n7={"width": 160, "height": 160})
    mean_shift = {
        "split": {"estimator": "split", "truncation": 2.0, "solver_steps": 6},
        "inverted": {"estimator": "split", "centre": "inversion"},
        "naive": {"estimator": "naive", "samples": 2, "antithetic": True},
        "one-step": {"estimator": "one-step", "pull": "latent"},
        "heun": {"solver": "heun", "samples": 2},
        "gd": {"optimizer": "gd", "learning_rate": 0.3, "lr_coupling": 3.0, "cfg": 1.0},
        "default-bandwidths": {"bandwidths": None, "seed": 5},
    }
    kinds = {kind: changed(short, n4={"representation": kind, "width": 96}) for kind in GENERATORS[1:]}
    curves = {
        "karras": {"schedule": "karras", "rho": 3.0, "start": 5.0},
        "piecewise": {"schedule": "piecewise", "points": "0.25:5, 0.6:1", "steps": 5},
    }
    others = kinds | {name: changed(short, n6=values) for name, values in mean_shift.items()}
    others |= {name: changed(short, n5=values) for name, values in curves.items()}
    for weighting, anneal, pull in (("sigma", "none", "image"), ("dreamfusion", "sqrt", "latent")):
        chain = changed(short, n6={"generator": ["20", 0]})
        shared = ("model", "positive", "negative", "vae", "seed", "cfg", "learning_rate", "optimizer")
        inputs = {name: short["6"]["inputs"][name] for name in shared} | {"generator": ["4", 0], "steps": 3}
        inputs |= {"weighting": weighting, "anneal": anneal, "t_min": 0.02, "t_max": 0.98, "pull": pull}
        others[f"sds-{weighting}"] = chain | {"20": {"class_type": "MSD_SDSStep", "inputs": inputs}}
    return read | others


class Maker:
    """Runs the code of ``tree``, and keeps what it puts out in ``out``."""

    def __init__(self, tree: Path, python: Path, out: Path, saved: Path, only: Sequence[str]) -> None:
        self.tree, self.python, self.out, self.saved, self.only = tree, python, out, saved, only

    def wanted(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.only)

    @contextlib.contextmanager
    def environment(self) -> Iterator[dict[str, str]]:
        """Variables that make a Python import ``tree``, as the distribution that its pyproject.toml describes."""
        version = re.search(r'^version = "(.*)"', (self.tree / "pyproject.toml").read_text(encoding="utf-8"), re.M)
        about = f"Metadata-Version: 2.1\nName: mean-shift-distillation\nVersion: {version[1] if version else 0}\n"
        with tempfile.TemporaryDirectory() as folder:
            (information := Path(folder) / "mean_shift_distillation-0.dist-info").mkdir()
            (information / "METADATA").write_text(about, encoding="utf-8")
            path = os.pathsep.join((str(self.tree), folder))
            yield os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def command_lines(self) -> None:
        """Every wanted command line, in one process: importing torch takes longer than most of them."""
        runs = [arguments for name, arguments in command_lines(self.out, self.saved) if self.wanted(name)]
        with self.environment() as variables:
            subprocess.run(  # noqa: S603
                [self.python, "-c", RUN],
                cwd=self.tree,
                env=variables | {"TQDM_DISABLE": "1"},
                input=json.dumps(runs),
                text=True,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        shutil.rmtree(self.out / "studies" / "cells", ignore_errors=True)
        if (self.out / "stopwatch").exists():
            shutil.copy(self.out / "stopwatch" / "ideal.csv", self.out / "studies")
            shutil.rmtree(self.out / "stopwatch")

    def resume(self) -> None:
        """A whole run, one stopped amid its steps, and the rest of that: the third must be the first."""
        if not self.wanted("resume"):
            return
        whole, stopped, resumed = (self.out / "resume" / name for name in ("whole", CHANCE, "resumed"))
        run = [self.python, "-m", "msd_core.cli.main", "distill"]
        new = [*run, PROMPT, "--steps", "40", "--solver-steps", "3", "--samples", "2"]
        with self.environment() as variables:
            where = {"cwd": self.tree, "env": variables, "stderr": subprocess.PIPE}
            subprocess.run([*new, "--out", whole], check=True, **where)  # noqa: S603
            if self.saved == self.out:
                stop([*new, "--out", stopped], b"[1-9][0-9]*/40", where)
            shutil.copytree(self.saved / "resume" / CHANCE, resumed)
            subprocess.run([*run, "--resume", "--out", resumed], check=True, **where)  # noqa: S603
        if found := list(differences(whole, resumed)):
            sys.exit("the resumed run is another:\n" + "\n".join(found))

    def host(self) -> None:
        """The pictures of the graphs, and the schemas, of a ComfyUI with ``tree`` as a pack."""
        wanted = {name: graph for name, graph in graphs().items() if self.wanted(f"host/{name}")}
        found = find_host()
        if not wanted or found.missing:
            print(f"HOST LEFT OUT: {found.missing or 'no graph is asked for'}")
            return
        (out := self.out / "host").mkdir()
        os.environ["OMP_NUM_THREADS"] = "1"
        with (
            tempfile.TemporaryDirectory() as base,
            started(found.path, found.python, Path(base), {"mean-shift": self.tree}) as server,
        ):
            schemas = {name: info for name, info in server.json("/object_info").items() if name.startswith("MSD_")}
            (out / "object_info.json").write_text(json.dumps(schemas, indent=1), encoding="utf-8")
            for name, graph in wanted.items():
                keep_pictures(server, graph, out / name)


def stop(command: list[Any], at: bytes, where: dict[str, Any]) -> None:
    """Press Ctrl-C once the progress bar shows ``at``."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background: a child inherits it
    process = subprocess.Popen(command, **where)  # noqa: S603
    signal.signal(signal.SIGINT, before)
    seen = b""
    while not re.search(at, seen) and process.poll() is None:
        seen += process.stderr.read1()
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1].decode()
    if process.returncode != 130:
        sys.exit(f"Ctrl-C gave exit status {process.returncode}, not 130:\n{seen.decode()}{told}")


def keep_pictures(server: Server, graph: dict, folder: Path) -> None:
    """Run a graph, and write all pictures of its output nodes."""
    folder.mkdir()
    entry = server.run(graph)
    for node, outputs in sorted(entry["outputs"].items()):
        for i in range(len(outputs.get("images", ()))):
            (folder / f"{node}-{i:02}.png").write_bytes(server.image(entry, node, i))


def make(arguments: argparse.Namespace) -> int:
    """Freeze; exit status 0."""
    out = arguments.out.resolve()
    out.mkdir(parents=True)
    maker = Maker(arguments.tree.resolve(), arguments.python, out, (arguments.saved or out).resolve(), arguments.only)
    for part in (maker.command_lines, maker.resume, maker.host):
        start = time.monotonic()
        part()
        print(f"{part.__name__}: {time.monotonic() - start:.0f} s", flush=True)
    return 0


# Comparison ----------------------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, Path]:
    """All files below a folder that are no chance, by their relative names."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in names.items() if CHANCE not in name.split("/")}


def differences(one: Path, other: Path) -> Iterator[str]:
    """ "file: difference" for everything that is not equal."""
    mine, theirs = files(one), files(other)
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs:
            yield f"{name}: only in {one if name in mine else other}"
        elif mine[name].read_bytes() != theirs[name].read_bytes():
            describe = DESCRIBE.get(mine[name].suffix, text_differs)
            found = list(describe(mine[name], theirs[name]))
            if not found and describe in (tensors_differ, pictures_differ):
                found = ["other bytes of an equal content"]
            yield from (f"{name}: {difference}" for difference in found)


def text_differs(one: Path, other: Path) -> Iterator[str]:
    pairs = zip_longest(*(path.read_text(encoding="utf-8").splitlines() for path in (one, other)))
    for i, (a, b) in enumerate(pairs, 1):
        if a != b and not (a and b and CLOCK_LINE.search(a) and CLOCK_LINE.search(b)):
            yield f"line {i}, {a!r} and {b!r}"


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """("a.b.0", value) of every leaf of nested JSON, clocks left out."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not pairs:
        yield name, value
        return
    for key, inner in pairs:
        if not CLOCKS.fullmatch(str(key)):
            yield from leaves(inner, f"{name}.{key}" if name else str(key))


def entries_differ(mine: Mapping[str, object], theirs: Mapping[str, object], what: str) -> Iterator[str]:
    for key in sorted(mine.keys() | theirs.keys()):
        a, b = (repr(entries[key]) if key in entries else "nothing" for entries in (mine, theirs))
        if a != b and not CLOCKS.fullmatch(key):
            yield f"{what} {key}, {a} and {b}"
    if what != "metadata" and mine.keys() == theirs.keys() and list(mine) != list(theirs):
        yield f"{what}s in another order"


def json_differs(one: Path, other: Path) -> Iterator[str]:
    mine, theirs = (dict(leaves(json.loads(path.read_text(encoding="utf-8")))) for path in (one, other))
    yield from entries_differ(mine, theirs, "key")


def csv_differs(one: Path, other: Path) -> Iterator[str]:
    tables = []
    for path in (one, other):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        tables.append({f"{i}.{column}": cell for i, row in enumerate(rows, 1) for column, cell in row.items()})
        tables[-1] = {name: cell for name, cell in tables[-1].items() if not CLOCKS.fullmatch(name.partition(".")[2])}
    yield from entries_differ(*tables, "cell")


def tensors_differ(one: Path, other: Path) -> Iterator[str]:
    with safe_open(one, "np") as mine, safe_open(other, "np") as theirs:
        yield from entries_differ(mine.metadata() or {}, theirs.metadata() or {}, "metadata")
        for name in sorted({*mine.keys(), *theirs.keys()}):
            if name not in mine.keys() or name not in theirs.keys():  # noqa: SIM118
                yield f"tensor {name}, only in {one if name in mine.keys() else other}"  # noqa: SIM118
            elif text := arrays_differ(mine.get_tensor(name), theirs.get_tensor(name)):
                yield f"tensor {name}, {text}"


def pictures_differ(one: Path, other: Path) -> Iterator[str]:
    with Image.open(one) as mine, Image.open(other) as theirs:
        yield from entries_differ(getattr(mine, "text", {}), getattr(theirs, "text", {}), "text")
        frames = [[np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(p)] for p in (mine, theirs)]
    if len(frames[0]) != len(frames[1]):
        yield f"{len(frames[0])} and {len(frames[1])} frames"
    for i, (a, b) in enumerate(zip(*frames, strict=False)):
        if text := arrays_differ(a, b):
            yield f"frame {i}, {text}"


def arrays_differ(a: np.ndarray, b: np.ndarray) -> str:
    """In words; empty if they are equal to the bit."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {a.shape} and {b.dtype} {b.shape}"
    if a.tobytes() == b.tobytes():
        return ""
    return f"up to {np.abs(a.astype(float) - b.astype(float)).max():.3g} apart in {(a != b).mean():.1%}"


DESCRIBE = {
    ".json": json_differs,
    ".csv": csv_differs,
    ".safetensors": tensors_differ,
    ".png": pictures_differ,
    ".webp": pictures_differ,
}


def chosen(text: str, patterns: Sequence[str]) -> bool:
    """Whether ``text`` begins as one of the patterns says."""
    return any(fnmatch.fnmatchcase(text, f"{pattern}*") for pattern in patterns)


def compare(arguments: argparse.Namespace) -> int:
    """Print what differs; exit status 1 if a difference has no reason."""
    found: dict[str, list[str]] = {}
    for difference in differences(arguments.one, arguments.other):
        if not chosen(difference, arguments.only):
            continue
        reasons = (reason for pattern, reason in DIFFERENCES.items() if fnmatch.fnmatchcase(difference, pattern))
        found.setdefault(next(reasons, ""), []).append(difference)
    unexplained = found.pop("", [])
    for reason, meant in found.items():
        print(f"{len(meant)} as meant: {reason}; e.g. {meant[0][:200]}")
    for difference in unexplained if arguments.all else unexplained[:40]:
        print(difference[:300])
    names = files(arguments.one).keys() | files(arguments.other).keys()
    count = sum(chosen(name, arguments.only) for name in names)
    verdict = (
        f"{len(unexplained)} DIFFERENCES WITHOUT A REASON" if unexplained else "equal" if not found else "as meant"
    )
    print(f"{count} files: {verdict}")
    return int(bool(unexplained))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make", help="run the code of a tree and keep what it puts out")
    making.add_argument("out", type=Path, metavar="DIR", help="a new folder")
    making.add_argument("--tree", type=Path, default=TESTS.parent, help="whose code (default: this repository's)")
    making.add_argument("--python", type=Path, default=Path(sys.executable), help="of the headless runs")
    making.add_argument(
        "--only", nargs="+", metavar="GLOB", default=["*"], help="runs by name, e.g. 'distill/sds*' resume 'host/*'"
    )
    making.add_argument("--saved", type=Path, metavar="DIR", help="draw and resume the files of this one")
    making.set_defaults(run=make)
    comparing = commands.add_parser("compare", help="say what differs between two folders")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    comparing.add_argument("--only", nargs="+", metavar="GLOB", default=["*"], help="names of files, or their start")
    comparing.add_argument("--all", action="store_true", help="print every difference, not the first 40")
    comparing.set_defaults(run=compare)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
