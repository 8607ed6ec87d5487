"""A judge of pictures that is not a network: match the ground, the silhouettes, their parts; compare with the caption.

1. The ground is the empty ground that most of the picture agrees with.
2. Every thing of the caption is searched for in its colour, over all places and sizes (:mod:`.matching`).
3. There, all things of the world are tried, flat and outlined; the best match names what is seen.
4. Relation and style are read from the matches; what neither ground nor a match explains is stray.

A picture is accepted when every thing is there in its colour and silhouette, relation or position, ground and style are
the caption's, and hardly anything is stray. Size is reported, and does not decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .close_look import look_closely
from .grammar import BESIDE, GROUPS, RADII, SIZES, Scene, Thing, parse
from .grounds import COLOURS, GROUNDS, INK, ground_picture
from .grounds import distance as rgb_distance
from .matching import Fit, evidence, gap, part_masks, search, silhouette
from .scenes import LINE
from .silhouettes import PARTS

SIDE = 128
"""Pictures are judged at this size."""
MIN_SCORE = 0.6
"""A thing whose own template scores less is not there."""
TIE = 0.004
"""Templates within this score of the best one are as good as it."""
MIN_COLOUR = 0.5
"""Mean evidence that a thing's main part has its colour, below which it has not."""
MAX_GROUND_DISTANCE = 0.16
"""Mean distance of the nearer half of the pixels from a ground (Euclidean, RGB in [0, 1]); none is as far as this."""
MAX_SPILL = 0.1
"""Colour of a thing beside its match, as a share of the match's area; more is another thing's."""
MAX_STRAY = 0.02
"""Share of the picture that may be neither ground nor thing."""
TOUCH = 0.04
"""A thing whose lowest point is as near as this to the top of another one may stand on it."""
MIN_CONTRAST = 0.12
"""A thing whose colour is nearer than this to its ground, on average over the ground, cannot be judged."""


@dataclass(frozen=True)
class ThingVerdict:
    """What the judge saw of one thing of the caption.

    ``shape`` is the best match ("" if none is good enough), ``score`` that of the expected thing's template in [0, 1],
    ``rival`` the best score of another thing there, ``colour_share`` the mean evidence for the thing's colour where it
    should be, ``spill`` how much of that colour lies around the match and not in it, as a share of its area, ``x``,
    ``y`` and ``radius`` its place in fractions of the side, ``size`` the size word nearest to it.
    """

    expected: Thing
    shape: str
    score: float
    rival: float
    colour_share: float
    spill: float
    x: float
    y: float
    radius: float
    size: str

    @property
    def colour_right(self) -> bool:
        """What stands where the thing matches best has its colour."""
        return self.colour_share >= MIN_COLOUR

    @property
    def shape_right(self) -> bool:
        """The best match is the expected thing, and it is all that there is of its colour."""
        return self.colour_right and self.shape == self.expected.shape and self.spill <= MAX_SPILL


