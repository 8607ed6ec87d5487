"""Public names of a package, imported from their files when they are first asked for."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


class LazyPackage(ModuleType):
    """A package whose public names live in its files; `lazy_package` makes one."""

    _homes: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any public name
        home = vars(self).get("_homes", {}).get(name)
        if home is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{home}", self.__name__), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        """A public name keeps its meaning where a file is called the same (`mean_shift`, `optimize`)."""
        if not (isinstance(value, ModuleType) and name in self._homes):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._homes})


def lazy_package(name: str) -> list[str]:
    """Make the package called ``name`` lazy; returns its public names.

    They are those that its stub imports (``from .file import name as name``) or declares: type checkers and this
    function read the same list.
    """
    package = sys.modules[name]
    stub = ast.parse(Path(str(package.__file__)).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom) and node.level == 1]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}
    vars(package)["_homes"] = homes
    package.__class__ = LazyPackage
    return sorted([*homes, *(node.name for node in stub.body if isinstance(node, ast.FunctionDef))])
