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
from .grammar import RADII, SCALES, SIZES, Scene, Thing, parse
from .grounds import COLOURS, distance, ground_picture
from .matching import Fit, search, silhouette
from .readings import (
    Look,
    colour_share,
    cover,
    first_in_front,
    nearest_ground,
    read_style,
    relation_right,
    silhouette_iou,
    spill_share,
    stray_share,
)
from .scenes import SIDE

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
MIN_CONTRAST = 0.12
"""A thing whose colour is nearer than this to its ground, on average over the ground, cannot be judged."""


@dataclass(frozen=True)
class ThingVerdict:
    """What the judge saw of one thing of the caption.

    ``shape`` is the best match ("" if none is good enough), ``score`` that of the expected thing's template in [0, 1],
    ``rival`` the best score of another thing there, ``iou`` the intersection over union of its silhouette and of what
    is no ground around, ``colour_share`` the mean evidence for the thing's colour where it
    should be, ``spill`` how much of that colour lies around the match and not in it, as a share of its area, ``x``,
    ``y`` and ``radius`` its place in fractions of the side, ``size`` the size word nearest to it.
    """

    expected: Thing
    shape: str
    score: float
    rival: float
    iou: float
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
    if len(fits) == 2 and scene.things[0] == scene.things[1] and not relation_right(scene, fits, math.nan):
        return fits[::-1]
    return fits


@dataclass(frozen=True)
class _Seen:
    """One thing of the caption as it was found: the best fits of all things there, its own one, what hides it, and what
    its surroundings are hidden by, both (SIDE, SIDE) in [0, 1].
    """

    look: Look
    fit: Fit
    before: Tensor
    others: Tensor


def _look(scene: Scene, picture: Tensor, empty: Tensor, fits: list[Fit]) -> list[_Seen]:
    """All things of the world tried at every place."""
    masks, nothing, seen = [silhouette(fit, SIDE) for fit in fits], torch.zeros(SIDE, SIDE), []
    for i, (fit, thing) in enumerate(zip(fits, scene.things, strict=True)):
        before = torch.stack([nothing, *masks[:i]]).amax(dim=0)
        others = torch.stack([nothing, *masks[:i], *masks[i + 1 :]]).amax(dim=0)
        others = F.max_pool2d(others[None, None], 3, stride=1, padding=1)[0, 0]
        look = look_closely(picture, empty, fit, thing.colour, 1 - before, 1 - others)
        own = max((look[thing.shape, outlined] for outlined in (False, True)), key=lambda f: f.score)
        seen.append(_Seen(look, own, before, others))
    return seen


def _thing_verdict(
    scene: Scene, thing: Thing, seen: _Seen, picture: Tensor, empty: Tensor, all_: Tensor
) -> ThingVerdict:
    """What was seen of ``thing``; ``all_`` is what all things cover, (SIDE, SIDE) bool."""
    fit = seen.fit
    rival = max((f for (name, _), f in seen.look.items() if name != thing.shape), key=lambda f: f.score)
    best = fit if fit.score >= rival.score - TIE else rival
    radii = {size: SCALES.get(scene.relation, 1.0) * r for size, r in RADII[len(scene.things)].items()}
    return ThingVerdict(
        expected=thing,
        shape=best.thing if best.score >= MIN_SCORE else "",
        score=fit.score,
        rival=rival.score,
        iou=silhouette_iou(picture, empty, fit, seen.others > 0.5),
        colour_share=colour_share(picture, fit, thing.colour, seen.before),
        spill=spill_share(picture, empty, fit, thing.colour, all_),
        x=fit.x,
        y=fit.y,
        radius=fit.radius,
        size=min(SIZES, key=lambda s: abs(math.log(radii[s] / fit.radius))),
    )


def check_visible(scene: Scene) -> None:
    """Refuse a scene that no picture can be judged against.

    Raises:
        ValueError: a thing cannot be seen on its ground.
    """
    told = ground_picture(scene.ground, 32)
    for thing in scene.things:
        if float(distance(told, torch.tensor(COLOURS[thing.colour])[:, None, None]).mean()) < MIN_CONTRAST:
            raise ValueError(
                f"scene: a {thing.colour} thing cannot be seen on this ground ({scene.ground or 'light grey'}); change "
                f"one of the two"
            )


def _checked(picture: Tensor, scene: Scene | str) -> tuple[Tensor, Scene]:
    """The picture (3, SIDE, SIDE) and the scene that can be judged; errors as `judge`."""
    if picture.ndim == 4 and picture.shape[0] == 1:
        picture = picture[0]
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"picture: got shape {tuple(picture.shape)}; the judge takes one picture (3, H, W) in [0, 1]")
    scene = parse(scene) if isinstance(scene, str) else scene
    check_visible(scene)
    return F.interpolate(picture[None].detach().float(), (SIDE, SIDE), mode="area")[0].clamp(0, 1), scene


def judge(picture: Tensor, scene: Scene | str) -> Verdict:
    """Judge ``picture`` (3, H, W) or (1, 3, H, W) in [0, 1] against a scene or its caption.

    Raises:
        ValueError: the picture's shape is another, the caption is not of the grammar, or a thing cannot be seen on its
            ground.
    """
    picture, scene = _checked(picture, scene)
    ground, away = nearest_ground(picture)
    empty = ground_picture(ground, SIDE)
    seen = _look(scene, picture, empty, _in_order(scene, _places(scene, picture, empty)))
    fits = [one.fit for one in seen]
    covered = cover(fits)
    front = first_in_front(picture, scene, fits) if scene.relation == "in front of" else math.nan
    return Verdict(
        scene=scene,
        ground=ground if away < MAX_GROUND_DISTANCE else None,
        things=tuple(
            _thing_verdict(scene, thing, one, picture, empty, covered)
            for thing, one in zip(scene.things, seen, strict=True)
        ),
        place_right=relation_right(scene, fits, front),
        style=read_style([one.look for one in seen], fits, empty),
        stray=stray_share(picture, empty, covered),
    )
