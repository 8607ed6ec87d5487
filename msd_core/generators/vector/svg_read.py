"""What an SVG document draws.

What is read is what `svg` writes and what editors and tracers make of it: straight lines, relative letters, several
lines with one colour, a shape with a stroke, groups and translations, and a clip path that is the whole page. What is
hidden is left out. Everything else that would be drawn is refused by name; nothing is fetched, no entity expanded.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import NamedTuple
from xml.parsers import expat

import torch
from torch import Tensor

from ...echo import shown
from ..paint import colour_of
from .drawing import Drawing, Shape, Stroke
from .outline import areas, at_times, curves
from .svg_path import NUMBER, Curve, Line, Point, lines_of, straight

LARGEST, DEEPEST, MOST_CURVES = 2**24, 32, 2**18
"""Bytes, nested elements and curves that are read at most."""
LOOKED = 4
"""Points of a curve between which it is looked at as straight, for crossings."""
FARTHEST = 1e9
"""Most that a coordinate may be in size."""
SILENT = ("metadata", "title", "desc", "defs", "style", "clipPath")
"""Elements that draw nothing by themselves; a style is refused if it says anything."""
ROUND = {"stroke-linecap": "butt", "stroke-linejoin": "miter"}
"""What a stroke must say is round, and what it is if it says nothing."""
PLAIN = {"stroke-dasharray": "none", "vector-effect": "none", "paint-order": "normal"}
"""What a stroke may say at most."""
EFFECTS = {"mask": "none", "filter": "none", "mix-blend-mode": "normal"}
"""What anything that is drawn may say at most."""


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
        self.clips: dict[str, bool] = {}  # by name: whether it is the whole page
        self.clipped: set[str] = set()

    def parse(self, raw: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.Parse(raw, True)
        for name in self.clipped:
            if not self.clips.get(name, False):
                raise ValueError(
                    f"svg: clip-path: got {shown(name[:40])}, which is not the whole page; allowed is that. Release "
                    "the clip in an editor."
                )

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
        if "opacity" in inherited and "opacity" in _styled(attributes):
            own["opacity"] = f"{_length(inherited['opacity'], 1.0) * _length(own['opacity'], 1.0):.9f}"
        if inherited.get("display") == "none":
            own["display"] = "none"
        if "transform" in _style(attributes):
            raise ValueError("svg: transform: got one in a style; allowed is the attribute. Flatten transforms.")
        origin = _moved(origin, attributes.get("transform", ""))
        silent = any(outer in SILENT for outer, _, _ in self.nested) or own.get("display", "").strip() == "none"
        if any(outer == "clipPath" for outer, _, _ in self.nested):
            self._clip(name, attributes, origin)
        elif not silent and name not in SILENT:
            self._check_effects(own)
        silent = silent or (own.get("visibility", "").strip() in ("hidden", "collapse") and name in ("rect", "path"))
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
                f"svg: holds <{name[:40]}>; allowed are filled and stroked paths and a rectangle for the ground. In an "
                "editor: convert objects to paths, and save as plain SVG."
            )
        kept = ("id",) if name == "clipPath" else _INHERITED
        self.nested.append((name, {k: v for k, v in own.items() if k in kept}, origin))

    def _end(self, _: str) -> None:
        self.nested.pop()

    def _text(self, text: str) -> None:
        if self.nested and self.nested[-1][0] == "style" and text.strip():
            raise ValueError("svg: holds a style sheet; allowed are colours at each path. Save it as plain SVG.")

    def _check_effects(self, own: Mapping[str, str]) -> None:
        """Refuse what changes how something is drawn, and keep in mind what it is clipped by."""
        for name, plain in EFFECTS.items():
            value = own.get(name, plain).strip().lower()
            if value != plain:
                raise ValueError(
                    f"svg: {name}: got {shown(value[:40])}; allowed is {plain}. Flatten it in an editor, or leave "
                    "it out."
                )
        clip = own.get("clip-path", "none").strip()
        if clip != "none":
            found = re.fullmatch(r"url\(\s*['\"]?#([^'\"()]+)['\"]?\s*\)", clip)
            self.clipped.add(found.group(1) if found else clip)

    def _clip(self, name: str, attributes: Mapping[str, str], origin: Point) -> None:
        """Note whether an element of a clip path is the whole page."""
        label = next((own["id"] for outer, own, _ in reversed(self.nested) if outer == "clipPath" and "id" in own), "")
        plain = name == "rect" and not _rounded(attributes)
        self.clips[label] = self.clips.get(label, True) and plain and self._covers(*self._box(attributes, origin))

    def _box(self, attributes: Mapping[str, str], origin: Point) -> tuple[float, float, float, float]:
        """Left, top, width and height of a rectangle."""
        whole = {"width": self.drawing.width, "height": self.drawing.height}
        x, y = (origin[i] + _length(attributes.get(name, "0"), 0.0) for i, name in enumerate("xy"))
        width, height = (_length(attributes.get(name, "0"), side) for name, side in whole.items())
        return x, y, width, height

    def _covers(self, x: float, y: float, width: float, height: float) -> bool:
        """Whether a rectangle is at least the whole page."""
        return x <= 0 and y <= 0 and x + width >= self.drawing.width and y + height >= self.drawing.height

    def _rectangle(self, attributes: Mapping[str, str], own: Mapping[str, str], origin: Point) -> None:
        if _rounded(attributes):
            raise ValueError(
                "svg: has a rectangle with rounded corners; allowed are square ones. Convert it to a path."
            )
        x, y, width, height = self._box(attributes, origin)
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        border = [straight(a, b) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
        fill, pen = _fill(own), _pen(own)
        if self._covers(x, y, width, height) and fill and fill.opacity == 1:
            self.drawing.ground, self.drawing.shapes, fill = fill.colour, [], None
        self._add([Line(border, corners[0], True)], fill, pen, (0.0, 0.0))

    def _path(self, text: str, own: Mapping[str, str], origin: Point) -> None:
        fill, pen, found = _fill(own), _pen(own), list(lines_of(text))
        turns = {math.copysign(1, area) for area in map(_area, found) if area}
        if fill and len(turns) > 1:
            raise ValueError(
                "svg: has a path with a hole, one outline turned against another; allowed are shapes without. Paint "
                "the hole as a shape on top, or break the path apart."
            )
        if fill and own.get("fill-rule", "nonzero").strip().lower() == "evenodd" and _crossed(found):
            raise ValueError(
                "svg: fill-rule: got 'evenodd' for a path that crosses or holds itself, which is a hole then; allowed "
                "is nonzero. Paint the hole as a shape on top, or break the path apart."
            )
        self._add(found, fill, pen, origin)

    def _add(self, found: list[Line], fill: _Paint | None, pen: _Pen | None, origin: Point) -> None:
        """The lines, moved to ``origin``, filled, and then stroked."""
        for line in found:
            if fill is not None:
                self.drawing.shapes.append(Shape(self._counted(line.outline, origin), fill.colour, fill.opacity))
        for line in found:
            if pen is None:
                break
            whole = curves(self._counted(line.outline if line.closed else line.curves, origin)[None])[0]
            if not line.closed:
                whole[-1, 3] = torch.tensor(line.end) + torch.tensor(origin)
            self.drawing.shapes.append(Stroke(whole, pen.paint.colour, pen.paint.opacity, pen.width, line.closed))

    def _counted(self, listed: list[Curve], origin: Point) -> Tensor:
        """Curves (S, 3, 2) moved to ``origin``, unless they are too many, or too far away."""
        self.curves += len(listed)
        if self.curves > MOST_CURVES:
            raise ValueError(f"svg: has more than {MOST_CURVES} curves; allowed are fewer. Simplify it.")
        made = torch.tensor(listed, dtype=torch.float32) + torch.tensor(origin)
        if not bool((made.abs() <= FARTHEST).all()):
            raise ValueError(f"svg: d: got a number above {FARTHEST:g}; allowed are smaller ones. Scale the picture.")
        return made


_INHERITED = (
    "fill",
    "fill-rule",
    "fill-opacity",
    "display",
    "visibility",
    "stroke",
    "stroke-opacity",
    "stroke-width",
    "opacity",
    *ROUND,
    *PLAIN,
)


class _Paint(NamedTuple):
    """Colour and opacity of a fill or of a stroke."""

    colour: tuple[float, float, float]
    opacity: float


class _Pen(NamedTuple):
    """What a line is stroked with."""

    paint: _Paint
    width: float


def _style(attributes: Mapping[str, str]) -> dict[str, str]:
    """What the attribute style says."""
    inner = [part.partition(":") for part in attributes.get("style", "").split(";")]
    return {name.strip(): value.strip() for name, _, value in inner if value}


def _styled(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes, and what the attribute style says of the same names."""
    return {**attributes, **_style(attributes)}


