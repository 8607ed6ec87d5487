"""Settings: fields of frozen dataclasses that say, once, what they mean and what they may be.

    @dataclass(frozen=True)
    class SDS:
        weighting: str = setting("sigma", "weight of the gradient", choices=WEIGHTINGS)
        samples: int = setting(1, "draws averaged for one gradient", low=1, high=256)

From these follow the command line's flags and their help, the nodes' widgets and their tooltips, the tables of the docs
and the checks. A setting may itself be one of several kinds (an estimator, a bandwidth curve) with settings of its own;
`flatten` and `build` turn such a tree into plain names and back, and `to_json`, `from_json` write and read it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .echo import shown
from .registry import Registry
from .validation import check_choice, check_count, is_number

T = TypeVar("T")
_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: of the field.
        flag: its plain name, unique among all settings of a run that can stand together.
        help: one line: what it does, and where it helps what happens when it is raised.
        default: used when it is left out.
        kind: bool, int, float or str; of each part, if ``length`` is not 0.
        optional: whether None is allowed.
        low, high: the range, both ends included; ``above``: the lower end, left out.
        infinite: whether infinity is a value too, as the end of an interval that has none.
        usual: the range that a widget offers, where that is narrower than what is allowed.
        choices: allowed texts.
        length: how many values; 0 is a plain value, -1 any number.
        family: the registry whose entries it holds one of.
        expert: whether it is for experts: folded away where that is possible.
        hidden: for Python alone; neither a flag nor a widget.
    """

    name: str
    flag: str
    help: str
    default: Any
    kind: type = float
    optional: bool = False
    low: float | None = None
    high: float | None = None
    above: float | None = None
    infinite: bool = False
    usual: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    length: int = 0
    family: Registry | None = None
    expert: bool = False
    hidden: bool = False

    @property
    def allowed(self) -> str:
        """The range in words."""
        ends = {"from": self.low, "above": self.above, "up to": self.high}
        parts = [
            f"{word} {end if isinstance(end, int) else f'{end:g}'}" for word, end in ends.items() if end is not None
        ]
        one = {int: "a whole number", tuple: "a pair of numbers", str: "a text"}.get(
            self.kind, "a number" if self.infinite else "a finite number"
        )
        many = {0: one, -1: f"any number of values, each {one}"}
        words = " ".join([many.get(self.length, f"{self.length} values, each {one}"), *parts])
        return f"{words}, or None" if self.optional else words


def setting(default: Any, help: str, *, flag: str | None = None, kind: type | None = None, **details: Any) -> Any:  # noqa: A002, ANN401
    """A dataclass field that is a `Setting`; ``kind`` is the type of ``default`` unless that is None or a tuple."""
    if kind is None:
        kind = type(default)
    return dataclasses.field(default=default, metadata={_KEY: {"help": help, "flag": flag, "kind": kind, **details}})


def settings_of(owner: type | object) -> dict[str, Setting]:
    """The settings of a dataclass or an instance of it, by field name, in order."""
    if not dataclasses.is_dataclass(owner):
        raise ValueError(f"owner: got {shown(owner)}; allowed is a dataclass of settings, or one of it. Pass one.")
    found = {}
    for entry in dataclasses.fields(owner):  # pyright: ignore[reportArgumentType]
        details = dict(entry.metadata.get(_KEY, {}))
        if details:
            flag = details.pop("flag") or entry.name
            found[entry.name] = Setting(entry.name, flag, default=entry.default, **details)
    return found


def check_settings(instance: object) -> None:
    """Refuse values outside of what their settings allow; to be called from ``__post_init__``.

    Raises:
        ValueError: naming the setting, the value, what is allowed and the fix.
    """
    for name, entry in settings_of(instance).items():
        value = getattr(instance, name)
        if entry.family is not None or (value is None and entry.optional):
            continue
        if entry.length:
            _check_length(entry, value)
        for part in (value or ()) if entry.length else (value,):
            _check_value(entry, part)


def check_owner(owner: type) -> None:
    """Refuse a class that the command line and the nodes could make nothing of.

    Raises:
        ValueError: its defaults are not allowed by its own settings, or a setting is of no kind that can be written.
    """
    if not isinstance(owner, type):
        raise ValueError(f"owner: got {shown(owner)}; allowed is a frozen dataclass of settings. Pass the class.")
    if not dataclasses.is_dataclass(owner):
        raise ValueError(f"{owner.__name__}: is no dataclass; allowed is a frozen one of its settings. Make it one.")
    try:
        owner()
    except TypeError as error:
        reason = f"cannot be made without arguments ({error})"
        raise ValueError(f"{owner.__name__}: {reason}. Give all fields defaults.") from error
    for name, entry in settings_of(owner).items():
        if entry.family is None and entry.kind not in (bool, int, float, str, tuple):
            raise ValueError(
                f"{owner.__name__}.{name}: is of kind {entry.kind.__name__}; allowed are bool, int, float, str and "
                "tuple. Say which: setting(None, ..., kind=float)."
            )


