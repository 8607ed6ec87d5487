"""Public names of a package, imported from their files when they are first asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
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


def lazy_package(name: str, files: Mapping[str, str]) -> list[str]:
    """Make the package called ``name`` lazy; returns its public names.

    Args:
        name: ``__name__`` of the package.
        files: file, relative to the package and without ending, to the names that live there, separated by spaces.
    """
    package = sys.modules[name]
    homes = {public: file for file, names in files.items() for public in names.split()}
    vars(package)["_homes"] = homes
    package.__class__ = LazyPackage
    return sorted(homes)