def _rounded(attributes: Mapping[str, str]) -> bool:
    """Whether a rectangle has rounded corners."""
    return any(_length(_styled(attributes).get(name, "0").replace("auto", "0"), 1.0) != 0 for name in ("rx", "ry"))


def _crossed(found: list[Line]) -> bool:
    """Whether two of the lines lie over one another, by the boxes around them, or one crosses itself."""
    drawn = [at_times(curves(torch.tensor(line.outline, dtype=torch.float64)[None])[0], LOOKED) for line in found]
    boxes = [(points.amin(dim=0), points.amax(dim=0)) for points in drawn]
    over = any(
        bool(((one[0] < other[1]) & (other[0] < one[1])).all()) for one, other in itertools.combinations(boxes, 2)
    )
    return over or any(map(_crosses_itself, drawn))


def _crosses_itself(points: Tensor) -> bool:
    """Whether a closed line through points (N, 2) has two pieces that cross."""
    a, b = points, points.roll(-1, 0)

    def side(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        return ((q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0]).sign()

    one, other = (a[:, None], b[:, None]), (a[None], b[None])
    apart = side(*one, other[0]) * side(*one, other[1]) < 0
    return bool((apart & (side(*other, one[0]) * side(*other, one[1]) < 0)).any())


def _moved(origin: Point, transform: str) -> Point:
    """The origin after a translation."""
    if not transform.strip():
        return origin
    found = re.fullmatch(r"\s*translate\(([^()]*)\)\s*", transform)
    numbers = [float(n) for n in NUMBER.findall(found.group(1))] if found else []
    if not 1 <= len(numbers) <= 2:
        raise ValueError(
            f"svg: transform: got {shown(transform[:60])}; allowed is translate(x, y). Flatten transforms."
        )
    return origin[0] + numbers[0], origin[1] + (numbers[1] if len(numbers) > 1 else 0.0)


def _size(attributes: Mapping[str, str]) -> tuple[float, float, Point]:
    """Width and height of the document in its own units, and where its origin lies."""
    box = [float(n) for n in NUMBER.findall(attributes.get("viewBox", ""))]
    if not box:
        box = [0.0, 0.0, *(_length(attributes.get(name, "0"), 0.0) for name in ("width", "height"))]
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise ValueError("svg: has no size; allowed is a viewBox, or a width and a height above 0. Set them.")
    return box[2], box[3], (-box[0], -box[1])


def _length(text: str, whole: float) -> float:
    """A length in pixels, or per cent of ``whole``."""
    found = re.fullmatch(rf"\s*({NUMBER.pattern})\s*(px|%|)\s*", text)
    if found is None or not math.isfinite(float(found.group(1))):
        raise ValueError(f"svg: got the length {shown(text[:40])}; allowed are pixels and per cent. Change the unit.")
    return float(found.group(1)) * (whole / 100 if found.group(2) == "%" else 1)


def _paint(own: Mapping[str, str], name: str, default: str) -> _Paint | None:
    """The "fill" or the "stroke"; None if nothing is seen of it."""
    text = own.get(name, default).strip().lower()
    opacity = 1.0
    for part in (f"{name}-opacity", "opacity"):
        opacity *= min(1.0, max(0.0, _length(own.get(part, "1"), 1.0)))
    return None if text == "none" or opacity == 0 else _Paint(colour_of(text), opacity)


def _fill(own: Mapping[str, str]) -> _Paint | None:
    return _paint(own, "fill", "#000000")


def _pen(own: Mapping[str, str]) -> _Pen | None:
    """The stroke; None for none.

    Raises:
        ValueError: it is not round, dashed, of no width, or seen through together with a fill.
    """
    paint = _paint(own, "stroke", "none")
    width = 0.0 if paint is None else _length(own.get("stroke-width", "1"), math.nan)
    if paint is None or width == 0:
        return None
    if not width > 0:
        raise ValueError(f"svg: stroke-width: got {shown(own['stroke-width'][:40])}; allowed are pixels. Change it.")
    for names, allowed in ((ROUND, "round"), (PLAIN, "")):
        for name, default in names.items():
            value = own.get(name, default).strip().lower()
            if value != (allowed or default):
                raise ValueError(
                    f"svg: {name}: got {shown(value[:40])}; allowed is {allowed or default}. Change it in an "
                    "editor, or convert the stroke to a path."
                )
    if _fill(own) and _length(own.get("opacity", "1"), 1.0) < 1:
        raise ValueError(
            "svg: opacity: got less than 1 for a path with fill and stroke; allowed is 1 there. Use fill-opacity and "
            "stroke-opacity."
        )
    return _Pen(paint, width)


def _area(line: Line) -> float:
    """Area inside of a line, signed."""
    return float(areas(torch.tensor(line.outline, dtype=torch.float64)[None]))
