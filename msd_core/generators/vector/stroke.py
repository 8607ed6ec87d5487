"""The outline of a stroke: the border of what a round pen covers, open or closed.

    offset(s) = (1 - s) a + s b + r (cos(p + s h) n + sin(p + s h) t)

sweeps a disc of radius r from a to b while its direction t, with the normal n, turns by h: p = 0 on the left, p = pi on
the right, where it is walked backwards. A chord of the curve is such a sweep, and so is a corner (a = b, h the angle
between two curves) and a cap (a = b, h = pi, on one side). Together they are the closed curve that one gets by sweeping
the disc's border along the line and back. Its winding number at a point counts the pieces into which a disc around the
point cuts the line: 0 outside, at least 1 inside, also where the line bends more than the pen is thin, at cusps and
where it crosses itself. So `coverage`, whose area is exact, needs no other rule, no join and no test for overlaps.

A disc that holds all of a closed line cuts it into none; one so small is given caps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .outline import Chords, at, curves, flattened

FINE, COARSE = 5.0, 8.0
"""Steps for each radian that a sweep turns, at least: FINE sqrt(r), so that arcs are round to 1/200 px, or COARSE."""
TINY = 1e-8
"""Square of a length in pixels that has no direction."""


class Sweeps(NamedTuple):
    """``a``, ``b`` (N, 2) in pixels, ``along`` (N, 2) of length 1 at a, ``start`` and ``turn`` (N,) in radians.

    ``path`` (N,) is whose they are, and ``back`` (N,) which are walked from b to a.
    """

    a: Tensor
    b: Tensor
    along: Tensor
    start: Tensor
    turn: Tensor
    path: Tensor
    back: Tensor


def lines(points: Tensor, closed: bool) -> Tensor:
    """The control points (Q, T, 4, 2) of the curves of strokes (Q, 3T + 1, 2), or of closed ones (Q, 3T, 2)."""
    if closed:
        return curves(points.unflatten(1, (-1, 3)))
    return torch.cat([points[:, :-1].unflatten(1, (-1, 3)), points[:, 3::3, None]], dim=2)


def outlined(
    points: Tensor, radii: Tensor, closed: bool = False, height: float = math.inf, width: float = math.inf
) -> Chords:
    """The chords of the outlines of strokes, none longer than a pixel in x or in y; differentiable.

    Args:
        points: (Q, 3T + 1, 2), or (Q, 3T, 2) if ``closed``, in pixels.
        radii: half of the widths, (Q,), in pixels, 0 or more.
        closed: whether each ends where it begins.
        height, width: of the picture from (0, 0) on; what lies above, below or to the right of it is left out.
    """
    whole = lines(points, closed)
    ends = [directions(whole, whole.new_tensor(t)) for t in (0.0, 1.0)]
    loops = _loops(whole, radii) if closed else torch.zeros_like(radii, dtype=torch.bool)
    sweeps = [
        *_bodies(whole, radii, (height, width)),
        *_corners(whole, ends, loops, closed),
        *_caps(whole, ends, ~loops),
    ]
    joined = Sweeps(*(torch.cat(parts) for parts in zip(*sweeps, strict=True)))
    seen = _matters(torch.stack([joined.a, joined.b], dim=1), radii[joined.path], (height, width))
    return _swept(Sweeps(*(part[seen] for part in joined)), radii)


def directions(control: Tensor, t: Tensor) -> Tensor:
    """Unit tangents (..., 2) of curves (..., 4, 2) at ``t``; where a curve stands still, of where it goes from there.

    A curve that is a point goes to the right.
    """
    p, q, r, s = control.unbind(-2)
    t, u = t[..., None], 1 - t[..., None]
    right = torch.tensor([1.0, 0.0], dtype=p.dtype, device=p.device).expand_as(p)
    found = right
    speed = u**2 * (q - p) + 2 * u * t * (r - q) + t**2 * (s - r)
    for way in (s - p, u * (r - p) + t * (s - q), speed):
        square = way.square().sum(dim=-1, keepdim=True)
        moves = square > TINY
        length = torch.where(moves, square, torch.ones_like(square)).sqrt()
        found = torch.where(moves, torch.where(moves, way, right) / length, found)
    return found


def _bodies(whole: Tensor, radii: Tensor, size: tuple[float, float]) -> list[Sweeps]:
    """Along the chords of the curves, on both sides."""
    flat, count = whole.flatten(0, 1), whole.shape[1]
    owner = torch.arange(len(flat), device=flat.device) // count
    matter = _matters(flat, radii[owner], size)
    flat, owner = flat[matter], owner[matter]
    curve, t0, t1 = flattened(flat)
    control = flat[curve]
    along, onward = directions(control, t0), directions(control, t1)
    return _both(at(control, t0), at(control, t1), along, onward, owner[curve])


def _corners(whole: Tensor, ends: list[Tensor], loops: Tensor, closed: bool) -> list[Sweeps]:
    """Where one curve ends and the next begins, on both sides; of loops, also the last and the first."""
    there, onward = whole[:, :, 3], ends[0].roll(-1, dims=1)
    corner = torch.ones(there.shape[:2], dtype=torch.bool, device=there.device)
    corner[:, -1] = loops if closed else False
    path = torch.arange(len(whole), device=whole.device)[:, None].expand_as(corner)
    return _both(there[corner], there[corner], ends[1][corner], onward[corner], path[corner])


def _caps(whole: Tensor, ends: list[Tensor], capped: Tensor) -> list[Sweeps]:
    """Half a turn around the last point, and another around the first."""
    path = capped.nonzero()[:, 0]
    half = torch.full_like(whole[path, 0, 0, 0], math.pi)
    back = torch.zeros_like(path, dtype=torch.bool)
    last, first = whole[path, -1, 3], whole[path, 0, 0]
    return [
        Sweeps(last, last, ends[1][path, -1], torch.zeros_like(half), half, path, back),
        Sweeps(first, first, ends[0][path, 0], half, half, path, back),
    ]


def _both(a: Tensor, b: Tensor, along: Tensor, onward: Tensor, path: Tensor) -> list[Sweeps]:
    """Sweeps on the left, and back on the right, that turn from ``along`` to ``onward``."""
    cross = along[:, 0] * onward[:, 1] - along[:, 1] * onward[:, 0]
    turn = torch.atan2(cross, (along * onward).sum(dim=-1))
    left, no = torch.zeros_like(turn), torch.zeros_like(path, dtype=torch.bool)
    return [Sweeps(a, b, along, left, turn, path, no), Sweeps(a, b, along, left + math.pi, turn, path, ~no)]


def _swept(sweeps: Sweeps, radii: Tensor) -> Chords:
    """The chords of the offset curves of sweeps."""
    radius = radii[sweeps.path]
    with torch.no_grad():
        turn = sweeps.turn.abs()
        longest = (sweeps.b - sweeps.a).abs().amax(dim=1) + radius * turn
        round_enough = (FINE * radius.sqrt()).clamp(min=COARSE) * turn
        count = torch.maximum(longest, round_enough).ceil().clamp(min=1).long()
    one = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    number = torch.arange(len(one), device=count.device) - (torch.cumsum(count, 0) - count)[one]
    a, b, along, start, turn, path, back = (part[one] for part in sweeps)
    ends = []
    for step in (number, number + 1):
        share = step.to(a.dtype) / count[one]
        angle = (start + share * turn)[:, None]
        normal = torch.stack([along[:, 1], -along[:, 0]], dim=1)
        ends.append(torch.lerp(a, b, share[:, None]) + radius[one, None] * (angle.cos() * normal + angle.sin() * along))
    return Chords(torch.where(back[:, None], *reversed(ends)), torch.where(back[:, None], *ends), path)


@torch.no_grad()
def _matters(control: Tensor, radii: Tensor, size: tuple[float, float]) -> Tensor:
    """Which of what lies within ``radii`` of (N, K, 2) points touches the picture, or lies to the left of it."""
    low, high = control.amin(dim=1) - radii[:, None], control.amax(dim=1) + radii[:, None]
    return (high[:, 1] > 0) & (low[:, 1] < size[0]) & (low[:, 0] < size[1])


@torch.no_grad()
def _loops(whole: Tensor, radii: Tensor) -> Tensor:
    """Which closed strokes are too large for a disc of their pen's radius: those with a hole to keep."""
    t = whole.new_tensor([0.0, 0.25, 0.5, 0.75]).repeat(whole.shape[1])
    there = at(whole.repeat_interleave(4, dim=1).flatten(0, 1), t.repeat(len(whole))).unflatten(0, (len(whole), -1))
    return (there.amax(dim=1) - there.amin(dim=1)).amax(dim=1) > 2 * radii
