"""Find a thing in a picture by its silhouette and the colours of its parts; no network.

Every pixel gives evidence in [0, 1] for each colour: 1 when it is that colour, falling to 0 at a distance. A template
is a thing at some size, flat or outlined: the masks of its parts, and a rim around them that should be ground. The
score of a template at a place is the geometric mean of two mean evidences, of its parts' pixels and of its rim's, each
pixel's for the colour that it should have,

    score = sqrt(parts rim) min(1, own/MIN_OWN),    mean = sum_p w_p e_{colour(p)}(p) / sum_p w_p,

less when the parts in the thing's own colour, own, hardly have it.
All places are tried at once by a correlation (FFT). Weights w leave out what is hidden.

Conventions: pictures are (3, H, W) in [0, 1]; places and radii are fractions of the side, x to the right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .grounds import ACCENTS, COLOURS, distance, fill
from .scenes import LINE, part_distances
from .silhouettes import PARTS, outline, profile

SEARCH_SIDE = 96
"""Whole pictures are searched at this size."""
SEARCH_RADII = tuple(0.085 * 1.09**i for i in range(19))
RIM = 0.22
"""Width of a template's rim, in radii."""
MIN_OWN = 0.6
OWN = ("main", "shade", "tint")
ROLES = (*OWN, *ACCENTS)


def evidence(picture: Tensor, colour: Tensor) -> Tensor:
    """How much each pixel of ``picture`` (3, H, W) is ``colour``, (3,) or (3, H, W): 1 up to a distance of 0.08, 0
    from 0.28 on.
    """
    colour = colour[:, None, None] if colour.ndim == 1 else colour
    return (1.4 - distance(picture, colour) / 0.2).clamp(0.0, 1.0)


def part_masks(
    thing: str, cx: Tensor, cy: Tensor, radius: Tensor, side: int, line: Tensor | None
) -> tuple[Tensor, ...]:
    """What is seen of each part, (parts, B, side, side), of the outlines, of the silhouette and of the rim, each
    (B, side, side); ``line`` is the outlines' width in pixels, (B,), None without.
    """
    distances = part_distances(thing, cx, cy, radius, side)
    covered = (0.5 - distances).clamp(0.0, 1.0)
    if line is None:
        ink, reach = torch.zeros_like(covered[0]), distances.amin(dim=0)
    else:
        ink = (0.5 + line[:, None, None] / 2 - outline(list(distances))).clamp(0.0, 1.0)
        reach = distances.amin(dim=0) - line[:, None, None] / 2
    masks, above = [], 1 - ink
    for alpha in covered.flip(0):
        masks.append(alpha * above)
        above = above * (1 - alpha)
    silhouette = (0.5 - reach).clamp(0.0, 1.0)
    rim = (0.5 + RIM * radius[:, None, None] * side - reach).clamp(0.0, 1.0) - silhouette
    return torch.stack(masks[::-1]), ink, silhouette, rim


@dataclass(frozen=True)
class Templates:
    """Fourier transforms of one thing's templates at B sizes: parts by role, and the rim, each (B, S, S/2 + 1)."""

    roles: dict[str, Tensor]
    rim: Tensor


