"""A judge of pictures that is not a network: segment by colour, match shape masks, compare with the caption.

1. Every pixel gets the nearest of the palette's colours that fill an area anywhere, or none if all are far.
2. The ground is the colour of most of the frame.
3. A thing is the largest connected region of its colour. Masks of all shapes are laid over it, at many places and
sizes; the shape
   with the best intersection over union (IoU) names it.

A picture is accepted when every thing is there in its colour and its shape, and the ground has its colour. Place,
size and stray colours are reported too, and do not decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from .scenes import COLOURS, PLAIN, RADII, RELATIONS, SHAPES, SIZES, Scene, Thing, coverage, parse

SIDE = 64
"""Pictures are judged at this size."""
MAX_COLOUR_DISTANCE = 0.30
"""A pixel farther than this from every palette colour (Euclidean, RGB in [0, 1]) has no colour."""
MIN_IOU = 0.65
"""A region that matches no shape's mask better than this has no shape."""

_NAMES = ("", *COLOURS)
_PALETTE = torch.tensor([PLAIN, *COLOURS.values()])
_NO_COLOUR = len(_NAMES)


@dataclass(frozen=True)
class ThingVerdict:
    """What the judge saw of one thing of the caption.

    ``shape`` is the best match ("" if none is good enough), ``iou`` its intersection over union, ``area`` the
    region's share of the picture, ``x`` and ``y`` its centre in fractions of the side, ``size`` the size word nearest
    to it.
    """

    expected: Thing
    shape: str
    iou: float
    area: float
    x: float
    y: float
    size: str

    @property
    def colour_right(self) -> bool:
        """A region of the colour is there, of at least half the area of the smallest thing of the grammar."""
        return self.area >= 0.5 * math.pi * (0.6 * min(RADII[True].values())) ** 2

    @property
    def shape_right(self) -> bool:
        """The region has the expected shape."""
        return self.colour_right and self.shape == self.expected.shape


@dataclass(frozen=True)
class Verdict:
    """What the judge saw of a picture; ``ground`` is a colour's name, "" for light grey, None for none of the
    palette.
    """

    scene: Scene
    ground: str | None
    things: tuple[ThingVerdict, ...]
    stray: float

    @property
    def background_right(self) -> bool:
        """The ground has the caption's colour."""
        return self.ground == self.scene.ground

    @property
    def colours_right(self) -> bool:
        """Every thing is there in its colour."""
        return all(t.colour_right for t in self.things)

    @property
    def shapes_right(self) -> bool:
        """Every thing has its shape."""
        return all(t.shape_right for t in self.things)

    @property
    def place_right(self) -> bool:
        """A single thing is within 0.1 of its place; of two, the first lies on its side of the second."""
        if len(self.things) == 1:
            x, y, _ = self.scene.layout()[0]
            return math.hypot(self.things[0].x - x, self.things[0].y - y) < 0.1
        first, second = self.things
        dx, dy = RELATIONS[self.scene.relation]
        return (first.x - second.x) * dx + (first.y - second.y) * dy > 0.2

    @property
    def sizes_right(self) -> bool:
        """Every thing is nearest to its own size word."""
        return all(t.size == t.expected.size for t in self.things)

    @property
    def accepted(self) -> bool:
        """Colours, shapes and background are all right."""
        return self.colours_right and self.shapes_right and self.background_right


def _nearest(picture: Tensor, colours: Tensor) -> Tensor:
    """Number of the nearest of ``colours`` (K,) for each pixel of (3, H, W); _NO_COLOUR where all are far."""
    distance = torch.cdist(picture.flatten(1).T, _PALETTE[colours])
    nearest, index = distance.min(dim=1)
    return torch.where(nearest > MAX_COLOUR_DISTANCE, _NO_COLOUR, colours[index]).reshape(picture.shape[1:])


def segment(picture: Tensor) -> Tensor:
    """Number of each pixel's palette colour, (3, H, W) in [0, 1] to (H, W); 9 where all colours are far.

    Only colours that fill some 3×3 block take part: on the soft edge between two colours a third one may be nearest.
    """
    labels = _nearest(picture, torch.arange(len(_PALETTE)))
    blocks = labels.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2)
    solid = blocks[(blocks == blocks[..., :1]).all(dim=-1)][:, 0].unique()
    solid = solid[solid != _NO_COLOUR]
    return _nearest(picture, solid) if len(solid) else labels


def regions(mask: Tensor) -> list[Tensor]:
    """4-connected regions of ``mask`` (H, W) bool, largest first."""
    number = torch.where(mask, torch.arange(1, mask.numel() + 1).reshape(mask.shape), 0).float()
    while True:  # every pixel takes the largest number among its neighbours, until nothing changes
        padded = F.pad(number[None, None], (1, 1, 1, 1))[0, 0]
        neighbours = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1], number]
        spread = torch.where(mask, torch.stack(neighbours).amax(dim=0), 0.0)
        if torch.equal(spread, number):
            break
        number = spread
    labels = number[mask].unique()
    return sorted((number == n for n in labels), key=lambda region: -int(region.sum()))


