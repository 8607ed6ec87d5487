"""Widgets made from settings: a field's default, range, choices and help become an input, and its value comes back.

bool              Boolean
choices, family   Combo
int, float        Int, Float; a number above 0 that may be None: Float, where 0 stands for None
everything else   String: empty for None; numbers with a colon or a comma between, as in 0.25:2, 0.6:1
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..msd_core.settings import Setting, menu
from .schema import FOLDED

LOWEST, HIGHEST = -1e6, 1e6
STEPS = {"cfg": 0.1, "lr": 0.001, "t_min": 0.01, "t_max": 0.01}
"""What an arrow of a Float adds, where it is not .01, or .1 for large defaults."""


def widget(entry: Setting, name: str, *, optional: bool = False) -> io.Input:
    """The input called ``name`` of a setting."""
    common: dict[str, Any] = {"tooltip": sentence(entry.help), "optional": optional}
    if entry.expert:
        common["extra_dict"] = FOLDED
    if entry.family is not None or entry.choices:
        names = list(entry.choices) or menu(entry.family or {})  # pyright: ignore[reportArgumentType]
        default = entry.default if entry.family is None else entry.family.name_of(entry.default)
        return io.Combo.Input(name, options=names, default=default, **common)
    if entry.kind is bool:
        return io.Boolean.Input(name, default=entry.default, **common)
    if entry.kind is str:
        return io.String.Input(name, default=entry.default, **common)
    if is_text(entry):
        return io.String.Input(name, default=shown(entry, entry.default), **common)
    low, high = ends(entry)
    if entry.kind is int:
        return io.Int.Input(name, default=entry.default, min=int(low), max=int(high), **common)
    low, high, default = float(low), float(high), entry.default or 0.0
    step = STEPS.get(entry.name, 0.01 if abs(default) < 10 else 0.1)
    return io.Float.Input(name, default=default, min=low, max=high, step=step, round=False, **common)


def default_of(entry: Setting) -> Any:  # noqa: ANN401
    """What a setting's widget gives as the node is made."""
    if entry.family is not None:
        return entry.family.name_of(entry.default)
    if is_text(entry):
        return shown(entry, entry.default)
    return (entry.default or 0.0) if is_switch(entry) else entry.default


def sentence(text: str) -> str:
    """A tooltip: as the help, with a capital unless it begins with a name, and a full stop."""
    first = text.split(" ")[0].rstrip(":.,")
    begin = text if first in ("adam", "image", "gd") else text[0].upper() + text[1:]
    return begin if begin.endswith(".") else begin + "."


def is_text(entry: Setting) -> bool:
    """Whether a setting's widget is a text."""
    return bool(entry.length) or entry.kind is tuple or (entry.optional and not is_switch(entry))


def is_switch(entry: Setting) -> bool:
    """Whether 0 stands for None: a number above 0 that may be None."""
    return entry.optional and entry.above == 0 and not entry.length


def ends(entry: Setting) -> tuple[float, float]:
    """The range of a number's widget."""
    low = 0.001 if entry.above == 0 else LOWEST if entry.low is None else entry.low
    high = HIGHEST if entry.high is None else entry.high
    if entry.usual is not None:
        low, high = entry.usual
    return (0.0, high) if is_switch(entry) else (low, high)


def shown(entry: Setting, value: Any) -> str:  # noqa: ANN401
    """A value as its text widget shows it."""
    if value is None or value == ():
        return ""
    if entry.kind is tuple:
        return ", ".join(":".join(f"{number:g}" for number in pair) for pair in value)
    return ":".join(f"{number:g}" for number in value) if entry.length else f"{value:g}"


def value_of(entry: Setting, name: str, raw: Any) -> Any:  # noqa: ANN401
    """The setting's value of what the widget called ``name`` gives.

    Raises:
        ValueError: for a text that is none of what is allowed.
    """
    if is_switch(entry) and raw == 0:
        return None
    if not isinstance(raw, str) or not is_text(entry):
        return raw
    if not raw.strip():
        return () if entry.kind is tuple else None
    try:
        return _numbers(entry, raw)
    except ValueError:
        example = "0.25:2, 0.6:1" if entry.kind is tuple else "0.3:6" if entry.length else "1.5"
        empty = "; empty for none" if entry.optional or entry.kind is tuple else ""
        raise ValueError(f"{name}: got {raw!r}; allowed is {entry.allowed}, for example {example}{empty}") from None


def _numbers(entry: Setting, raw: str) -> Any:  # noqa: ANN401
    """The numbers of a text, shaped as the setting holds them."""
    if entry.kind is tuple:
        pairs = [tuple(float(number) for number in pair.split(":")) for pair in raw.split(",")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError
        return tuple(pairs)
    parts = tuple(float(number) for number in raw.replace(",", ":").split(":"))
    if entry.length:
        return parts
    if len(parts) != 1:
        raise ValueError
    return parts[0]
