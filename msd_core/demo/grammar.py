"""The grammar that the demo model speaks, and where a caption puts its things.

    scene     := things [ground] [style]
    things    := thing [position] | thing relation thing | thing group thing "and" thing
    thing     := ("a" | "an") [size] colour name
    position  := "at the top" | "at the bottom" | "on the left" | "on the right"
    relation  := "left of" | "right of" | "above" | "below" | "and" | "in front of" | "on"
    group     := "above" | "below" | "between"
    ground    := "on a(n)" colour "background" | "in the sky" | "at night" | "at sunset" | "at sea" | "in a meadow"
               | "in the snow"
    style     := "flat" | "outlined"

"a and b" stand side by side, a on the left; of three things, the two that "and" joins do, or stand at either end of a
diagonal with the first between them. What a caption leaves out has
a fixed meaning: no size is medium, no position is the centre, no ground is light grey, no style is flat. What it cannot
say (the exact place and the exact size) varies a little from drawing to drawing.

Conventions: places and radii are fractions of the side, x to the right, y down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..echo import shown
from .grounds import COLOURS, PLACES, contrast
from .silhouettes import THINGS, profile

SIZES = ("small", "medium", "large")
RADII: dict[int, dict[str, float]] = {
    1: {"small": 0.19, "medium": 0.25, "large": 0.32},
    2: {"small": 0.15, "medium": 0.185, "large": 0.225},
    3: {"small": 0.135, "medium": 0.16, "large": 0.19},
}
"""Radius of a size, as a fraction of the side, in a scene of one, two or three things."""

POSITIONS = {
    "": (0.5, 0.5),
    "at the top": (0.5, 0.37),
    "at the bottom": (0.5, 0.63),
    "on the left": (0.37, 0.5),
    "on the right": (0.63, 0.5),
}
BESIDE = {"left of": (-1.0, 0.0), "right of": (1.0, 0.0), "above": (0.0, -1.0), "below": (0.0, 1.0), "and": (-1.0, 0.0)}
"""Direction from the second thing to the first, of two that are apart."""
RELATIONS = (*BESIDE, "in front of", "on")
GROUPS = {
    "above": ((0.5, 0.28), (0.28, 0.70), (0.72, 0.70)),
    "below": ((0.5, 0.72), (0.28, 0.30), (0.72, 0.30)),
    "between": ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8)),
}
"""Places of three things: the first, then the two that "and" joins."""
STYLES = ("flat", "outlined")

SEPARATION = 0.245
"""Distance of each of two things from the centre."""
FRONT = ((0.4, 0.6), (0.59, 0.4))
"""Places of a thing and of what it stands in front of."""
SCALES = {"in front of": 1.12, "between": 0.9}
"""How much larger the things of a relation are than elsewhere."""
SINK = 0.012
"""How far a thing that stands on another one overlaps it."""
MIN_CONTRAST = 0.28
"""Random scenes have no thing closer to its ground than this (Euclidean, RGB in [0, 1])."""


@dataclass(frozen=True)
class Thing:
    """One thing of a scene: what the caption says of it; ``shape`` is one of `silhouettes.THINGS`."""

    colour: str
    shape: str
    size: str = "medium"


@dataclass(frozen=True)
class Scene:
    """What a caption says: one to three things, where they are, the ground ("" is light grey) and the style."""

    things: tuple[Thing, ...]
    position: str = ""
    relation: str = ""
    ground: str = ""
    style: str = "flat"

    def layout(self) -> list[tuple[float, float, float]]:
        """The (x, y, radius) of each thing, in fractions of the side, before jitter."""
        scale = SCALES.get(self.relation, 1.0)
        radii = [scale * RADII[len(self.things)][thing.size] for thing in self.things]
        if len(self.things) == 1:
            return [(*POSITIONS[self.position], radii[0])]
        if len(self.things) == 3:
            return [(*place, r) for place, r in zip(GROUPS[self.relation], radii, strict=True)]
        if self.relation == "in front of":
            return [(*place, r) for place, r in zip(FRONT, radii, strict=True)]
        if self.relation == "on":
            return self._stacked(*radii)
        dx, dy = BESIDE[self.relation]
        return [
            (0.5 + sign * SEPARATION * dx, 0.5 + sign * SEPARATION * dy, r)
            for sign, r in zip((1, -1), radii, strict=True)
        ]

    def _stacked(self, r: float, below: float) -> list[tuple[float, float, float]]:
        (top, bottom), (ledge, floor) = (profile(thing.shape) for thing in self.things)
        rise = bottom * r - ledge * below - SINK  # from the lower thing's centre up to the upper one's
        y = 0.5 - (floor * below - rise + top * r) / 2
        return [(0.5, y - rise, r), (0.5, y, below)]


def with_article(words: str) -> str:
    """``words`` after "a" or "an"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def _describe(thing: Thing, say_medium: bool) -> str:
    size = "" if thing.size == "medium" and not say_medium else thing.size + " "
    return with_article(f"{size}{thing.colour} {thing.shape}")


