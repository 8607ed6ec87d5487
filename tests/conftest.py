"""Three tiers, marked by their folder: `core` (msd_core alone), `host` (ComfyUI as a library), `server` (its server).
The attacks on the core (tests/attack) belong to its tier.

ComfyUI is looked for at $COMFYUI_PATH, then two folders up when this pack sits in `custom_nodes`, then at
~/comfy/ComfyUI; its Python at $COMFYUI_PYTHON, then ~/comfy/venv, then the running one. Without it the two upper tiers
are skipped, loudly.

The host tier needs the host's own Python with its own packages, which is rarely the one that runs pytest. Its files are
therefore collected here by name only, run together by one pytest of the host's Python, and reported one test a line.

With `-n 2 --dist loadfile` (pytest-xdist) files go to whichever of two processes is free, and the host tier, which runs
once, goes to one of them as if it were one file, so that the other does not wait for it. The server tier goes first,
then what takes longest (`LONGEST`), and files of few tests last, so that the two end together. Every process calculates
with one thread, unless OMP_NUM_THREADS says otherwise: two that share their cores would wait for each other.

Tests marked `long` are left out, loudly, but for `--long`: of memory over hundreds of steps, of a second device, and of
whole pictures and studies by ways that shorter tests take, too.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree  # noqa: S405  (reads only what our own pytest wrote)
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
INSIDE = "MSD_HOST_TIER"  # set in the pytest that runs in the host's Python
TIERS = ("core", "host", "server")
LONGEST = (
    "test_nothing_lost", "test_volume_run", "test_solids", "test_study_captions", "test_cli",
    "test_manipulation", "test_study_volume", "test_demo", "test_demo_judge", "test_studies", "test_extending",
)  # fmt: skip
"""Files of the core tier from half a minute up; the rest are in the order of how many tests they hold."""
INSTALL = (
    "git clone https://github.com/comfyanonymous/ComfyUI ~/comfy/ComfyUI && python -m venv ~/comfy/venv && "
    "~/comfy/venv/bin/pip install -r ~/comfy/ComfyUI/requirements.txt requests pytest"
)


@dataclass(frozen=True)
class Host:
    """A ComfyUI to test against; `missing` says what keeps it from being used, and the fix, or is empty."""

    path: Path
    python: Path
    missing: str = ""


def find_host() -> Host:
    """Apply the rules of the module docstring."""
    stated = os.environ.get("COMFYUI_PATH")
    candidates = [ROOT.parents[1]] if ROOT.parent.name == "custom_nodes" else []
    candidates = [Path(stated)] if stated else [*candidates, Path.home() / "comfy" / "ComfyUI"]
    path = next((c for c in candidates if (c / "main.py").is_file() and (c / "comfy").is_dir()), candidates[0])
    if not (path / "main.py").is_file():
        return Host(path, Path(sys.executable), f"no ComfyUI at {path}; set COMFYUI_PATH, or get one: {INSTALL}")
    venv = Path.home() / "comfy" / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python = Path(os.environ.get("COMFYUI_PYTHON") or (venv if venv.exists() else sys.executable))
    return Host(path, python, _lacks(python))


def _lacks(python: Path) -> str:
    modules = ("torch", "aiohttp", "requests", "safetensors", "pytest")  # ComfyUI 0.8 forgets to ask for requests
    code = f"import importlib.util as u; print(*[m for m in {modules} if u.find_spec(m) is None])"
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{python} does not run ({error}); set COMFYUI_PYTHON to the Python that runs your ComfyUI"
    lacking = found.stdout.strip()
    return lacking and f"{python} lacks {lacking}; {python} -m pip install {lacking}, or set COMFYUI_PYTHON"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the tests marked long")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[HOST] = None


HOST = pytest.StashKey[Host | None]()


def host_of(config: pytest.Config) -> Host:
    """The host, looked for once a session and only when a test needs it."""
    if config.stash[HOST] is None:
        config.stash[HOST] = find_host()
    return config.stash[HOST]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        left = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    for item in items:
        relative = item.path.relative_to(ROOT / "tests").parts
        tier = "core" if relative[0] == "attack" else relative[0]
        if tier in TIERS:
            item.add_marker(tier)
    if "PYTEST_XDIST_WORKER" in os.environ:
        in_file = Counter(item.path for item in items)
        rank = {name: number for number, name in enumerate(LONGEST)}

        def order(item: pytest.Item) -> tuple[bool, int, int, Path]:
            place = rank.get(item.path.stem, len(rank))
            return item.get_closest_marker("server") is None, place, -in_file[item.path], item.path

        items.sort(key=order)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--long"):
        terminalreporter.line("Tests marked long are left out; pytest --long takes them, too.")
    skipped = terminalreporter.stats.get("skipped", [])
    if not any(report.nodeid.startswith(("tests/host", "tests/server")) for report in skipped):
        return
    host = host_of(config)
    if host.missing:
        terminalreporter.section("HOST AND SERVER TIERS SKIPPED", sep="!", red=True)
        terminalreporter.line(host.missing)


@pytest.fixture(scope="session")
def host(pytestconfig: pytest.Config) -> Host:
    """The ComfyUI under test; skips when there is none."""
    found = host_of(pytestconfig)
    if found.missing:
        pytest.skip(found.missing)
    return found


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if INSIDE in os.environ or file_path.parent != ROOT / "tests" / "host" or not file_path.match("test_*.py"):
        return None
    return HostFile.from_parent(parent, path=file_path)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if INSIDE not in os.environ and module_path.parent == ROOT / "tests" / "host":
        return EmptyModule.from_parent(parent, path=module_path)  # collected by HostFile instead
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:  # noqa: ANN401 - xdist's own types
    """Files to whichever process is free, the host tier's together."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileAndHost(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/host" if nodeid.startswith("tests/host/") else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # the order of pytest_collection_modifyitems
    return ByFileAndHost(config, log)


