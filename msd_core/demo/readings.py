"""What the judge reads from matches that were found: ground, relation, style, colours, and what no match explains.

Conventions: pictures and empty grounds are (3, SIDE, SIDE) in [0, 1]; areas are (SIDE, SIDE); x to the right, y down.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .grammar import BESIDE, GROUPS, Scene
from .grounds import COLOURS, GROUNDS, INK, distance, ground_picture
from .matching import Fit, evidence, gap, part_masks, silhouette
from .scenes import LINE, SIDE
from .silhouettes import PARTS

TOUCH = 0.04
"""A thing whose lowest point is as near as this to the top of another one may stand on it."""
FOREGROUND = 0.2
"""A pixel as far as this from the ground (Euclidean, RGB in [0, 1]) is no ground."""
Look = dict[tuple[str, bool], Fit]
"""The best fits at one place of every thing, flat (False) and outlined (True)."""


def nearest_ground(picture: Tensor) -> tuple[str, float]:
    """The ground that agrees best with ``picture`` (3, S, S), and how far the nearer half of its pixels is from it."""
    half = picture.shape[1] * picture.shape[2] // 2

    def away_from(ground: str) -> float:
        away = distance(picture, ground_picture(ground, picture.shape[-1])).flatten()
        return float(away.sort().values[:half].mean())

    distances = {ground: away_from(ground) for ground in GROUNDS}
    best = min(distances, key=distances.__getitem__)
    return best, distances[best]


def relation_right(scene: Scene, fits: list[Fit], overlap: float) -> bool:
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


def colour_share(picture: Tensor, fit: Fit, colour: str, before: Tensor) -> float:
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


def ink_shows(ground: Tensor) -> bool:
    """Whether outlines can be told from the empty ``ground``."""
    return float(distance(ground, torch.tensor(INK)[:, None, None]).mean()) > 0.3


def read_style(looks: list[Look], fits: list[Fit], ground: Tensor) -> str:
    """The style whose templates match better, over all things; "" where it makes no difference."""
    if not ink_shows(ground):
        return ""
    difference = sum(
        look[fit.thing, True].score - look[fit.thing, False].score for look, fit in zip(looks, fits, strict=True)
    )
    return "" if abs(difference) < 0.01 else "outlined" if difference > 0 else "flat"


def cover(fits: list[Fit]) -> Tensor:
    """What the matches cover and the two pixels around: (SIDE, SIDE) bool."""
    covered = torch.stack([silhouette(fit, SIDE) for fit in fits]).amax(dim=0)
    return F.max_pool2d(covered[None, None], 5, stride=1, padding=2)[0, 0] > 0.5


def stray_share(picture: Tensor, empty: Tensor, covered: Tensor) -> float:
    """Share of pixels that are neither ground nor covered."""
    return float(((distance(picture, empty) > FOREGROUND) & ~covered).float().mean())


def near(fit: Fit) -> Tensor:
    """The pixels within two radii of ``fit``: (SIDE, SIDE) bool."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    return (axis[None, :] - fit.x) ** 2 + (axis[:, None] - fit.y) ** 2 < (2 * fit.radius) ** 2


def silhouette_iou(picture: Tensor, empty: Tensor, fit: Fit, others: Tensor) -> float:
    """Intersection over union of ``fit``'s silhouette and of what is no ground near it, ``others`` (SIDE, SIDE) bool
    left out of both.
    """
    own = (silhouette(fit, SIDE) > 0.5) & ~others
    seen = (distance(picture, empty) > FOREGROUND) & near(fit) & ~others
    return float((own & seen).sum() / (own | seen).sum().clamp(min=1))


def spill_share(picture: Tensor, empty: Tensor, fit: Fit, colour: str, covered: Tensor) -> float:
    """Area that has ``colour``, is no ground and lies within two radii of ``fit`` but not covered, in areas of
    ``fit``.
    """
    coloured = (evidence(picture, torch.tensor(COLOURS[colour])) > 0.7) & (distance(picture, empty) > FOREGROUND)
    return float((coloured & near(fit) & ~covered).sum() / silhouette(fit, SIDE).sum())


def first_in_front(picture: Tensor, scene: Scene, fits: list[Fit]) -> float:
    """Share of the common area of two matches that shows the first one's main colour and not the second one's; NaN
    without a common area.
    """
    both = silhouette(fits[0], SIDE) * silhouette(fits[1], SIDE) > 0.95
    if int(both.sum()) < 12:
        return math.nan
    first, second = (evidence(picture, torch.tensor(COLOURS[thing.colour])) for thing in scene.things)
    return float((first - second)[both].mean() / 2 + 0.5)
