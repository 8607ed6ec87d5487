"""The painter: draws what a caption says as a flat illustration, anti-aliased, at any size.

Each part of a thing is laid over the picture with the share of a pixel that it covers, read off its distance field;
"outlined" draws the visible borders of the parts in ink.

Conventions: pictures are (B, 3, S, S) in [0, 1]; places and radii are fractions of the side, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .grammar import (
    BESIDE,
    POSITIONS,
    RADII,
    RELATIONS,
    SIZES,
    STYLES,
    Scene,
    Thing,
    caption,
    parse,
    random_scene,
)
from .grounds import COLOURS, GROUND_COLOURS, GROUNDS, INK, PLACES, PLAIN, fill, ground_picture
from .silhouettes import EXTENT, PARTS, SHAPES, THINGS, distance_field, outline, signed_distance

SIDE = 128
"""Pixels a side of the pictures that the demo model is made for."""
PLACE_JITTER, SIZE_JITTER = 0.02, 0.06
LINE = 0.018
"""Width of an outline, as a fraction of the side."""


def _axes(side: int, cx: Tensor, cy: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (B, side, side) of the pixels' centres in the squares of things with these places and radii (B,)."""
    axis = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    x = (axis[None, None, :] - cx[:, None, None]) / radius[:, None, None]
    y = (axis[None, :, None] - cy[:, None, None]) / radius[:, None, None]
    return tuple(torch.broadcast_tensors(x, y))  # type: ignore[return-value]


def coverage(shape: str, cx: Tensor, cy: Tensor, radius: Tensor, side: int) -> Tensor:
    """How much of each pixel a thing's silhouette covers: (B, side, side) in [0, 1], for centres and radii (B,) in
    fractions of the side.
    """
    x, y = _axes(side, cx, cy, radius)
    return (0.5 - signed_distance(shape, x, y) * radius[:, None, None] * side).clamp(0.0, 1.0)


def part_distances(shape: str, cx: Tensor, cy: Tensor, radius: Tensor, side: int) -> Tensor:
    """Signed distance in pixels of every pixel to every part of ``shape``: (parts, B, side, side), from the part's
    distance field; positive and inexact far outside.
    """
    field = distance_field(shape)
    grid = torch.stack(_axes(side, cx, cy, radius), dim=-1) / EXTENT
    near = F.grid_sample(
        field[None].expand(len(cx), -1, -1, -1), grid, padding_mode="border", align_corners=False
    ).movedim(1, 0)
    return near * radius[:, None, None] * side


def paint(pictures: Tensor, things: Sequence[Thing], places: Tensor, outlined: Tensor) -> Tensor:
    """Lay ``things``, all of one shape, over ``pictures`` (B, 3, S, S).

    Args:
        things: B of them.
        places: their (x, y, radius), (B, 3).
        outlined: which are drawn with an outline, (B,) bool.
    """
    shape, side = things[0].shape, pictures.shape[-1]
    x, y, radius = places.unbind(1)
    distances = part_distances(shape, x, y, radius, side)
    for part, distance in zip(PARTS[shape], distances, strict=True):
        alpha = (0.5 - distance).clamp(0.0, 1.0)[:, None]
        colour = torch.tensor([fill(part.colour, COLOURS[thing.colour]) for thing in things])[:, :, None, None]
        pictures = torch.lerp(pictures, colour.expand_as(pictures), alpha)
    if outlined.any():
        ink = (0.5 + LINE / 2 * side - outline(list(distances))).clamp(0.0, 1.0) * outlined[:, None, None]
        pictures = torch.lerp(pictures, torch.tensor(INK)[:, None, None].expand_as(pictures), ink[:, None])
    return pictures


def draw(
    scenes: Sequence[Scene],
    side: int = SIDE,
    generator: torch.Generator | None = None,
    left_out: Sequence[int | None] | None = None,
) -> Tensor:
    """Draw ``scenes``: (B, 3, side, side) in [0, 1].

    Args:
        generator: with it, places and sizes vary a little; without, they do not.
        left_out: for each scene, the number of a thing that is not drawn though its place is kept, or None.
    """
    absent = left_out or [None] * len(scenes)
    pictures = torch.stack([ground_picture(scene.ground, side) for scene in scenes])
    jitter = torch.zeros(len(scenes), 3, 3)
    if generator is not None:
        scale = torch.tensor([PLACE_JITTER, PLACE_JITTER, SIZE_JITTER])
        jitter = (2 * torch.rand(len(scenes), 3, 3, generator=generator) - 1) * scale
        touching = [i for i, s in enumerate(scenes) if s.relation in ("on", "in front of")]
        jitter[touching, 1:, :2] = jitter[touching, :1, :2]  # move as one, or they would come apart
    outlined = torch.tensor([scene.style == "outlined" for scene in scenes])
    for slot in reversed(range(3)):  # the first thing is in front
        for shape in THINGS:
            rows = [
                i
                for i, s in enumerate(scenes)
                if len(s.things) > slot and s.things[slot].shape == shape and absent[i] != slot
            ]
            if rows:
                places = torch.tensor([scenes[i].layout()[slot] for i in rows])
                size = torch.cat([torch.ones(len(rows), 2), places[:, 2:]], dim=1)
                things = [scenes[i].things[slot] for i in rows]
                pictures[rows] = paint(pictures[rows], things, places + jitter[rows, slot] * size, outlined[rows])
    return pictures


__all__ = [
    "BESIDE",
    "COLOURS",
    "GROUNDS",
    "GROUND_COLOURS",
    "PLACES",
    "PLAIN",
    "POSITIONS",
    "RADII",
    "RELATIONS",
    "SHAPES",
    "SIDE",
    "SIZES",
    "STYLES",
    "THINGS",
    "Scene",
    "Thing",
    "caption",
    "coverage",
    "draw",
    "paint",
    "parse",
    "part_distances",
    "random_scene",
    "signed_distance",
]
