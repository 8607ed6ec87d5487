"""JSON from a file that somebody else may have written: bounded before it is read, and of plain numbers.

Python's own reader takes numbers of thousands of digits, nests as deep as its stack, and knows NaN. What it gives may
then cost any time to use or even to print; here it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

LONGEST, DEEPEST = 2**20, 32
"""Most characters of a text, and most lists or dictionaries inside each other."""


def parse_json(name: str, text: str, *, infinite: bool = False) -> Any:  # noqa: ANN401 - whatever it holds
    """What ``text`` says.

    Args:
        name: what an error calls it.
        text: JSON.
        infinite: whether infinity is allowed, as the end of an interval that has none; NaN never is.

    Raises:
        ValueError: it is no JSON, too long or too deep, or holds a number that is not plain.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{name}: got {len(text)} characters; allowed are {LONGEST}. Use another copy.")

    def constant(word: str) -> float:
        if infinite and word != "NaN":
            return float(word)
        _refuse(name, word)

    try:
        value = json.loads(text, parse_constant=constant, parse_int=lambda digits: _whole(name, digits))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: is no JSON that can be read ({error}). Use another copy.") from error
    _check_depth(name, value)
    return value


def parse_whole(name: str, text: str, maximum: int) -> int:
    """The whole number from 0 to ``maximum`` that ``text`` says.

    Raises:
        ValueError: it says another, or something else.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > maximum:
        raise ValueError(f"{name}: got {text[:40]!r}; allowed is a whole number from 0 to {maximum}. Use another copy.")
    return int(text)


def entry(metadata: Mapping[str, str], name: str) -> str:
    """The text entry of a file called ``name``.

    Raises:
        ValueError: there is none.
    """
    if name not in metadata:
        raise ValueError(f"{name!r}: there is no such text entry; it is needed. Use another copy.")
    return metadata[name]


def _whole(name: str, digits: str) -> int:
    return int(digits) if len(digits) <= 20 else _refuse(name, digits)


def _refuse(name: str, number: str) -> NoReturn:
    shown = number if len(number) <= 20 else f"{number[:10]}... of {len(number)} digits"
    raise ValueError(
        f"{name}: holds the number {shown}; allowed are plain ones of at most 20 digits. Use another copy."
    )


def _check_depth(name: str, value: object) -> None:
    """Refuse lists and dictionaries inside each other beyond `DEEPEST`, without going down there."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [part for outer in level for part in _parts(outer)]
        if not level:
            return
    raise ValueError(f"{name}: nests deeper than {DEEPEST} lists or dictionaries. Use another copy.")


def _parts(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