def _check_length(entry: Setting, value: Any) -> None:  # noqa: ANN401
    if not isinstance(value, tuple) or (entry.length > 0 and len(value) != entry.length):
        raise ValueError(f"{entry.name}: got {shown(value)}; allowed is a tuple of {entry.allowed}. Pass one.")


def _check_value(entry: Setting, value: Any) -> None:  # noqa: ANN401
    if entry.kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{entry.name}: got {shown(value)}; allowed is True or False. Pass a bool.")
    elif entry.choices:
        check_choice(entry.name, value, entry.choices)
    elif entry.kind is str:
        if not isinstance(value, str):
            raise ValueError(f"{entry.name}: got {shown(value)}; allowed is a text. Pass one.")
    elif entry.kind is int:
        if isinstance(value, bool) or not isinstance(value, int) or not _inside(entry, value):
            if entry.high is None and entry.low is not None:
                check_count(entry.name, value, int(entry.low))
            raise ValueError(
                f"{entry.name}: got {shown(value)}; allowed is {entry.allowed}. Pass an int in that range."
            )
    elif entry.kind is float:
        number = isinstance(value, (int, float)) and is_number(value)
        if not number or not (entry.infinite or math.isfinite(value)) or not _inside(entry, value):
            raise ValueError(
                f"{entry.name}: got {shown(value)}; allowed is {entry.allowed}. Check its unit and its sign."
            )


def _inside(entry: Setting, value: float) -> bool:
    return (
        (entry.low is None or value >= entry.low)
        and (entry.high is None or value <= entry.high)
        and (entry.above is None or value > entry.above)
    )


# --- trees of settings and plain names --------------------------------------------------------------------------------