@dataclass(frozen=True)
class Verdict:
    """What the judge saw of a picture; ``ground`` is one of `grounds.GROUNDS`, None for none of them; ``style`` that of
    the better matches; ``stray`` the share of the picture that nothing explains.
    """

    scene: Scene
    ground: str | None
    things: tuple[ThingVerdict, ...]
    place_right: bool
    style: str
    stray: float

    @property
    def background_right(self) -> bool:
        """The ground is the caption's."""
        return self.ground == self.scene.ground

    @property
    def colours_right(self) -> bool:
        """Every thing is there in its colour."""
        return all(t.colour_right for t in self.things)

    @property
    def shapes_right(self) -> bool:
        """Every thing has its silhouette."""
        return all(t.shape_right for t in self.things)

    @property
    def sizes_right(self) -> bool:
        """Every thing is nearest to its own size word."""
        return all(t.size == t.expected.size for t in self.things)

    @property
    def style_right(self) -> bool:
        """The things are flat or outlined, as the caption says; either, where the two cannot be told apart."""
        return self.style in ("", self.scene.style)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What keeps the picture from being accepted, in words: of a missing or miscoloured thing only "colour"."""
        parts = {
            "background": self.background_right,
            "colour": self.colours_right,
            "shape": self.shapes_right or not self.colours_right,
            "place": self.place_right or not self.colours_right,
            "style": self.style_right,
            "stray": self.stray <= MAX_STRAY,
        }
        return tuple(name for name, right in parts.items() if not right)

    @property
    def accepted(self) -> bool:
        """All is right but perhaps the sizes, and hardly anything is stray."""
        return not self.wrong


def nearest_ground(picture: Tensor) -> tuple[str, float]:
    """The ground that agrees best with ``picture`` (3, S, S), and how far the nearer half of its pixels is from it."""
    half = picture.shape[1] * picture.shape[2] // 2

    def distance(ground: str) -> float:
        away = rgb_distance(picture, ground_picture(ground, picture.shape[-1])).flatten()
        return float(away.sort().values[:half].mean())

    distances = {ground: distance(ground) for ground in GROUNDS}
    best = min(distances, key=distances.__getitem__)
    return best, distances[best]


def _relation_right(scene: Scene, fits: list[Fit], overlap: float) -> bool:
    """Whether the things' places say what the caption says; ``overlap`` is the share of a common area that shows the
    first of two things, NaN without such an area.
    """
    if len(fits) == 1:
        x, y, _ = scene.layout()[0]
        return math.hypot(fits[0].x - x, fits[0].y - y) < 0.1
    if len(fits) == 3:
        places = GROUPS[scene.relation]
        middle = [sum(f.x for f in fits) / 3, sum(f.y for f in fits) / 3]
        centre = [sum(p[k] for p in places) / 3 for k in (0, 1)]
        away = (
            math.hypot(f.x - middle[0] - p[0] + centre[0], f.y - middle[1] - p[1] + centre[1])
            for f, p in zip(fits, places, strict=True)
        )
        return max(away) < 0.13
    first, second = fits
    dx, dy = first.x - second.x, first.y - second.y
    if scene.relation == "in front of":
        return math.hypot(dx, dy) < 0.4 and dx < 0 < dy and not overlap < 0.5
    if scene.relation == "on":
        return abs(dx) < 0.12 and dy < 0 and abs(gap(first, second)) <= TOUCH
    along = [dx, dy][BESIDE[scene.relation][0] == 0] * sum(BESIDE[scene.relation])
    across = [dy, dx][BESIDE[scene.relation][0] == 0]
    apart = scene.relation not in ("above", "below") or gap(*sorted(fits, key=lambda f: f.y)) > TOUCH / 2
    return along > 0.2 and abs(across) < 0.2 and apart


def _places(scene: Scene, picture: Tensor, empty: Tensor) -> list[Fit]:
    """Where every thing matches best, the first ones first; what they cover is hidden from the others."""
    fits: list[Fit] = []
    hidden, all_seen = torch.zeros(SIDE, SIDE, dtype=torch.bool), torch.ones(SIDE, SIDE)
    for thing in scene.things:
        others = [other.colour for other in scene.things if other.colour != thing.colour]
        found = search(picture, empty, thing.shape, thing.colour, hidden, others)
        if len(found) > 1:  # of two candidates the one that a closer look prefers
            seen = (~hidden).float()
            looks = [look_closely(picture, empty, fit, thing.colour, seen, all_seen) for fit in found]
            scores = [max(look[thing.shape, o].score for o in (False, True)) for look in looks]
            found = [found[scores.index(max(scores))]]
        fits.append(found[0])
        hidden = hidden | (silhouette(found[0], SIDE) > 0.5)
    return fits


def _in_order(scene: Scene, fits: list[Fit]) -> list[Fit]:
    """Two things of one kind and colour are told apart by their places alone: the ones that fit the relation."""
    if len(fits) == 2 and scene.things[0] == scene.things[1] and not _relation_right(scene, fits, math.nan):
        return fits[::-1]
    return fits


def _look(
    scene: Scene, picture: Tensor, empty: Tensor, fits: list[Fit]
) -> tuple[list[dict[tuple[str, bool], Fit]], list[Tensor]]:
    """All things tried at every place, and the silhouettes of the first matches."""
    masks = [silhouette(fit, SIDE) for fit in fits]
    looks = []
    for i, (fit, thing) in enumerate(zip(fits, scene.things, strict=True)):
        before = torch.stack([torch.zeros(SIDE, SIDE), *masks[:i]]).amax(dim=0)
        others = torch.stack([torch.zeros(SIDE, SIDE), *masks[:i], *masks[i + 1 :]]).amax(dim=0)
        others = F.max_pool2d(others[None, None], 3, stride=1, padding=1)[0, 0]
        looks.append(look_closely(picture, empty, fit, thing.colour, 1 - before, 1 - others))
    return looks, masks


def _colour_share(picture: Tensor, fit: Fit, colour: str, before: Tensor) -> float:
    """Mean evidence that what the thing's main part covers is the nearest to ``colour`` of all colours there are."""
    line = torch.tensor([LINE * SIDE]) if fit.outlined else None
    x, y, radius = (torch.tensor([v]) for v in (fit.x, fit.y, fit.radius))
    masks = part_masks(fit.thing, x, y, radius, SIDE, line)[0][:, 0]
    own = torch.stack([m for m, part in zip(masks, PARTS[fit.thing], strict=True) if part.colour == "main"]).sum(dim=0)
    weight = (own > 0.95) * (1 - before)
    palette = torch.tensor(list(COLOURS.values()))
    named = torch.cdist(picture.flatten(1).T, palette).argmin(dim=1).reshape(SIDE, SIDE) == list(COLOURS).index(colour)
    share = evidence(picture, torch.tensor(COLOURS[colour])) * named
    return float((share * weight).sum() / weight.sum().clamp(min=1.0))