class EmptyModule(pytest.File):
    """Stands in for a host-tier module, whose imports do not exist in this Python."""

    def collect(self) -> Iterator[pytest.Item]:
        return iter(())


class HostFile(pytest.File):
    """A file of the host tier, known here by the names of its test functions."""

    def collect(self) -> Iterator[pytest.Item]:
        for node in ast.parse(self.path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield HostTest.from_parent(self, name=node.name)


class HostTest(pytest.Item):
    """One test function, all its parameters together: passes when each of them passed in the host's Python."""

    def runtest(self) -> None:
        host = host_of(self.config)
        if host.missing:
            pytest.skip(host.missing)
        results = run_host_tier(self.session, host)
        cases = results.get((self.path.stem, self.name))
        if not cases:
            raise HostTestFailedError(results.get("log", "the host's pytest did not report this test"))
        failures = [text for verdict, text in cases if verdict in ("failure", "error")]
        if failures:
            raise HostTestFailedError("\n\n".join(failures))
        if all(verdict == "skipped" for verdict, _ in cases):
            pytest.skip(cases[0][1])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: str | None = None) -> str:
        if isinstance(excinfo.value, HostTestFailedError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.name} (host)"


class HostTestFailedError(Exception):
    """Carries the report of the host's pytest."""


RESULTS = pytest.StashKey[dict]()


def run_host_tier(session: pytest.Session, host: Host) -> dict:
    """{(file stem, function): [(verdict, text), …]} of the selected host tests, run once; `log` is the output."""
    if RESULTS not in session.config.stash:
        wanted = [f"{item.path}::{item.name}" for item in session.items if isinstance(item, HostTest)]
        if "PYTEST_XDIST_WORKER" in os.environ:
            from filelock import FileLock

            folder = Path(session.config.option.basetemp).parent  # that of all processes
            with FileLock(folder / "host.lock"):
                results = _host_results(folder, wanted, host)
        else:
            with tempfile.TemporaryDirectory() as folder:
                results = _host_results(Path(folder), wanted, host)
        session.config.stash[RESULTS] = results
    return session.config.stash[RESULTS]


def _host_results(folder: Path, wanted: list[str], host: Host) -> dict:
    """What the host's pytest says of the ``wanted`` tests, or has said in another process: it is in ``folder``."""
    report, log = folder / "host.xml", folder / "host.log"
    if not log.exists():
        command = [host.python, "-m", "pytest", "-q", "--rootdir", ROOT, f"--junitxml={report}", *wanted]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {INSIDE: "1", "COMFYUI_PATH": str(host.path)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)  # noqa: S603
        log.write_text((done.stdout + done.stderr)[-6000:], encoding="utf-8")
    results: dict = {"log": f"the host's pytest reported nothing:\n{log.read_text(encoding='utf-8')}"}
    return results | (read_report(report) if report.exists() else {})


def read_report(path: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Verdicts of a JUnit file, the parameters of one function together."""
    results: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314
        module, function = case.get("classname", "").rsplit(".")[-1], case.get("name", "").split("[")[0]
        verdicts = [c for c in case if c.tag in ("failure", "error", "skipped")]
        outcome = (
            (verdicts[0].tag, f"{case.get('name')}\n{verdicts[0].text or verdicts[0].get('message')}")
            if verdicts
            else ("passed", "")
        )
        results.setdefault((module, function), []).append(outcome)
    return results
