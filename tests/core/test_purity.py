"""msd_core stands alone: no host, no absolute import of itself, no hidden source of randomness."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import msd_core

pytestmark = pytest.mark.core
PACKAGE = Path(msd_core.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "nodes", "folder_paths", "server", "execution"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli"}
GLOBAL = {"manual_seed", "seed", "rand_like", "randn_like", "randint_like"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all absolute imports, wherever they stand in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


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