def role_masks(thing: str, radii: Tensor, side: int, line: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
    """Masks by role and the rim, each (B, side, side), of ``thing`` in the middle of a square of ``side`` pixels.

    Args:
        radii: (B,), in fractions of the side.
        line: the outlines' width in pixels, (B,), None without.
    """
    half = torch.full_like(radii, 0.5)
    masks, ink, _, rim = part_masks(thing, half, half, radii, side, line)
    roles: dict[str, Tensor] = {}
    for part, mask in zip(PARTS[thing], masks, strict=True):
        roles[part.colour] = roles.get(part.colour, torch.zeros_like(mask)) + mask
    if line is not None:
        roles["ink"] = roles.get("ink", torch.zeros_like(ink)) + ink

    return roles, rim


@cache
def search_templates(thing: str, outlined: bool) -> Templates:
    """Templates for a whole picture, at SEARCH_RADII."""
    radii = torch.tensor(SEARCH_RADII)
    line = torch.full_like(radii, LINE * SEARCH_SIDE) if outlined else None
    masks, rim = role_masks(thing, radii, SEARCH_SIDE, line)
    return Templates({role: torch.fft.rfft2(mask).conj() for role, mask in masks.items()}, torch.fft.rfft2(rim).conj())


def score(own: Tensor, parts: Tensor, rim: Tensor) -> Tensor:
    """The module's score of three mean evidences of one shape."""
    return (parts * rim).sqrt() * (own / MIN_OWN).clamp(max=1.0)


@dataclass(frozen=True)
class Seen:
    """A picture as templates meet it, by transforms (S, S/2 + 1): evidence by role, evidence for the ground, and
    the weights of a thing's own pixels and of its rim's, all times those weights; ``counts`` in [0, 1] says how much
    a role stands out from the ground, and is weighed by it.
    """

    roles: dict[str, Tensor]
    counts: dict[str, float]
    ground: Tensor
    own: Tensor
    rim: Tensor


def standing_out(ground: Tensor, colour: str) -> dict[str, float]:
    """How much each role of a thing in ``colour`` stands out from ``ground`` (3, S, S), in [0, 1]; 1 for "main"."""
    counts = {}
    for role in ROLES:
        value = torch.tensor(fill(role, COLOURS[colour]))[:, None, None]
        away = float(distance(ground, value).mean())
        counts[role] = 1.0 if role == "main" else min(1.0, max(0.0, (away - 0.12) / 0.12))
    return counts


def role_evidence(picture: Tensor, colour: str) -> dict[str, Tensor]:
    """Evidence (H, W) of ``picture`` for every role that a part's colour can have in a thing of ``colour``."""
    return {role: evidence(picture, torch.tensor(fill(role, COLOURS[colour]))) for role in ROLES}


def see(picture: Tensor, ground: Tensor, colour: str, own: Tensor, rim: Tensor) -> Seen:
    """What templates in ``colour`` meet in ``picture`` (3, S, S) over ``ground``, with weights (S, S)."""
    roles = {role: torch.fft.rfft2(e * own) for role, e in role_evidence(picture, colour).items()}
    around = torch.fft.rfft2(torch.stack([evidence(picture, ground) * rim, own, rim]))
    return Seen(roles, standing_out(ground, colour), *around)


def correlate(seen: Seen, templates: Templates) -> Tensor:
    """Scores (B, S, S) of templates at all shifts."""
    own, own_area, rest, rest_area = (torch.zeros_like(templates.rim) for _ in range(4))
    for role, mask in templates.roles.items():
        share = seen.counts[role]
        if role in OWN:
            own, own_area = own + seen.roles[role] * mask, own_area + seen.own * mask
        elif share > 0:
            rest, rest_area = rest + share * (seen.roles[role] * mask), rest_area + share * (seen.own * mask)
    fields = [own, own + rest, seen.ground * templates.rim]
    areas = [own_area, own_area + rest_area, seen.rim * templates.rim]
    sums, weights = torch.fft.irfft2(torch.stack([*fields, *areas])).clamp(min=0).chunk(2)
    return score(*sums / torch.maximum(weights, 0.3 * weights.amax(dim=(-2, -1), keepdim=True)))


@dataclass(frozen=True)
class Fit:
    """A thing's best template: its name, whether outlined, its score in [0, 1], its place and radius."""

    thing: str
    outlined: bool
    score: float
    x: float
    y: float
    radius: float


def _best(scores: Tensor) -> tuple[float, int, int, float]:
    """The best of scores (B, S, S): itself, its shift down and to the right in pixels, and its radius."""
    flat = int(scores.argmax())
    size, place = divmod(flat, scores.shape[1] * scores.shape[2])
    row, column = divmod(place, scores.shape[2])
    pad = scores.shape[-1]
    wrap = [v - pad if v >= pad // 2 else v for v in (row, column)]
    return float(scores.flatten()[flat]), wrap[0], wrap[1], SEARCH_RADII[size]


def search(
    picture: Tensor, ground: Tensor, thing: str, colour: str, hidden: Tensor | None = None, others: Sequence[str] = ()
) -> list[Fit]:
    """The best place for ``thing`` in ``colour`` anywhere in ``picture`` (3, S, S) with the empty ground ``ground``:
    the better of flat and outlined, and the other one too where it is elsewhere or of another size.

    Args:
        hidden: (S, S) bool, where other things were found already; None is nowhere.
        others: colours of other things, which do not count against a rim.
    """
    small, empty = (F.interpolate(p[None], (SEARCH_SIDE,) * 2, mode="area")[0] for p in (picture, ground))
    own = torch.ones(SEARCH_SIDE, SEARCH_SIDE)
    if hidden is not None:
        own = 1 - F.interpolate(hidden[None, None].float(), (SEARCH_SIDE,) * 2, mode="area")[0, 0]
    rim = own
    for other in others:
        rim = rim * (1 - evidence(small, torch.tensor(COLOURS[other])))
    seen, fits = see(small, empty, colour, own, rim), []
    for outlined in (False, True):
        scores = correlate(seen, search_templates(thing, outlined))
        best, row, column, radius = _best(scores)
        fits.append(Fit(thing, outlined, best, 0.5 + column / SEARCH_SIDE, 0.5 + row / SEARCH_SIDE, radius))
    best, other = sorted(fits, key=lambda fit: -fit.score)
    near = math.hypot(best.x - other.x, best.y - other.y) < 0.1 * best.radius
    return [best] if near and abs(math.log(best.radius / other.radius)) < 0.1 else [best, other]


def silhouette(fit: Fit, side: int) -> Tensor:
    """What ``fit`` covers of a picture of ``side`` pixels, (side, side) in [0, 1]."""
    line = torch.tensor([LINE * side]) if fit.outlined else None
    x, y, radius = (torch.tensor([v]) for v in (fit.x, fit.y, fit.radius))
    return part_masks(fit.thing, x, y, radius, side, line)[2][0]


def gap(upper: Fit, lower: Fit) -> float:
    """Vertical distance from the lowest point of ``upper`` to the top of ``lower``, in fractions of the side."""
    return (lower.y + profile(lower.thing)[0] * lower.radius) - (upper.y + profile(upper.thing)[1] * upper.radius)
