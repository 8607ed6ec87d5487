"""Find a thing in a picture by its silhouette and the colours of its parts; no network.

Every pixel gives evidence in [0, 1] for each colour: 1 when it is that colour, falling to 0 at a distance. A template
is a thing at some size, flat or outlined: the masks of its parts, and a rim around them that should be ground. The
score of a template at a place is made of three mean evidences, each pixel's for the colour that it should have: of the
parts in the thing's own colour, of its other parts and outlines, and of the rim,

    score = own^0.4 accents^0.2 rim^0.4,    mean = sum_p w_p e_{colour(p)}(p) / sum_p w_p,

with own in the place of accents where there are none.
All places are tried at once by a correlation (FFT). Weights w leave out what is hidden.

Conventions: pictures are (3, H, W) in [0, 1]; places and radii are fractions of the side, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .grounds import ACCENTS, COLOURS, fill
from .scenes import LINE, part_distances
from .silhouettes import PARTS, THINGS, outline, profile

SEARCH_SIDE = 96
"""Whole pictures are searched at this size."""
SEARCH_RADII = tuple(0.085 * 1.09**i for i in range(19))
WINDOW, CELLS, PAD = 1.5, 44, 64
"""A close look is a square of WINDOW radii around the thing, CELLS pixels a side, correlated over PAD."""
CLOSE_RADII = tuple(0.70 * 1.07**i for i in range(12))
"""Radii of the close look, as multiples of the one found before."""
RIM = 0.22
"""Width of a template's rim, in radii."""
OWN = ("main", "shade", "tint")
ROLES = (*OWN, *ACCENTS)


def evidence(picture: Tensor, colour: Tensor) -> Tensor:
    """How much each pixel of ``picture`` (3, H, W) is ``colour``, (3,) or (3, H, W): 1 up to a distance of 0.08, 0
    from 0.28 on.
    """
    colour = colour[:, None, None] if colour.ndim == 1 else colour
    return (1.4 - (picture - colour).norm(dim=0) / 0.2).clamp(0.0, 1.0)


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
    """Fourier transforms of one thing's templates at B sizes: parts by role, and the rim, each (B, PAD, PAD/2 + 1)."""

    roles: dict[str, Tensor]
    rim: Tensor


def make_templates(thing: str, radii: Tensor, line: Tensor | None, side: int, pad: int) -> Templates:
    """Templates of ``thing`` in the middle of a square of ``side`` pixels, with ``radii`` (B,) in fractions of it."""
    half = torch.full_like(radii, 0.5)
    masks, ink, _, rim = part_masks(thing, half, half, radii, side, line)
    roles: dict[str, Tensor] = {}
    for part, mask in zip(PARTS[thing], masks, strict=True):
        roles[part.colour] = roles.get(part.colour, torch.zeros_like(mask)) + mask
    if line is not None:
        roles["ink"] = roles.get("ink", torch.zeros_like(ink)) + ink

    def transform(mask: Tensor) -> Tensor:
        return torch.fft.rfft2(mask, s=(pad, pad)).conj()

    return Templates({role: transform(mask) for role, mask in roles.items()}, transform(rim))


@cache
def search_templates(thing: str, outlined: bool) -> Templates:
    """Templates for a whole picture, at SEARCH_RADII."""
    radii = torch.tensor(SEARCH_RADII)
    line = torch.full_like(radii, LINE * SEARCH_SIDE) if outlined else None
    return make_templates(thing, radii, line, SEARCH_SIDE, SEARCH_SIDE)


def close_templates(thing: str, radius: float, outlined: bool) -> Templates:
    """Templates for a close look at a thing of about ``radius``."""
    lines = max(0.10, min(0.19, round(LINE / radius / 0.015) * 0.015))  # widths in radii, few of them
    return _close_templates(thing, lines if outlined else None)


@cache
def _close_templates(thing: str, line: float | None) -> Templates:
    radii = torch.tensor(CLOSE_RADII) / (2 * WINDOW)
    pixels = None if line is None else torch.full_like(radii, line * CELLS / (2 * WINDOW))
    return make_templates(thing, radii, pixels, CELLS, PAD)


@dataclass(frozen=True)
class Seen:
    """A picture as templates meet it, by transforms (PAD, PAD/2 + 1): evidence by role, evidence for the ground, and
    the weights of a thing's own pixels and of its rim's, all times those weights; ``counts`` in [0, 1] says how much
    a role stands out from the ground, and is weighed by it.
    """

    roles: dict[str, Tensor]
    counts: dict[str, float]
    ground: Tensor
    own: Tensor
    rim: Tensor


def see(picture: Tensor, ground: Tensor, colour: str, own: Tensor, rim: Tensor, pad: int) -> Seen:
    """What templates in ``colour`` meet in ``picture`` (3, S, S) over ``ground``, with weights (S, S)."""

    def transform(layer: Tensor) -> Tensor:
        return torch.fft.rfft2(layer, s=(pad, pad))

    roles, counts = {}, {}
    for role in ROLES:
        value = torch.tensor(fill(role, COLOURS[colour]))
        roles[role] = transform(evidence(picture, value) * own)
        away = float((ground - value[:, None, None]).norm(dim=0).mean())
        counts[role] = 1.0 if role == "main" else min(1.0, max(0.0, (away - 0.12) / 0.12))
    return Seen(roles, counts, transform(evidence(picture, ground) * rim), transform(own), transform(rim))


