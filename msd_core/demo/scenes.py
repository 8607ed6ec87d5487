"""Captioned scenes: the grammar that the demo model speaks, and the painter that draws what a caption says.

    scene     := object [position] [ground]  |  object relation object [ground]
    object    := ("a" | "an") [size] colour shape
    position  := "at the top" | "at the bottom" | "on the left" | "on the right"
    relation  := "left of" | "right of" | "above" | "below"
    ground    := "on a(n)" colour "background"

What a caption leaves out has a fixed meaning: no size is medium, no position is the centre, no ground is light grey.
What a caption cannot say (the exact place and the exact size) varies a little from drawing to drawing.

Conventions: pictures are (B, 3, S, S) in [0, 1]; places and radii are fractions of the side, x to the right, y down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..echo import shown

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.14),
    "orange": (0.98, 0.56, 0.08),
    "yellow": (0.98, 0.89, 0.20),
    "green": (0.12, 0.62, 0.24),
    "blue": (0.12, 0.32, 0.86),
    "purple": (0.52, 0.18, 0.66),
    "black": (0.08, 0.08, 0.10),
    "white": (0.98, 0.98, 0.98),
}
PLAIN = (0.76, 0.76, 0.78)
"""The ground of a scene whose caption names none: light grey."""

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
SIZES = ("small", "medium", "large")
RADII = {False: {"small": 0.16, "medium": 0.23, "large": 0.31}, True: {"small": 0.14, "medium": 0.18, "large": 0.22}}
"""Radius of a size, as a fraction of the side, for scenes of one object (False) and of two (True)."""

POSITIONS = {
    "": (0.5, 0.5),
    "at the top": (0.5, 0.36),
    "at the bottom": (0.5, 0.64),
    "on the left": (0.36, 0.5),
    "on the right": (0.64, 0.5),
}
RELATIONS = {"left of": (-1.0, 0.0), "right of": (1.0, 0.0), "above": (0.0, -1.0), "below": (0.0, 1.0)}
"""Direction from the second object to the first."""
SEPARATION = 0.25
"""Distance of each of two objects from the centre."""
PLACE_JITTER, SIZE_JITTER = 0.03, 0.06


@dataclass(frozen=True)
class Thing:
    """One object of a scene: what the caption says of it."""

    colour: str
    shape: str
    size: str = "medium"


@dataclass(frozen=True)
class Scene:
    """What a caption says: one or two things, where they are, and the colour of the ground ("" is light grey)."""

    things: tuple[Thing, ...]
    position: str = ""
    relation: str = ""
    ground: str = ""

    def layout(self) -> list[tuple[float, float, float]]:
        """The (x, y, radius) of each thing, in fractions of the side, before jitter."""
        radii = RADII[len(self.things) == 2]
        if len(self.things) == 1:
            return [(*POSITIONS[self.position], radii[self.things[0].size])]
        dx, dy = RELATIONS[self.relation]
        return [
            (0.5 + sign * SEPARATION * dx, 0.5 + sign * SEPARATION * dy, radii[thing.size])
            for sign, thing in zip((1, -1), self.things, strict=True)
        ]


def _with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _describe(thing: Thing, say_medium: bool) -> str:
    size = "" if thing.size == "medium" and not say_medium else thing.size + " "
    return _with_article(f"{size}{thing.colour} {thing.shape}")


def caption(scene: Scene, *, say_medium: bool = False) -> str:
    """The caption of ``scene``; :func:`parse` reads it back. ``say_medium`` spells out the default size."""
    words = _describe(scene.things[0], say_medium)
    if len(scene.things) == 2:
        words += f" {scene.relation} {_describe(scene.things[1], say_medium)}"
    elif scene.position:
        words += f" {scene.position}"
    return words + (f" on {_with_article(scene.ground)} background" if scene.ground else "")


_OBJECT = rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_SCENE = re.compile(
    rf"{_OBJECT}(?: ({'|'.join(p for p in POSITIONS if p)})| ({'|'.join(RELATIONS)}) {_OBJECT})?"
    rf"(?: on an? ({'|'.join(COLOURS)}) background)?"
)


def parse(text: str) -> Scene:
    """Read a caption. Inverse of :func:`caption`.

    Raises:
        ValueError: the text is not of the grammar; the message quotes it and gives the grammar's words.
    """
    match = _SCENE.fullmatch(" ".join(text.lower().replace(".", " ").replace(",", " ").split()))
    if match is None:
        raise ValueError(
            f"caption: {shown(text)} is not a scene the demo model knows; write e.g. 'a large red circle on a blue "
            f"background' or "
            f"'a small yellow star left of a green square', with shapes {', '.join(SHAPES)}; colours "
            f"{', '.join(COLOURS)}; "
            f"sizes {', '.join(SIZES)}; positions {', '.join(p for p in POSITIONS if p)}; "
            f"relations {', '.join(RELATIONS)}"
        )
    size, colour, shape, position, relation, size2, colour2, shape2, ground = match.groups()
    things = [Thing(colour, shape, size or "medium")]
    if relation:
        things.append(Thing(colour2, shape2, size2 or "medium"))
    return Scene(tuple(things), position or "", relation or "", ground or "")


def _pick(options: Sequence[str], generator: torch.Generator) -> str:
    return options[int(torch.randint(len(options), (), generator=generator))]


def random_scene(generator: torch.Generator, *, objects: int | None = None) -> Scene:
    """Draw a scene from the grammar: one or two objects (``objects``, or a fair coin), all colours of a scene
    different.
    """
    count = objects or 1 + int(torch.randint(2, (), generator=generator))
    names = list(COLOURS)
    colours = [names[i] for i in torch.randperm(len(names), generator=generator)[: count + 1].tolist()]
    things = tuple(Thing(c, _pick(SHAPES, generator), _pick(SIZES, generator)) for c in colours[:count])
    plain = float(torch.rand((), generator=generator)) < 0.25
    scene = Scene(things, ground="" if plain else colours[count])
    if count == 2:
        return replace(scene, relation=_pick(list(RELATIONS), generator))
    placed = float(torch.rand((), generator=generator)) < 0.5
    return replace(scene, position=_pick([p for p in POSITIONS if p], generator) if placed else "")


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    corners = []
    for i in range(2 * points):
        radius, angle = (1.0 if i % 2 == 0 else inner), math.pi * i / points
        corners.append((radius * math.sin(angle), -radius * math.cos(angle)))
    return corners


_ARM = 0.36
_POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)],
    "triangle": [(0.0, -1.0), (1.0, 0.84), (-1.0, 0.84)],
    "diamond": [(0.0, -1.1), (0.74, 0.0), (0.0, 1.1), (-0.74, 0.0)],
    "star": [(1.12 * x, 1.12 * y) for x, y in _star(5, 0.42)],
    "cross": [
        *((-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)),
        *((_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)),
    ],
}


def signed_distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (negative inside) of points ``x``, ``y`` (same shape) to the outline of ``shape`` with radius
    1.
    """
    if shape == "circle":
        return (x * x + y * y).sqrt() - 1.0
    corners = _POLYGONS[shape]
    inside = torch.zeros_like(x, dtype=torch.bool)
    nearest = torch.full_like(x, math.inf)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        t = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0)
        nearest = torch.minimum(nearest, (x - ax - t * ex) ** 2 + (y - ay - t * ey) ** 2)
        if ay != by:  # even-odd rule: count the edges that a ray to the right crosses
            inside ^= ((y < ay) != (y < by)) & (x < ax + (y - ay) * ex / ey)
    return torch.where(inside, -1.0, 1.0) * nearest.sqrt()


