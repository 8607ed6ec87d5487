"""Vector pictures as SVG documents, and back.

    <svg xmlns=... viewBox="0 0 W H" width="W" height="H">
    <rect width="W" height="H" fill="#rrggbb"/>                                         the ground
    <path d="M x y C x y x y x y ... Z" fill="#rrggbb" fill-opacity="a"/>               a shape, in painting order

Lengths are pixels of the canvas, with `DIGITS` decimals. What is read is this subset and what editors and tracers
make of it: straight lines, relative letters, several outlines with one colour, groups and translations. Everything else
that would be drawn is refused by name; nothing is fetched, and no entity is expanded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.parsers import expat

import torch
from torch import Tensor

from ...echo import shown
from ..paint import colour_of, hex_of
from .outline import areas

if TYPE_CHECKING:
    from .shapes import Vector

DIGITS = 2
LARGEST, DEEPEST, MOST_CURVES = 2**24, 32, 2**18
"""Bytes, nested elements and curves that are read at most."""
SILENT = ("metadata", "title", "desc", "defs", "style")
"""Elements that draw nothing by themselves; a style is refused if it says anything."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_TOKEN = re.compile(rf"\s*,?\s*(?:([A-Za-z])|({_NUMBER.pattern}))")


class Shape(NamedTuple):
    """An outline (S, 3, 2) in pixels, its colour (3,) and opacity in [0, 1]."""

    outline: Tensor
    colour: tuple[float, float, float]
    opacity: float


@dataclass
class Drawing:
    """What a document draws: its size in pixels, the ground's colour, and the shapes in painting order."""

    width: float = 0.0
    height: float = 0.0
    ground: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shapes: list[Shape] = field(default_factory=list)


