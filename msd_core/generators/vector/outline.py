"""Closed outlines of cubic Bézier curves, and their chords.

    B(t) = (1 - t)^3 p0 + 3 (1 - t)^2 t c1 + 3 (1 - t) t^2 c2 + t^3 p3,   |B'| <= 3 max |control edge|

An outline is (S, 3, 2): S curves, of each where it begins and its two control points; it ends where the next begins,
the last where the first does. So n chords at equal steps of t, n >= 3 max |control edge| in either direction, are at
most one pixel long in x and in y.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

MOST_CHORDS = 2**18
"""Of one curve: more than it has at the largest size that is drawn."""
ARC = 4 / 3
"""A circle's arc of angle a has its control points at 4/3 tan(a/4) radii along the tangents."""


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


def divided(outline: Tensor, segments: int) -> Tensor:
    """An outline (S, 3, 2) as one of more curves, the same line."""
    return halved(curves(outline[None])[0], segments)[:, :3]


def halved(whole: Tensor, segments: int) -> Tensor:
    """Curves (S, 4, 2) in a row as more of them, the same line: the longest are halved (de Casteljau)."""
    pieces = list(whole)
    while len(pieces) < segments:
        longest = max(range(len(pieces)), key=lambda i: float((pieces[i][1:] - pieces[i][:-1]).square().sum()))
        p, q, r, s = pieces[longest]
        a, b, c = (p + q) / 2, (q + r) / 2, (r + s) / 2
        d, e = (a + b) / 2, (b + c) / 2
        middle = (d + e) / 2
        pieces[longest : longest + 1] = [torch.stack([p, a, d, middle]), torch.stack([middle, e, c, s])]
    return torch.stack(pieces)


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