def _style(looks: list[dict[tuple[str, bool], Fit]], fits: list[Fit], ink_shows: bool) -> str:
    """The style whose templates match better, over all things; "" where it makes no difference."""
    if not ink_shows:
        return ""
    difference = sum(
        look[fit.thing, True].score - look[fit.thing, False].score for look, fit in zip(looks, fits, strict=True)
    )
    return "" if abs(difference) < 0.01 else "outlined" if difference > 0 else "flat"


def _thing_verdict(
    thing: Thing, look: dict[tuple[str, bool], Fit], fit: Fit, share: float, spill: float, radii: dict[str, float]
) -> ThingVerdict:
    rival = max((f for (name, _), f in look.items() if name != thing.shape), key=lambda f: f.score)
    best = fit if fit.score >= rival.score - TIE else rival
    size = min(SIZES, key=lambda s: abs(math.log(radii[s] / fit.radius)))
    shape = best.thing if best.score >= MIN_SCORE else ""
    return ThingVerdict(thing, shape, fit.score, rival.score, share, spill, fit.x, fit.y, fit.radius, size)


def _covered(fits: list[Fit]) -> Tensor:
    """What the matches cover and the two pixels around: (SIDE, SIDE) bool."""
    covered = torch.stack([silhouette(fit, SIDE) for fit in fits]).amax(dim=0)
    return F.max_pool2d(covered[None, None], 5, stride=1, padding=2)[0, 0] > 0.5


def _stray(picture: Tensor, empty: Tensor, covered: Tensor) -> float:
    """Share of pixels that are neither ground nor covered."""
    return float(((rgb_distance(picture, empty) > 0.2) & ~covered).float().mean())


def _spill(picture: Tensor, empty: Tensor, fit: Fit, colour: str, covered: Tensor) -> float:
    """Area that has ``colour``, is no ground and lies within two radii of ``fit`` but not covered, in areas of
    ``fit``.
    """
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    near = (axis[None, :] - fit.x) ** 2 + (axis[:, None] - fit.y) ** 2 < (2 * fit.radius) ** 2
    coloured = (evidence(picture, torch.tensor(COLOURS[colour])) > 0.7) & (rgb_distance(picture, empty) > 0.2)
    return float((coloured & near & ~covered).sum() / silhouette(fit, SIDE).sum())


def _first_in_front(picture: Tensor, scene: Scene, fits: list[Fit]) -> float:
    """Share of the common area of two matches that shows the first one's main colour and not the second one's; NaN
    without a common area.
    """
    both = silhouette(fits[0], SIDE) * silhouette(fits[1], SIDE) > 0.95
    if int(both.sum()) < 12:
        return math.nan
    first, second = (evidence(picture, torch.tensor(COLOURS[thing.colour])) for thing in scene.things)
    return float((first - second)[both].mean() / 2 + 0.5)


def judge(picture: Tensor, scene: Scene | str) -> Verdict:
    """Judge ``picture`` (3, H, W) or (1, 3, H, W) in [0, 1] against a scene or its caption.

    Raises:
        ValueError: the picture's shape is another, the caption is not of the grammar, or a thing cannot be seen on its
            ground.
    """
    if picture.ndim == 4 and picture.shape[0] == 1:
        picture = picture[0]
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"picture: got shape {tuple(picture.shape)}; the judge takes one picture (3, H, W) in [0, 1]")
    scene = parse(scene) if isinstance(scene, str) else scene
    for thing in scene.things:
        told = ground_picture(scene.ground, 32)
        if float(rgb_distance(told, torch.tensor(COLOURS[thing.colour])[:, None, None]).mean()) < MIN_CONTRAST:
            raise ValueError(
                f"scene: a {thing.colour} thing cannot be seen on this ground ({scene.ground or 'light grey'}); change "
                f"one of the two"
            )
    picture = F.interpolate(picture[None].detach().float(), (SIDE, SIDE), mode="area")[0].clamp(0, 1)
    ground, distance = nearest_ground(picture)
    empty = ground_picture(ground, SIDE)
    fits = _in_order(scene, _places(scene, picture, empty))
    looks, masks = _look(scene, picture, empty, fits)
    fits = [
        max((look[fit.thing, outlined] for outlined in (False, True)), key=lambda f: f.score)
        for look, fit in zip(looks, fits, strict=True)
    ]
    covered = _covered(fits)
    radii, verdicts, before = RADII[len(fits)], [], torch.zeros(SIDE, SIDE)
    for thing, look, fit, mask in zip(scene.things, looks, fits, masks, strict=True):
        share = _colour_share(picture, fit, thing.colour, before)
        spill = _spill(picture, empty, fit, thing.colour, covered)
        verdicts.append(_thing_verdict(thing, look, fit, share, spill, radii))
        before = torch.maximum(before, mask)
    front = _first_in_front(picture, scene, fits) if scene.relation == "in front of" else math.nan
    return Verdict(
        scene,
        ground if distance < MAX_GROUND_DISTANCE else None,
        tuple(verdicts),
        _relation_right(scene, fits, front),
        _style(looks, fits, float(rgb_distance(empty, torch.tensor(INK)[:, None, None]).mean()) > 0.3),
        _stray(picture, empty, covered),
    )
