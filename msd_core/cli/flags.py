"""Flags of `msd distill` made from the settings' own fields: a flag a plain name, its help from the field."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..generators.registry import GENERATORS, options_of
from ..preset import Preset, named_presets
from ..registry import Registry
from ..settings import Setting, flatten, menu, prefix_below, settings_of
from .arguments import number, pair, whole
from .parser import Parser

NONE = "none"
"""What is written for None, where that is no choice of its own."""
_NONE = object()


@dataclass(frozen=True)
class Flag:
    """A plain name, and the settings that it stands for, by the kinds that have them ("" for those of every run).

    ``tabled`` are the kinds whose default stands in the table by method.
    """

    name: str
    group: str
    uses: tuple[tuple[str, Setting], ...]
    tabled: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The help: which kinds use it, what it does, and its default; what two kinds say alike is said once."""
        told: dict[str, list[str]] = {}
        for kind, entry in self.uses:
            told.setdefault(entry.help, []).append(kind)
        lines = [f"{', '.join(kinds)}: {text}" if any(kinds) else text for text, kinds in told.items()]
        names = [
            name for _, entry in self.uses for name in entry.choices or (menu(entry.family) if entry.family else ())
        ]
        choices = f" ({', '.join(dict.fromkeys(names))})" if names else ""
        return ("; ".join(lines) + choices + self._default).replace("%", "%%")

    @property
    def _default(self) -> str:
        """The defaults that the table lacks in words, one for all kinds or each its own; "" where it has all."""
        found: dict[str, list[str]] = {}
        for kind, entry in self.uses:
            if kind not in self.tabled:
                found.setdefault(_default_of(entry), []).append(kind)
        alike = len(found) == 1 and not self.tabled
        told = ", ".join(value if alike else f"{', '.join(kinds)} {value}" for value, kinds in found.items())
        return f" (default: {told})" if found else ""


def _default_of(entry: Setting) -> str:
    """A default as it is written on the command line."""
    value = entry.default
    if entry.family is not None:
        return entry.family.name_of(value)
    if value is None or value == ():
        return NONE
    if value == "":
        return "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def flags(owner: type = Preset) -> dict[str, Flag]:
    """Every flag, by plain name: of a run, and of every method, estimator and curve that is registered; or of another
    ``owner`` of settings, and of all that it may hold.
    """
    found: dict[str, Flag] = {}
    table = {name: flatten(preset) for name, preset in named_presets().items()} if owner is Preset else {}
    for group, kind, name, entry in _walk(owner, "every method" if owner is Preset else "solvers", "", ""):
        if entry.hidden:
            continue
        known = found.get(name, Flag(name, group, ()))
        tabled = known.tabled | ({kind} if _in_table(table, kind, name, entry) else set())
        found[name] = replace(known, uses=(*known.uses, (kind, entry)), tabled=tabled)
    return found


def _in_table(table: Mapping[str, Mapping[str, Any]], kind: str, name: str, entry: Setting) -> bool:
    """Whether the ``table`` by method tells the default: of a run or a method, or the same of another kind."""
    if kind in table or not kind:
        return name in table.get(kind or next(iter(table), ""), {})
    return any(name in values and values[name] == entry.default for values in table.values())


def generator_flags() -> dict[str, Flag]:
    """Every flag of the generators that are registered, by plain name."""
    found: dict[str, Flag] = {}
    for kind in GENERATORS:
        for name, entry in options_of(kind).items():
            known = found.get(name, Flag(name, "generators", ()))
            found[name] = replace(known, uses=(*known.uses, (kind, entry)))
    return found


def _walk(owner: type, group: str, kind: str, prefix: str) -> Iterator[tuple[str, str, str, Setting]]:
    """(group, kind, plain name, setting) of ``owner`` and of all that it may hold."""
    for entry in settings_of(owner).values():
        yield group, kind, prefix + entry.flag, entry
        if entry.family is None:
            continue
        for name in menu(entry.family):
            yield from _walk(entry.family[name], _title(entry.family, name), name, prefix_below(entry.flag))


def _title(family: Registry, name: str) -> str:
    return f"--{family.what} {name}" if family.what in ("method", "solver") else f"msd: {family.what}"


def add_flags(parser: Parser) -> None:
    """Add all of them, in groups, and the table of their defaults to the help."""
    _add(parser, (*generator_flags().values(), *flags().values()))
    parser.details = table_of_defaults


def add_generator_flags(parser: argparse.ArgumentParser) -> None:
    """Add those of the generators."""
    _add(parser, generator_flags().values())


def add_flags_of(parser: argparse.ArgumentParser, owner: type) -> None:
    """Add those of ``owner``."""
    _add(parser, flags(owner).values())


def _add(parser: argparse.ArgumentParser, listed: Iterable[Flag]) -> None:
    groups: dict[str, Any] = {}
    for flag in listed:
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        groups[flag.group].add_argument(flag_of(flag.name), **_details(flag))


def _details(flag: Flag) -> dict[str, Any]:
    """argparse's description of a flag."""
    entry = flag.uses[0][1]
    details: dict[str, Any] = {"help": flag.text}
    if entry.kind is bool:
        return details | {"action": argparse.BooleanOptionalAction}
    if entry.kind is tuple:
        return details | {"type": pair, "nargs": "+", "metavar": "FRACTION:LAMBDA"}
    if entry.length:
        many = {"nargs": entry.length if entry.length > 0 else "+"}
        ends = {"metavar": ("LOW", "HIGH")} if entry.length == 2 else {}
        return details | many | ends | {"type": _reader(flag)}
    return details | {"type": _reader(flag)}


def _reader(flag: Flag) -> Callable[[str], Any]:
    """What reads a flag's text: the first that can, where settings of several kinds share its name."""
    kinds = dict.fromkeys(str if entry.family is not None else entry.kind for _, entry in flag.uses)
    readers = [{int: whole, float: number}.get(kind, str) for kind in kinds]
    optional = any(entry.optional for _, entry in flag.uses)

    def read(text: str) -> Any:  # noqa: ANN401
        if optional and text == NONE:
            return _NONE
        for reader in readers[:-1]:
            with contextlib.suppress(argparse.ArgumentTypeError):
                return reader(text)
        return readers[-1](text)

    return read


def given(arguments: argparse.Namespace, among: Iterable[str] | None = None) -> dict[str, Any]:
    """The settings that stand on the command line, by plain name: those of a run, or the ones ``among``."""
    values = {name: getattr(arguments, name) for name in (flags() if among is None else among)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return None if value is _NONE else value


def flag_of(name: str) -> str:
    """`solver_steps` → `--solver-steps`."""
    return f"--{name.replace('_', '-')}"


def table_of_defaults() -> str:
    """What each method uses for the options that are left out."""
    flat = [flatten(preset) for preset in named_presets().values()]
    rows = [("defaults", *named_presets())]
    for name in dict.fromkeys(name for values in flat for name in values if name != "method"):
        rows.append((f"  {flag_of(name)}", *(_shown(values, name) for values in flat)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _shown(values: dict[str, Any], name: str) -> str:
    return "" if name not in values else NONE if values[name] is None else str(values[name])
