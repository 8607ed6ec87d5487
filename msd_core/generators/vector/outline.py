"""Closed outlines of cubic Bézier curves, and their chords.

    B(t) = (1 - t)^3 p0 + 3 (1 - t)^2 t c1 + 3 (1 - t) t^2 c2 + t^3 p3,   |B'| <= 3 max |control edge|

An outline is (S, 3, 2): S curves, of each where it begins and its two control points; it ends where the next begins,
the last where the first does. So n chords at equal steps of t, n >= 3 max |control edge| in either direction, are at
most one pixel long in x and in y.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MOST_CHORDS = 2**18
"""Of one curve: more than it has at the largest size that is drawn."""
ARC = 4 / 3
"""A circle's arc of angle a has its control points at 4/3 tan(a/4) radii along the tangents."""


Piece = list[list[float]]
"""Four control points."""


class Chords(NamedTuple):
    """Straight pieces from ``begin`` to ``end``, (N, 2) both, in pixels; ``path`` (N,) is whose they are."""

    begin: Tensor
    end: Tensor
    path: Tensor


def curves(points: Tensor) -> Tensor:
    """The four control points (P, S, 4, 2) of the curves of outlines (P, S, 3, 2)."""
    return torch.cat([points, points[:, :, :1].roll(-1, dims=1)], dim=2)


def circles(centres: Tensor, radii: Tensor, segments: int) -> Tensor:
    """Outlines (P, S, 3, 2) of circles, clockwise where y points down.

    Args:
        centres: (P, 2).
        radii: (P,).
        segments: S curves each.
    """
    angle = 2 * math.pi * torch.arange(segments, dtype=centres.dtype, device=centres.device) / segments
    out = torch.stack([angle.cos(), angle.sin()], dim=-1)
    along = torch.stack([-angle.sin(), angle.cos()], dim=-1) * (ARC * math.tan(math.pi / segments / 2))
    end, back = out.roll(-1, dims=0), along.roll(-1, dims=0)
    unit = torch.stack([out, out + along, end - back], dim=1)
    return centres[:, None, None] + radii[:, None, None, None] * unit


def halved(whole: Tensor, segments: int) -> Tensor:
    """Curves (S, 4, 2) in a row as more of them, the same line: the longest are halved."""
    queue = [(-_length2(piece), float(place), 0.5, piece) for place, piece in enumerate(whole.tolist())]
    heapq.heapify(queue)
    while len(queue) < segments:
        _, place, step, piece = heapq.heappop(queue)
        for begins, half in zip((place, place + step), _halves(piece), strict=True):
            heapq.heappush(queue, (-_length2(half), begins, step / 2, half))
    return torch.tensor([piece for *_, piece in sorted(queue, key=lambda entry: entry[1])], dtype=torch.float64).to(
        whole
    )


def contained(whole: Tensor, low: Sequence[float], high: Sequence[float], short: Sequence[float], most: int) -> Tensor:
    """Curves (S, 4, 2) in a row as more of them, up to ``most``, the same line.

    Each is then in the box from ``low`` to ``high``, beyond one of its sides, or no longer than ``short``: what is
    clamped to the box is the same within it, but for a margin of ``short``.
    """
    done, left = list[Piece](), whole.tolist()[::-1]
    while left:
        piece = left.pop()
        sides = [
            (min(point[i] for point in piece), max(point[i] for point in piece), low[i], high[i], short[i])
            for i in (0, 1)
        ]
        inside = all(least >= below and largest <= above for least, largest, below, above, _ in sides)
        beyond = any(largest <= below or least >= above for least, largest, below, above, _ in sides)
        brief = all(largest - least <= length for least, largest, _, _, length in sides)
        if inside or beyond or brief or len(done) + len(left) + 1 >= most:
            done.append(piece)
        else:
            left += _halves(piece)[::-1]
    return torch.tensor(done, dtype=torch.float64).to(whole)