def coverage(shape: str, cx: Tensor, cy: Tensor, radius: Tensor, side: int) -> Tensor:
    """How much of each pixel a shape covers: (B, side, side) in [0, 1], for centres and radii (B,) in fractions of
    the side.
    """
    axis = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    x = (axis[None, None, :] - cx[:, None, None]) / radius[:, None, None]
    y = (axis[None, :, None] - cy[:, None, None]) / radius[:, None, None]
    x, y = torch.broadcast_tensors(x, y)
    return (0.5 - signed_distance(shape, x, y) * radius[:, None, None] * side).clamp(0.0, 1.0)


def draw(scenes: Sequence[Scene], side: int = 64, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``scenes``: (B, 3, side, side) in [0, 1]. With a ``generator``, places and sizes vary a little; without,
    they do not.
    """
    grounds = torch.tensor([COLOURS[s.ground] if s.ground else PLAIN for s in scenes])
    pictures = grounds[:, :, None, None].expand(-1, -1, side, side).clone()
    jitter = torch.zeros(len(scenes), 2, 3)
    if generator is not None:
        scale = torch.tensor([PLACE_JITTER, PLACE_JITTER, SIZE_JITTER])
        jitter = (2 * torch.rand(len(scenes), 2, 3, generator=generator) - 1) * scale
    for slot in range(2):
        for shape in SHAPES:
            rows = [i for i, s in enumerate(scenes) if len(s.things) > slot and s.things[slot].shape == shape]
            if not rows:
                continue
            place = torch.tensor([scenes[i].layout()[slot] for i in rows])
            cx, cy, radius = (
                place + jitter[rows, slot] * torch.stack([torch.ones(len(rows))] * 2 + [place[:, 2]], 1)
            ).unbind(1)
            alpha = coverage(shape, cx, cy, radius, side)[:, None]
            colour = torch.tensor([COLOURS[scenes[i].things[slot].colour] for i in rows])[:, :, None, None]
            pictures[rows] = pictures[rows] * (1 - alpha) + colour * alpha
    return pictures
