"""msd_core stands alone: no host, no absolute import of itself, no hidden source of randomness, no need of research."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import msd_core

pytestmark = pytest.mark.core
PACKAGE = Path(msd_core.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "nodes", "folder_paths", "server", "execution"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli"}
RESEARCH = "msd_core.research"
ON_DEMAND = {"msd_core/cli/reproduce.py", "msd_core/demo/train_denoiser.py", "msd_core/demo/train_settings.py"}
"""Those that import research inside a function: for `msd reproduce` and for a training with DREAM."""
GLOBAL = {"manual_seed", "seed", "rand_like", "randn_like", "randint_like"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all absolute imports, wherever they stand in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def imported_modules(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of all that a file in ``package`` imports, wherever it stands in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def uses_research(tree: ast.AST, package: str) -> bool:
    """Whether a file in ``package`` imports the research wing, or anything in it."""
    return any(f"{name}.".startswith(f"{RESEARCH}.") for name in imported_modules(tree, package))


def outside_research() -> Iterator[Path]:
    """Files of the core, but those of the research wing, and of the nodes, relative to the repository."""
    files = [*FILES, *(PACKAGE.parent / "nodes").rglob("*.py")]
    return (file.relative_to(PACKAGE.parent) for file in files if PACKAGE / "research" not in file.parents)


def outside_forks(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below ``node`` but those inside ``with torch.random.fork_rng(...)``, which restores the state."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.With) and "fork_rng" in ast.unparse(child.items[0].context_expr)):
            yield child
            yield from outside_forks(child)


def hidden_draws(tree: ast.AST) -> Iterator[str]:
    """Calls ``torch.<draw>(...)`` without a generator, and calls that have none to take."""
    for node in outside_forks(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"):
            continue
        name = node.func.attr
        if name in GLOBAL or (name in DRAWS and not any(keyword.arg == "generator" for keyword in node.keywords)):
            yield f"torch.{name} in line {node.lineno}"


def trees() -> Iterator[tuple[Path, ast.AST]]:
    for path in FILES:
        yield path.relative_to(PACKAGE), ast.parse(path.read_text(encoding="utf-8"))


def test_it_never_imports_the_host() -> None:
    assert len(FILES) > 15
    found = {str(path): names for path, tree in trees() if (names := HOST & set(imported(tree)))}
    assert not found


def test_it_imports_itself_relatively() -> None:
    found = [str(path) for path, tree in trees() if "msd_core" in set(imported(tree))]
    assert not found, "the pack's folder name is unknown inside the host: use relative imports"


def test_randomness_comes_from_a_generator() -> None:
    found = {str(path): calls for path, tree in trees() if (calls := list(hidden_draws(tree)))}
    assert not found


def test_the_core_and_the_nodes_never_import_research() -> None:
    files = list(outside_research())
    assert len(files) > 50 and Path("nodes/host.py") in files
    parsed = {path: ast.parse((PACKAGE.parent / path).read_text(encoding="utf-8")) for path in files}
    found = {path.as_posix() for path, tree in parsed.items() if uses_research(tree, ".".join(path.parts[:-1]))}
    assert found == ON_DEMAND


def test_all_of_the_core_is_imported_without_research() -> None:
    """Where research cannot be imported at all, as in an archive without it."""
    core = [path for path in outside_research() if path.parts[0] == "msd_core"]
    modules = sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in core)
    assert len(modules) > 50
    code = (
        "import importlib, sys\n"
        f"sys.modules[{RESEARCH!r}] = None\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "from msd_core.cli.main import make_parser; make_parser()\n"
        "from msd_core.demo.train import TrainSettings; TrainSettings()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("package", "planted"),
    [
        ("msd_core", "from . import research"),
        ("msd_core", "from .research.metrics import nll"),
        ("msd_core", "def f():\n    from .research import dream"),
        ("msd_core.demo", "from ..research.dream import check_dream"),
        ("msd_core.mean_shift", "from .. import research as r"),
        ("nodes", "from ..msd_core.research import metrics"),
        ("nodes", "import msd_core.research.toy"),
    ],
)
def test_a_planted_import_of_research_is_found(package: str, planted: str) -> None:
    assert uses_research(ast.parse(planted), package)


@pytest.mark.parametrize("innocent", ["from .researcher import x", "from .metrics import research", "import research"])
def test_what_is_not_the_research_wing_is_not_taken_for_it(innocent: str) -> None:
    assert not uses_research(ast.parse(innocent), "msd_core")


@pytest.mark.parametrize(
    "planted", ["import comfy.samplers", "def f():\n    from comfy import utils", "import nodes as n"]
)
def test_a_planted_import_is_found(planted: str) -> None:
    assert HOST & set(imported(ast.parse(planted)))


def test_a_planted_draw_is_found() -> None:
    assert list(hidden_draws(ast.parse("torch.randn(3)\ntorch.manual_seed(0)"))) == [
        "torch.randn in line 1",
        "torch.manual_seed in line 2",
    ]
    assert not list(hidden_draws(ast.parse("torch.randn(3, generator=g)")))
    assert not list(hidden_draws(ast.parse("with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)")))