def leaves(owner: type | object, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """(plain name, setting) of ``owner`` and, below each setting with a family, of every entry of that family.

    A name that several entries share appears once for each of them.
    """
    for entry in settings_of(owner).values():
        yield prefix + entry.flag, entry
        if entry.family is not None:
            for kind in entry.family.values():
                yield from leaves(kind, prefix_below(entry.flag))


def menu(family: Registry) -> list[str]:
    """The names of a family that a menu offers: all but those of classes with ``hidden``, for Python alone."""
    return [name for name, kind in family.items() if not getattr(kind, "hidden", False)]


def prefix_below(flag: str) -> str:
    """What the plain names below a family begin with: "bandwidth_" below "bandwidth_schedule", nothing below others."""
    stem, _, last = flag.rpartition("_")
    return f"{stem}_" if last == "schedule" else ""


def flatten(instance: object, prefix: str = "") -> dict[str, Any]:
    """The values of ``instance`` and of what it holds, by plain name; a family's own value is the entry's name."""
    flat: dict[str, Any] = {}
    for name, entry in settings_of(instance).items():
        if entry.hidden:
            continue
        value = getattr(instance, name)
        flat[prefix + entry.flag] = entry.family.name_of(value) if entry.family is not None else value
        if entry.family is not None:
            flat |= flatten(value, prefix_below(entry.flag))
    return flat


def build(base: T, options: Mapping[str, Any]) -> T:
    """``base`` with the ``options`` changed, by plain name.

    Choosing another kind where ``base`` holds one keeps the values that were changed and that both kinds have.

    Raises:
        ValueError: an option that ``base`` has not, with its kinds as chosen; a value that is not allowed.
    """
    rest = dict(options)
    made = _build(base, rest, "")
    for name, value in rest.items():
        raise ValueError(_not_here(made, name, value))
    return made


def _not_here(base: object, name: str, value: object) -> str:
    """Why ``name`` is no option of ``base``: which kinds know it, the innermost choice first; or what else there is."""
    chosen = flatten(base)
    families = [(flag, family) for flag, family in _families(type(base)) if flag in chosen]
    for names, order in ((_own_names, reversed(families)), (_all_names, iter(families))):
        for flag, family in order:
            users = [kind for kind, cls in family.items() if name in names(cls, flag)]
            if users:
                return (
                    f"{name}: got {shown(value)} with the {flag} {chosen[flag]!r}; allowed with {', '.join(users)}. "
                    f"Leave it out, or change the {flag}."
                )
    return f"{name}: got {shown(value)}; allowed are {', '.join(chosen)}. Leave it out, or correct the name."


def _families(owner: type) -> Iterator[tuple[str, Registry]]:
    """(plain name, registry) of every setting at and below ``owner`` that holds one of several kinds."""
    for entry in settings_of(owner).values():
        if entry.family is not None:
            yield entry.flag, entry.family
            for kind in entry.family.values():
                yield from _families(kind)


def _own_names(kind: type, flag: str) -> list[str]:
    """Plain names of the settings of ``kind`` itself, below the family called ``flag``."""
    return [prefix_below(flag) + entry.flag for entry in settings_of(kind).values()]


def _all_names(kind: type, flag: str) -> list[str]:
    """Plain names of the settings of ``kind`` and of all that it may hold, below the family called ``flag``."""
    return [name for name, _ in leaves(kind, prefix_below(flag))]


def _build(base: T, rest: dict[str, Any], prefix: str) -> T:
    changes: dict[str, Any] = {}
    for name, entry in settings_of(base).items():
        flag, value = prefix + entry.flag, getattr(base, name)
        if entry.family is None:
            if flag in rest:
                changes[name] = rest.pop(flag)
            continue
        if flag in rest and isinstance(rest[flag], str):
            value = _changed_kind(value, entry.family.find(flag, rest.pop(flag)))
        elif flag in rest:
            value = rest.pop(flag)
        changes[name] = _build(value, rest, prefix_below(entry.flag))
    try:
        return dataclasses.replace(base, **changes) if changes else base  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise ValueError(_by_flag(base, prefix, str(error))) from error


def _by_flag(base: object, prefix: str, message: str) -> str:
    """An error's text with the field that it begins with called by its plain name."""
    name, colon, text = message.partition(":")
    entry = settings_of(base).get(name)
    return message if entry is None else f"{prefix}{entry.flag}{colon}{text}"


def _changed_kind(value: object, kind: type) -> Any:  # noqa: ANN401
    """An instance of ``kind`` with what is changed in ``value`` and both have; the rest are its own defaults."""
    if type(value) is kind:
        return value
    own = settings_of(value)
    changed = [name for name in own.keys() & settings_of(kind).keys() if getattr(value, name) != own[name].default]
    return kind(**{name: getattr(value, name) for name in changed})


def to_json(instance: object) -> dict[str, Any]:
    """``instance`` as nested dictionaries of plain values; what a family gave carries its name as "kind"."""
    saved: dict[str, Any] = {}
    for name, entry in settings_of(instance).items():
        value = getattr(instance, name)
        saved[name] = value if entry.family is None else {"kind": entry.family.name_of(value), **to_json(value)}
    return saved


def from_json(owner: type[T], saved: Mapping[str, Any]) -> T:
    """The instance of ``owner`` that `to_json` wrote.

    Raises:
        ValueError: an unknown entry or kind, or a value that is not allowed.
    """
    known, values = settings_of(owner), {}
    for name, value in saved.items():
        if name not in known:
            raise ValueError(
                f"{name}: got {shown(value)}; allowed are {', '.join(known)}. It was saved by another release."
            )
        family = known[name].family
        if family is not None:
            if not isinstance(value, Mapping) or "kind" not in value:
                raise ValueError(
                    f"{name}: got {shown(value)}; allowed is a mapping with the entry 'kind'. Use another copy."
                )
            inner = {entry: part for entry, part in value.items() if entry != "kind"}
            value = from_json(family.find(name, value["kind"]), inner)
        values[name] = _tuples(value)
    return owner(**values)


def _tuples(value: Any) -> Any:  # noqa: ANN401
    """Lists as tuples, since JSON does not tell them apart."""
    return tuple(_tuples(part) for part in value) if isinstance(value, (list, tuple)) else value


def settings_table(owner: type | object, prefix: str = "") -> str:
    """The settings of ``owner`` itself as a Markdown table: plain name, default, what is allowed, meaning.

    ``prefix`` stands before the plain names, as below a family (`leaves`).
    """
    rows = ["| setting | default | allowed | |", "|---|---|---|---|"]
    for entry in settings_of(owner).values():
        if entry.hidden:
            continue
        choices = entry.choices or (menu(entry.family) if entry.family else ())
        allowed = ", ".join(choices) or ("yes, no" if entry.kind is bool else entry.allowed)
        default = entry.family.name_of(entry.default) if entry.family is not None else entry.default
        shown = "none" if default is None or default in ((), "") else default
        rows.append(f"| `{prefix}{entry.flag}` | {shown} | {allowed} | {entry.help} |".replace("|m|", r"\|m\|"))
    return "\n".join(rows if len(rows) > 2 else ["It has no settings."])