def caption(scene: Scene, *, say_medium: bool = False, say_flat: bool = False) -> str:
    """The caption of ``scene``; :func:`parse` reads it back. The default size and style are spelled out on request."""
    words = _describe(scene.things[0], say_medium)
    if len(scene.things) > 1:
        words += f" {scene.relation} " + " and ".join(_describe(thing, say_medium) for thing in scene.things[1:])
    elif scene.position:
        words += f" {scene.position}"
    if scene.ground:
        words += f" {scene.ground}" if scene.ground in PLACES else f" on {with_article(scene.ground)} background"
    return f"{words}, {scene.style}" if scene.style != "flat" or say_flat else words


def _any(words: Sequence[str]) -> str:
    return f"({'|'.join(word for word in words if word)})"


_THING = rf"an? (?:{_any(SIZES)} )?{_any(tuple(COLOURS))} {_any(THINGS)}"
_GROUND = rf"(?: on an? {_any(tuple(COLOURS))} background| {_any(tuple(PLACES))})?(?: {_any(STYLES)})?"
_ONE = re.compile(rf"{_THING}(?: {_any(tuple(POSITIONS))})?{_GROUND}")
_TWO = re.compile(rf"{_THING} {_any(RELATIONS)} {_THING}{_GROUND}")
_THREE = re.compile(rf"{_THING} {_any(tuple(GROUPS))} {_THING} and {_THING}{_GROUND}")


def parse(text: str) -> Scene:
    """Read a caption. Inverse of :func:`caption`.

    Raises:
        ValueError: the text is not of the grammar; the message quotes it and gives the grammar's words.
    """
    plain = " ".join(text.lower().replace(".", " ").replace(",", " ").split())
    for pattern, count in ((_ONE, 1), (_TWO, 2), (_THREE, 3)):
        if match := pattern.fullmatch(plain):
            words = [word or "" for word in match.groups()]
            link = words.pop(3)
            things = [Thing(c, s, size or "medium") for size, c, s in zip(*[iter(words[: 3 * count])] * 3, strict=True)]
            colour, place, style = words[3 * count :]
            position, relation = (link, "") if count == 1 else ("", link)
            return Scene(tuple(things), position, relation, colour or place, style or "flat")
    raise ValueError(
        f"caption: {shown(text)} is not a scene the demo model knows; write e.g. 'a large red circle on a blue "
        f"background' or 'a small yellow moon above a green house at night, outlined', with things "
        f"{', '.join(THINGS)}; colours {', '.join(COLOURS)}; sizes {', '.join(SIZES)}; positions "
        f"{', '.join(p for p in POSITIONS if p)}; relations {', '.join(RELATIONS)}, and between … and …; grounds "
        f"{', '.join(PLACES)}; styles {', '.join(STYLES)}"
    )


def _pick(options: Sequence[str], generator: torch.Generator) -> str:
    return options[int(torch.randint(len(options), (), generator=generator))]


def _chance(share: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < share


def _random_ground(generator: torch.Generator) -> str:
    if _chance(0.2, generator):
        return ""
    return _pick(tuple(PLACES) if _chance(0.5, generator) else tuple(COLOURS), generator)


def random_scene(
    generator: torch.Generator, *, objects: int | None = None, shares: Sequence[float] = (0.4, 0.4, 0.2)
) -> Scene:
    """Draw a scene from the grammar: ``objects`` things, or one, two or three in ``shares``; all colours differ, and
    every thing stands out from its ground.
    """
    count = objects or 1 + int(torch.multinomial(torch.tensor(shares), 1, generator=generator))
    ground = _random_ground(generator)
    colours = [c for c in COLOURS if contrast(c, ground) >= MIN_CONTRAST]
    order = torch.randperm(len(colours), generator=generator)[:count].tolist()
    things = tuple(Thing(colours[i], _pick(THINGS, generator), _pick(SIZES, generator)) for i in order)
    style = "outlined" if _chance(0.25, generator) else "flat"
    if count > 1:
        relation = _pick(RELATIONS if count == 2 else tuple(GROUPS), generator)
        return Scene(things, relation=relation, ground=ground, style=style)
    placed = _chance(0.5, generator)
    position = _pick([p for p in POSITIONS if p], generator) if placed else ""
    return Scene(things, position, ground=ground, style=style)