@torch.no_grad()
def write_svg(vector: Vector) -> str:
    """The document of a vector picture; shapes that make no difference are left out (`Vector.needed`)."""
    width, height = vector.size
    colours, opacities, ground = vector.paints()
    seen = vector.needed(width, height, 10 ** (-vector.made.simplify / 10))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="{hex_of(ground)}"/>',
    ]
    outlines = vector.outlines(width, height)
    for outline, colour, opacity in zip(outlines[seen], colours[seen], opacities[seen], strict=True):
        paint = f'fill="{hex_of(colour)}"' + ("" if opacity > 0.998 else f' fill-opacity="{_plain(float(opacity), 3)}"')
        lines.append(f'<path d="{_path(outline)}" {paint}/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _path(outline: Tensor) -> str:
    """The outline as the attribute d."""
    numbers = [[_plain(value) for value in row] for row in outline.flatten(0, 1).tolist()]
    text = [f"M{_pair(numbers[0])}"]
    for i in range(0, len(numbers), 3):
        control = (*numbers[i + 1 : i + 3], numbers[(i + 3) % len(numbers)])
        text.append(f"C{' '.join(map(_pair, control))}")
    return "".join(text) + "Z"


def _pair(numbers: list[str]) -> str:
    return " ".join(numbers)


def _plain(value: float, digits: int = DIGITS) -> str:
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def read_svg(document: str | bytes) -> Drawing:
    """What an SVG document draws.

    Raises:
        ValueError: it is no SVG, too large or nested too deep, names an entity or a document type, or draws what is not
            of the subset.
    """
    raw = document.encode("utf-8", "surrogatepass") if isinstance(document, str) else document
    if not isinstance(raw, bytes) or len(raw) > LARGEST:
        got = f"{len(raw)} bytes" if isinstance(raw, bytes) else shown(document)
        raise ValueError(f"svg: got {got}; allowed is a document of up to {LARGEST} bytes. Simplify it.")
    reader = _Reader()
    try:
        reader.parse(raw)
    except expat.ExpatError as error:
        raise ValueError(f"svg: is no XML ({error}); allowed is an SVG document. Save it as plain SVG.") from error
    if not reader.drawing.width:
        raise ValueError("svg: holds no <svg> element; allowed is an SVG document. Save it as plain SVG.")
    return reader.drawing


class _Reader:
    """Walks through a document and collects what it draws."""

    def __init__(self) -> None:
        self.drawing = Drawing()
        self.nested: list[tuple[str, dict[str, str], tuple[float, float]]] = []
        self.curves = 0

    def parse(self, raw: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.Parse(raw, True)

    def _refuse_doctype(self, *_: object) -> None:
        raise ValueError(
            "svg: declares a document type, which can hide entities; allowed is none. Save it as plain SVG."
        )

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if len(self.nested) >= DEEPEST:
            raise ValueError(f"svg: is nested more than {DEEPEST} elements deep; allowed is less. Ungroup it.")
        inherited, origin = (dict[str, str](), (0.0, 0.0)) if not self.nested else self.nested[-1][1:]
        own = {**inherited, **_styled(attributes)}
        origin = _moved(origin, attributes.get("transform", ""))
        silent = any(outer in SILENT for outer, _, _ in self.nested)
        if not silent and name == "svg" and not self.nested:
            self.drawing.width, self.drawing.height, origin = _size(attributes)
        elif not silent and not self.nested:
            raise ValueError(f"svg: begins with <{shown(name)}>; allowed is <svg>. Save it as plain SVG.")
        elif not silent and name == "rect":
            self._rectangle(attributes, own, origin)
        elif not silent and name == "path":
            self._path(attributes.get("d", ""), own, origin)
        elif not silent and name not in (*SILENT, "g", "namedview"):
            raise ValueError(
                f"svg: holds <{name[:40]}>; allowed are filled paths and a rectangle for the ground. In an editor: "
                "convert objects and strokes to paths, and save as plain SVG."
            )
        self.nested.append((name, {k: v for k, v in own.items() if k in _INHERITED}, origin))

    def _end(self, _: str) -> None:
        self.nested.pop()

    def _text(self, text: str) -> None:
        if self.nested and self.nested[-1][0] == "style" and text.strip():
            raise ValueError("svg: holds a style sheet; allowed are colours at each path. Save it as plain SVG.")

    def _rectangle(self, attributes: Mapping[str, str], own: Mapping[str, str], origin: tuple[float, float]) -> None:
        whole = {"width": self.drawing.width, "height": self.drawing.height}
        x, y = (origin[i] + _length(attributes.get(name, "0"), 0.0) for i, name in enumerate("xy"))
        width, height = (_length(attributes.get(name, "0"), side) for name, side in whole.items())
        colour, opacity = _paint(own)
        covers = x <= 0 and y <= 0 and x + width >= self.drawing.width and y + height >= self.drawing.height
        if colour is None or opacity == 0:
            return
        if covers and opacity == 1:
            self.drawing.ground, self.drawing.shapes = colour, []
            return
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        self._add([_straight(a, b) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)], colour, opacity)

    def _path(self, text: str, own: Mapping[str, str], origin: tuple[float, float]) -> None:
        colour, opacity = _paint(own)
        found = list(_outlines(text))
        turns = {math.copysign(1, area) for area in map(_area, found) if area}
        if len(turns) > 1:
            raise ValueError(
                "svg: has a path with a hole, one outline turned against another; allowed are shapes without. Paint "
                "the hole as a shape on top, or break the path apart."
            )
        for curves in found:
            if colour is not None and opacity > 0:
                self._add(
                    [tuple((x + origin[0], y + origin[1]) for x, y in curve) for curve in curves], colour, opacity
                )

    def _add(self, curves: list[Any], colour: tuple[float, float, float], opacity: float) -> None:
        self.curves += len(curves)
        if self.curves > MOST_CURVES:
            raise ValueError(f"svg: has more than {MOST_CURVES} curves; allowed are fewer. Simplify it.")
        self.drawing.shapes.append(Shape(torch.tensor(curves, dtype=torch.float32), colour, opacity))


_INHERITED = ("fill", "fill-opacity", "stroke", "opacity")
Point = tuple[float, float]
Curve = tuple[Point, Point, Point]


def _styled(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes, and what the attribute style says of the same names."""
    inner = [part.partition(":") for part in attributes.get("style", "").split(";")]
    return {**attributes, **{name.strip(): value.strip() for name, _, value in inner if value}}


def _moved(origin: Point, transform: str) -> Point:
    """The origin after a translation."""
    if not transform.strip():
        return origin
    found = re.fullmatch(r"\s*translate\(([^()]*)\)\s*", transform)
    numbers = [float(n) for n in _NUMBER.findall(found.group(1))] if found else []
    if not 1 <= len(numbers) <= 2:
        raise ValueError(
            f"svg: transform: got {shown(transform[:60])}; allowed is translate(x, y). Flatten transforms."
        )
    return origin[0] + numbers[0], origin[1] + (numbers[1] if len(numbers) > 1 else 0.0)


def _size(attributes: Mapping[str, str]) -> tuple[float, float, Point]:
    """Width and height of the document in its own units, and where its origin lies."""
    box = [float(n) for n in _NUMBER.findall(attributes.get("viewBox", ""))]
    if not box:
        box = [0.0, 0.0, *(_length(attributes.get(name, "0"), 0.0) for name in ("width", "height"))]
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise ValueError("svg: has no size; allowed is a viewBox, or a width and a height above 0. Set them.")
    return box[2], box[3], (-box[0], -box[1])


def _length(text: str, whole: float) -> float:
    """A length in pixels, or per cent of ``whole``."""
    found = re.fullmatch(rf"\s*({_NUMBER.pattern})\s*(px|%|)\s*", text)
    if found is None or not math.isfinite(float(found.group(1))):
        raise ValueError(f"svg: got the length {shown(text[:40])}; allowed are pixels and per cent. Change the unit.")
    return float(found.group(1)) * (whole / 100 if found.group(2) == "%" else 1)


def _paint(own: Mapping[str, str]) -> tuple[tuple[float, float, float] | None, float]:
    """Colour, None for no fill, and opacity."""
    if own.get("stroke", "none") != "none":
        raise ValueError("svg: has a stroke; allowed are fills. In an editor: convert strokes to paths.")
    opacity = 1.0
    for name in ("fill-opacity", "opacity"):
        opacity *= min(1.0, max(0.0, _length(own.get(name, "1"), 1.0)))
    text = own.get("fill", "#000000").strip().lower()
    if text == "none":
        return None, 0.0
    return colour_of(text), opacity


def _straight(start: Point, end: Point) -> Curve:
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


def _outlines(text: str) -> Iterator[list[Curve]]:
    """The closed outlines of the attribute d, each a list of curves."""
    here: Point = (0.0, 0.0)
    first, curves = here, list[Curve]()
    for letter, numbers in _commands(text):
        base = here if letter.islower() else (0.0, 0.0)
        kind = letter.lower()
        if kind in "mz":
            if curves:
                yield _closed(curves, here, first)
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
            curves.append(_straight(here, end))
        here = end
    if curves:
        yield _closed(curves, here, first)


def _area(curves: list[Curve]) -> float:
    """Area of an outline, signed."""
    return float(areas(torch.tensor(curves, dtype=torch.float64)[None]))


def _closed(curves: list[Curve], here: Point, first: Point) -> list[Curve]:
    """The curves, with a line back to the first point where they do not end there."""
    return curves if math.dist(here, first) < 1e-6 else [*curves, _straight(here, first)]