def correlate(seen: Seen, templates: Templates) -> Tensor:
    """Scores (B, PAD, PAD) of templates at all shifts."""
    zero = torch.zeros_like(templates.rim)
    sums = {name: [zero, zero] for name in ("own", "accents")}
    for role, mask in templates.roles.items():
        total, share = sums["own" if role in OWN else "accents"], seen.counts[role]
        if share > 0:
            total[0] = total[0] + share * (seen.roles[role] * mask)
            total[1] = total[1] + share * (seen.own * mask)
    stacked = [*sums["own"], seen.ground * templates.rim, seen.rim * templates.rim]
    if sums["accents"][0] is not zero:
        stacked += sums["accents"]
    fields = torch.fft.irfft2(torch.stack(stacked))
    own, rim, *accents = (
        s / torch.maximum(w, 0.3 * w.amax(dim=(1, 2), keepdim=True))
        for s, w in zip(fields[::2].clamp(min=0), fields[1::2], strict=True)
    )
    return own**0.4 * rim**0.4 * (accents[0] if accents else own) ** 0.2


@dataclass(frozen=True)
class Fit:
    """A thing's best template: its name, whether outlined, its score in [0, 1], its place and radius."""

    thing: str
    outlined: bool
    score: float
    x: float
    y: float
    radius: float


def _best(scores: Tensor, thing: str, outlined: bool, radii: Sequence[float]) -> tuple[float, int, int, float]:
    flat = int(scores.argmax())
    size, place = divmod(flat, scores.shape[1] * scores.shape[2])
    row, column = divmod(place, scores.shape[2])
    pad = scores.shape[-1]
    wrap = [v - pad if v >= pad // 2 else v for v in (row, column)]
    return float(scores.flatten()[flat]), wrap[0], wrap[1], radii[size]


def search(
    picture: Tensor, ground: Tensor, thing: str, colour: str, hidden: Tensor | None = None, others: Sequence[str] = ()
) -> Fit:
    """The best place for ``thing`` in ``colour`` anywhere in ``picture`` (3, S, S) with the empty ground ``ground``.

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
    seen, fits = see(small, empty, colour, own, rim, SEARCH_SIDE), []
    for outlined in (False, True):
        scores = correlate(seen, search_templates(thing, outlined))
        score, row, column, radius = _best(scores, thing, outlined, SEARCH_RADII)
        fits.append(Fit(thing, outlined, score, 0.5 + column / SEARCH_SIDE, 0.5 + row / SEARCH_SIDE, radius))
    return max(fits, key=lambda fit: fit.score)


def look_closely(
    picture: Tensor, ground: Tensor, fit: Fit, colour: str, seen: Tensor, clear: Tensor
) -> dict[tuple[str, bool], Fit]:
    """The best fit near ``fit`` of every thing, flat and outlined, in ``colour``.

    Args:
        picture, ground: (3, S, S).
        seen, clear: (S, S) in [0, 1], where the thing's own pixels and its rim's count.
    """
    reach = WINDOW * fit.radius
    axis = (2 * (torch.arange(CELLS) + 0.5) / CELLS - 1) * reach
    y, x = torch.meshgrid(2 * (fit.y + axis) - 1, 2 * (fit.x + axis) - 1, indexing="ij")
    layers = torch.cat([picture, ground, seen[None], clear[None]])[None]
    window = F.grid_sample(layers, torch.stack([x, y], dim=-1)[None], padding_mode="border", align_corners=False)[0]
    met = see(window[:3], window[3:6], colour, window[6], window[7], PAD)
    fits = {}
    for thing in THINGS:
        for outlined in (False, True):
            scores = correlate(met, close_templates(thing, fit.radius, outlined))
            score, row, column, scale = _best(scores, thing, outlined, CLOSE_RADII)
            step = 2 * reach / CELLS
            place = (fit.x + column * step, fit.y + row * step, scale * fit.radius)
            fits[thing, outlined] = Fit(thing, outlined, score, *place)
    return fits


def silhouette(fit: Fit, side: int) -> Tensor:
    """What ``fit`` covers of a picture of ``side`` pixels, (side, side) in [0, 1]."""
    line = torch.tensor([LINE * side]) if fit.outlined else None
    place = (torch.tensor([v]) for v in (fit.x, fit.y, fit.radius))
    return part_masks(fit.thing, *place, side, line)[2][0]


def gap(upper: Fit, lower: Fit) -> float:
    """Vertical distance from the lowest point of ``upper`` to the top of ``lower``, in fractions of the side."""
    return (lower.y + profile(lower.thing)[0] * lower.radius) - (upper.y + profile(upper.thing)[1] * upper.radius)
