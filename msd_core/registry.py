"""What kinds of a thing there are, by name: methods, estimators, bandwidths, generators, inversions, models.

A registry maps a name to a class. Its built-in entries are written as "module:Class" relative to their package and
imported when first asked for; others are added with `Registry.register`. Another package adds its own through an entry
point of the group `GROUP`, a function that is called once with this package as its argument:

    [project.entry-points."msd_core.plugins"]
    mine = "mine.methods:register"        # def register(msd_core): msd_core.register_method("mine", Mine)
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .echo import shown
from .validation import check_choice

GROUP = "msd_core.plugins"
LONGEST_NAME = 80
_PACKAGE = __name__.rpartition(".")[0]
_loaded: list[str] = []


class Registry(Mapping[str, Any]):
    """Name to class, in the order of registration.

    Args:
        what: the word for one of them, used in errors.
        package: ``__name__`` of the package that the built-in entries are relative to.
        builtin: name to "module:Class".
        methods: of which an instance of an entry has at least one.
    """

    def __init__(
        self, what: str, package: str, builtin: Mapping[str, str], methods: Sequence[str] = ("__call__",)
    ) -> None:
        self.what, self._package, self._methods = what, package, tuple(methods)
        self._entries: dict[str, Any] = dict(builtin)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - classes of any kind
        load_plugins()
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(f".{module}", self._package), attribute)
        return entry

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(self._entries)

    def __len__(self) -> int:
        load_plugins()
        return len(self._entries)

    def register(self, name: str, entry: Any) -> None:  # noqa: ANN401 - classes of any kind
        """Add ``entry`` under ``name``.

        Raises:
            ValueError: the name is no text, or is taken.
        """
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
            raise ValueError(
                f"name: got {shown(name)}; allowed is a text of 1 to {LONGEST_NAME} letters. Give the {self.what} "
                "a name."
            )
        if not callable(entry):
            raise ValueError(f"entry: got {shown(entry)}; allowed is a class, or what makes one. Pass the class.")
        if name in self._entries and self._entries[name] is not entry:
            raise ValueError(
                f"name: {shown(name)} is the name of another {self.what}; allowed is one that is free. Rename it."
            )
        self._entries[name] = entry

    def find(self, argument: str, name: object) -> Any:  # noqa: ANN401 - classes of any kind
        """The entry called ``name``, where ``argument`` is what an error calls it.

        Raises:
            ValueError: there is none.
        """
        check_choice(argument, name, self)
        return self[str(name)]

    def made(self, argument: str, value: Any) -> Any:  # noqa: ANN401 - of any kind
        """``value`` itself, something made of one of the entries or like it; of a name, the entry with its defaults.

        Raises:
            ValueError: an unknown name, or something that has none of the methods of an entry's instance.
        """
        if isinstance(value, str):
            return self.find(argument, value)()
        if not isinstance(value, type) and any(hasattr(value, method) for method in self._methods):
            return value
        raise ValueError(
            f"{argument}: got {shown(value)}; allowed are the names {', '.join(map(repr, self))}, or a {self.what} "
            "with its settings. Pass one of these."
        )

    def name_of(self, entry: object) -> str:
        """The name of a class, or of an instance's class.

        Raises:
            ValueError: it is not registered.
        """
        wanted = entry if isinstance(entry, type) else type(entry)
        for name in self:
            if self[name] is wanted:
                return name
        raise ValueError(
            f"{self.what}: {wanted.__name__} has no name here; allowed are {', '.join(self)}. Register it first: "
            f"register_{self.what}('name', {wanted.__name__})."
        )


def load_plugins() -> None:
    """Call the entry points of the group `GROUP`, once; one that fails is named in a warning and left out."""
    if _loaded:
        return
    _loaded.append(GROUP)
    for plugin in importlib.metadata.entry_points(group=GROUP):
        try:
            plugin.load()(sys.modules[_PACKAGE])
        except Exception as error:  # another package's code: whatever it raises, the rest still works
            warnings.warn(f"the plugin {plugin.name!r} ({plugin.value}) was left out: {error}", stacklevel=2)
