"""The attribute d of a path: straight lines and cubic curves, absolute or relative, open or closed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from ...echo import shown

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_TOKEN = re.compile(rf"\s*,?\s*(?:([A-Za-z])|({NUMBER.pattern}))")
Point = tuple[float, float]
Curve = tuple[Point, Point, Point]
"""Where it begins, and its two control points."""


class Line(NamedTuple):
    """Curves in a row, where the last one ends, and whether the letter Z closes them."""

    curves: list[Curve]
    end: Point
    closed: bool

    @property
    def outline(self) -> list[Curve]:
        """The curves, with a line back to the first point where they do not end there."""
        first = self.curves[0][0]
        return self.curves if math.dist(self.end, first) < 1e-6 else [*self.curves, straight(self.end, first)]


def straight(start: Point, end: Point) -> Curve:
    """A line as a curve: where it begins, and its two control points."""
    (ax, ay), (bx, by) = start, end
    return (ax, ay), (ax + (bx - ax) / 3, ay + (by - ay) / 3), (ax + (bx - ax) * 2 / 3, ay + (by - ay) * 2 / 3)


def _tokens(text: str) -> Iterator[str | float]:
    """Letters and numbers of the attribute d."""
    place, text = 0, text.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"svg: d: got {shown(text[place : place + 20])}; allowed are letters and numbers.")
        yield found.group(1) or float(found.group(2))
        place = found.end()


_TAKES = {"m": 2, "l": 2, "h": 1, "v": 1, "c": 6, "z": 0}


def _commands(text: str) -> Iterator[tuple[str, list[float]]]:
    """Letters of d, each with its own numbers; a letter that is left out is the last one's."""
    letter, numbers, waits = "", list[float](), False
    for part in [*_tokens(text), ""]:
        if isinstance(part, str):
            if numbers or waits:
                raise ValueError(
                    f"svg: d: got {len(numbers)} of the {_TAKES[letter.lower()]} numbers of {letter!r}. Save it as "
                    "plain SVG."
                )
            if not part:
                return
            if part.lower() not in _TAKES:
                raise ValueError(
                    f"svg: d: got {part!r}; allowed are M, L, H, V, C and Z. In an editor: convert arcs and quadratic "
                    "curves to cubic ones."
                )
            letter, waits = part, part.lower() != "z"
            if not waits:
                yield "z", []
            continue
        if not letter or letter in "zZ" or not math.isfinite(part):
            raise ValueError(f"svg: d: got the number {part:g} without a letter. Save it as plain SVG.")
        numbers.append(part)
        if len(numbers) == _TAKES[letter.lower()]:
            yield letter, numbers
            numbers, waits = [], False
            letter = {"m": "l", "M": "L"}.get(letter, letter)


def lines_of(text: str) -> Iterator[Line]:
    """The lines of the attribute d.

    Raises:
        ValueError: it has other letters, or numbers that do not belong to one.
    """
    here: Point = (0.0, 0.0)
    first, curves = here, list[Curve]()
    for letter, numbers in _commands(text):
        base = here if letter.islower() else (0.0, 0.0)
        kind = letter.lower()
        if kind in "mz":
            if curves:
                yield Line(curves, here, kind == "z")
            curves = []
            here = first if kind == "z" else (base[0] + numbers[0], base[1] + numbers[1])
            first = here
            continue
        if kind == "c":
            a, b, end = ((base[0] + numbers[i], base[1] + numbers[i + 1]) for i in (0, 2, 4))
            curves.append((here, a, b))
        else:
            end = {
                "h": lambda n: (base[0] + n[0], here[1]),  # noqa: B023 - called at once
                "v": lambda n: (here[0], base[1] + n[0]),  # noqa: B023
                "l": lambda n: (base[0] + n[0], base[1] + n[1]),  # noqa: B023
            }[kind](numbers)
            curves.append(straight(here, end))
        here = end
    if curves:
        yield Line(curves, here, False)