def _length2(piece: Piece) -> float:
    """Sum of the squares of the control polygon's three sides."""
    return sum((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 for a, b in itertools.pairwise(piece))


def _halves(piece: Piece) -> list[Piece]:
    """A curve's two halves (de Casteljau)."""

    def between(a: list[float], b: list[float]) -> list[float]:
        return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]

    p, q, r, s = piece
    a, b, c = between(p, q), between(q, r), between(r, s)
    d, e = between(a, b), between(b, c)
    middle = between(d, e)
    return [[p, a, d, middle], [middle, e, c, s]]


def chords(points: Tensor, height: float = math.inf, width: float = math.inf) -> Chords:
    """The chords of outlines (P, S, 3, 2) in pixels, none longer than a pixel in x or in y; differentiable.

    Curves that cover nothing of a picture of ``height`` and ``width`` from (0, 0) on are left out: those above it,
    below it and to its right.
    """
    whole = curves(points).flatten(0, 1)
    with torch.no_grad():
        low, high = whole.amin(dim=1), whole.amax(dim=1)
        matter = ((high[:, 1] > 0) & (low[:, 1] < height) & (low[:, 0] < width)).nonzero()[:, 0]
    curve, start, stop = flattened(whole[matter])
    control = whole[matter][curve]
    return Chords(at(control, start), at(control, stop), matter[curve] // points.shape[1])


def at_times(whole: Tensor, count: int) -> Tensor:
    """Points (S count, 2) at ``count`` equal times of each of the curves (S, 4, 2), from its beginning."""
    times = (torch.arange(count, dtype=whole.dtype, device=whole.device) / count).repeat(len(whole))
    return at(whole.repeat_interleave(count, dim=0), times)


def flattened(whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The chords of curves (N, 4, 2) in pixels: number of the curve, and t where each begins and ends, (M,) each."""
    longest = 3 * (whole[:, 1:] - whole[:, :-1]).detach().abs().amax(dim=(1, 2))
    count = longest.ceil().clamp(1, MOST_CHORDS).long()
    curve = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    number = torch.arange(len(curve), device=count.device) - (torch.cumsum(count, 0) - count)[curve]
    steps = count[curve].to(whole.dtype)
    return curve, number / steps, (number + 1) / steps


def at(control: Tensor, t: Tensor) -> Tensor:
    """B(t): (N, 4, 2) control points, (N,) parameters -> (N, 2); the ends to the bit."""
    s = 1 - t
    weight = torch.stack([s**3, 3 * s**2 * t, 3 * s * t**2, t**3], dim=-1)
    return (weight[..., None] * control).sum(dim=1)


def areas(points: Tensor) -> Tensor:
    """Area (P,) inside of outlines (P, S, 3, 2), signed: positive for `circles`; exact for cubic curves.

    The integral of (x dy - y dx)/2 over each curve, 3/20 of a sum over pairs of its control points (Green's theorem).
    """
    p, q, r, s = curves(points).unbind(2)
    pairs = 2 * _cross(p, q) + _cross(p, r) + _cross(q, r) + _cross(q, s) + 2 * _cross(r, s)
    return (3 * pairs + _cross(p, s)).sum(dim=1) / 20


def lengths(points: Tensor) -> Tensor:
    """Length (P,) of the control polygons of outlines (P, S, 3, 2): never shorter than the outline."""
    whole = curves(points)
    squared = (whole[:, :, 1:] - whole[:, :, :-1]).square().sum(dim=-1)
    return (squared + torch.finfo(points.dtype).tiny).sqrt().sum(dim=(1, 2))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def crossings(points: Tensor) -> Tensor:
    """How far each curve of outlines (P, S, 3, 2) is on the way to crossing itself, 0 to 1: (P, S).

    With control edges e1, e2, e3: relu(-sin(e1, e3)) where e2 turns left of e1, relu(sin(e1, e3)) where it turns right
    (Ma et al. 2022, LIVE, Eq. 7).
    """
    whole = curves(points)
    first, second, third = (whole[:, :, 1:] - whole[:, :, :-1]).unbind(2)
    side = torch.where(_cross(first, second) >= 0, 1.0, -1.0)
    longest = (first.square().sum(-1) * third.square().sum(-1) + 1e-24).sqrt()
    return (-side * _cross(first, third) / longest).relu()