def _unit_area(shape: str) -> float:
    half = torch.full((1,), 0.5)
    return float(coverage(shape, half, half, torch.full((1,), 0.25), 256).sum()) / (256 * 0.25) ** 2


_UNIT_AREAS = {shape: _unit_area(shape) for shape in SHAPES}


def match_shape(region: Tensor) -> tuple[str, float, float]:
    """The shape whose mask fits ``region`` (S, S) bool best, its IoU, and its radius in fractions of the side."""
    side = region.shape[0]
    rows, columns = region.any(dim=1).nonzero(), region.any(dim=0).nonzero()
    middle = (float(columns.min() + columns.max() + 1) / 2 / side, float(rows.min() + rows.max() + 1) / 2 / side)
    area = float(region.sum()) / side**2
    shifts = [s / side for s in (-0.75, 0.0, 0.75)]
    best = ("", 0.0, 0.0)
    for shape in SHAPES:
        radius = math.sqrt(area / _UNIT_AREAS[shape])
        centre = (
            middle[0],
            middle[1] + (0.096 * radius if shape == "star" else 0.08 * radius if shape == "triangle" else 0),
        )
        grid = torch.tensor(
            [
                (centre[0] + dx, centre[1] + dy, radius * scale)
                for dx, dy, scale in product(shifts, shifts, (0.94, 1.0, 1.06))
            ]
        )
        x, y, radii = grid.unbind(1)
        masks = coverage(shape, x, y, radii, side) > 0.5
        iou = (masks & region).sum(dim=(1, 2)) / (masks | region).sum(dim=(1, 2))
        if float(iou.max()) > best[1]:
            best = (shape, float(iou.max()), float(grid[int(iou.argmax()), 2]))
    return best


def _look_at(thing: Thing, region: Tensor | None, pair: bool) -> ThingVerdict:
    if region is None:
        return ThingVerdict(thing, "", 0.0, 0.0, math.nan, math.nan, "")
    shape, iou, radius = match_shape(region)
    rows, columns = region.nonzero().float().mean(dim=0).tolist()
    side = region.shape[0]
    size = min(SIZES, key=lambda s: abs(math.log(RADII[pair][s] / radius)))
    return ThingVerdict(
        thing,
        shape if iou >= MIN_IOU else "",
        iou,
        float(region.sum()) / side**2,
        (columns + 0.5) / side,
        (rows + 0.5) / side,
        size,
    )


def _assign(scene: Scene, labels: Tensor) -> list[Tensor | None]:
    """The region of each thing: the largest of its colour; two things of one colour share them out along their
    relation.
    """
    found = {c: regions(labels == _NAMES.index(c)) for c in {t.colour for t in scene.things}}
    if len(scene.things) == 2 and scene.things[0].colour == scene.things[1].colour:
        dx, dy = RELATIONS[scene.relation]
        pair = found[scene.things[0].colour][:2]

        def along(region: Tensor) -> float:
            y, x = region.nonzero().float().mean(dim=0).tolist()
            return -(x * dx + y * dy)

        return [*sorted(pair, key=along), *[None] * (2 - len(pair))]
    return [next(iter(found[t.colour]), None) for t in scene.things]


def judge(picture: Tensor, scene: Scene | str) -> Verdict:
    """Judge ``picture`` (3, H, W) or (1, 3, H, W) in [0, 1] against a scene or its caption.

    Raises:
        ValueError: the picture's shape is another, the caption is not of the grammar, or a thing has the colour of
        its ground.
    """
    if picture.ndim == 4 and picture.shape[0] == 1:
        picture = picture[0]
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"picture: got shape {tuple(picture.shape)}; the judge takes one picture (3, H, W) in [0, 1]")
    scene = parse(scene) if isinstance(scene, str) else scene
    if any(t.colour == scene.ground for t in scene.things):
        raise ValueError(
            f"scene: a {scene.ground} thing on a {scene.ground} background cannot be seen; change one of the colours"
        )
    small = F.interpolate(picture[None].detach().float(), (SIDE, SIDE), mode="area")[0].clamp(0, 1)
    labels = segment(small)
    frame = torch.cat([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    ground = int(frame.mode().values)
    found = _assign(scene, labels)
    things = tuple(_look_at(t, r, len(scene.things) == 2) for t, r in zip(scene.things, found, strict=True))
    explained = labels == ground
    for region in found:
        if region is not None:
            explained |= region
    return Verdict(scene, None if ground == _NO_COLOUR else _NAMES[ground], things, float((~explained).float().mean()))
