"""Bandwidth schedules: how lambda, the standard deviation of the kernel, falls over an optimisation.

Mean-Shift Distillation anneals lambda monotonically and stops at lambda < lambda_min (section 4.5). With
u = k/(steps - 1) from 0 to 1, a = start and b = end:

    linear       a + u (b - a)
    cosine       b + (a - b) (1 + cos(pi u)) / 2
    exponential  a (b/a)^u                                       (log-linear)
    karras       (a^(1/rho) + u (b^(1/rho) - a^(1/rho)))^rho     (Karras et al. 2022, Eq. 5)
    piecewise    log-linear between (0, a), the points (u, lambda) and (1, b)

Every schedule is strictly decreasing; anything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .validation import check_choice, check_count, check_positive

Points = Sequence[tuple[float, float]]


def _linear(u: Tensor, start: float, end: float) -> Tensor:
    return torch.lerp(torch.full_like(u, start), torch.full_like(u, end), u)


def _cosine(u: Tensor, start: float, end: float) -> Tensor:
    return end + (start - end) * (1 + torch.cos(math.pi * u)) / 2


def _exponential(u: Tensor, start: float, end: float) -> Tensor:
    return _linear(u, math.log(start), math.log(end)).exp()


def _karras(u: Tensor, start: float, end: float, rho: float) -> Tensor:
    return _linear(u, start ** (1 / rho), end ** (1 / rho)) ** rho


def _piecewise(u: Tensor, start: float, end: float, points: Points) -> Tensor:
    knots = _knots(start, end, points)
    at = torch.tensor([fraction for fraction, _ in knots], dtype=u.dtype)
    log = torch.tensor([value for _, value in knots], dtype=u.dtype).log()
    high = torch.searchsorted(at, u).clamp(1, len(knots) - 1)
    weight = (u - at[high - 1]) / (at[high] - at[high - 1])
    return torch.lerp(log[high - 1], log[high], weight).exp()


def _knots(start: float, end: float, points: Points) -> list[tuple[float, float]]:
    """(0, start), the interior points, (1, end); refuses points out of order or at odds with start and end."""
    knots = [(float(fraction), float(value)) for fraction, value in points]
    if not knots or knots[0][0] != 0:
        knots.insert(0, (0.0, start))
    if knots[-1][0] != 1:
        knots.append((1.0, end))
    rising = all(a[0] < b[0] for a, b in zip(knots, knots[1:], strict=False))
    falling = all(a[1] > b[1] for a, b in zip(knots, knots[1:], strict=False))
    if not (rising and falling and knots[0] == (0.0, start) and knots[-1] == (1.0, end)):
        raise ValueError(
            f"points: got {list(points)!r} with start {start} and end {end}; allowed are pairs (fraction, bandwidth), "
            "fractions rising inside 0..1, bandwidths falling between start and end. Sort them, drop those outside."
        )
    return knots


_SHAPES: dict[str, Callable[..., Tensor]] = {
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
    "karras": _karras,
    "piecewise": _piecewise,
}
BANDWIDTH_SCHEDULES = tuple(_SHAPES)


def bandwidth_schedule(
    name: str, start: float, end: float, steps: int, *, rho: float = 7.0, points: Points | None = None
) -> Tensor:
    """Bandwidths lambda_0 = start > ... > lambda_{steps-1} = end, of shape (steps,), float32; equations above.

    Args:
        name: one of `BANDWIDTH_SCHEDULES`.
        start: first standard deviation of the kernel, in units of x.
        end: last one; smaller than ``start`` and positive.
        steps: how many; with 1 the schedule is just ``start``.
        rho: exponent of "karras" (1 is linear, large is exponential).
        points: for "piecewise" only: pairs (fraction of the run in 0..1, bandwidth) between start and end.

    Raises:
        ValueError: for an unknown name, a value that is not positive, ``end >= start``, ``points`` that are missing,
            out of order or given to another schedule, or so many steps that two bandwidths are equal in float32.
    """
    check_choice("name", name, BANDWIDTH_SCHEDULES)
    check_positive("start", start)
    check_positive("end", end)
    check_positive("rho", rho)
    check_count("steps", steps)
    if end >= start:
        raise ValueError(f"end: got {end} with start {start}; allowed is end < start. Bandwidths fall: swap the two.")
    if (points is not None) != (name == "piecewise"):
        raise ValueError(
            f"points: got {points!r} with the schedule {name!r}; allowed are points with 'piecewise', and only there. "
            "Choose 'piecewise' or leave points out."
        )
    extra = {"karras": (rho,), "piecewise": (points,)}.get(name, ())
    bandwidths = _SHAPES[name](torch.linspace(0, 1, steps, dtype=torch.float64), float(start), float(end), *extra)
    bandwidths[0] = start
    if steps > 1:
        bandwidths[-1] = end
    bandwidths = bandwidths.float()
    check_bandwidths(bandwidths)
    return bandwidths


def check_bandwidths(bandwidths: Tensor) -> None:
    """Refuse anything but a non-empty 1-D tensor of finite, positive, strictly decreasing bandwidths.

    Raises:
        ValueError: naming the first offending entry.
    """
    if bandwidths.ndim != 1 or bandwidths.numel() == 0:
        raise ValueError(
            f"bandwidths: got shape {tuple(bandwidths.shape)}; allowed is a 1-D tensor with at least one entry. "
            "Make one with bandwidth_schedule(name, start, end, steps)."
        )
    values = bandwidths.tolist()
    for k, value in enumerate(values):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"bandwidths: entry {k} is {value}; allowed are finite numbers > 0 (the kernel's standard deviation). "
                "A noise schedule that ends in 0 must lose its last entry."
            )
        if k and value >= values[k - 1]:
            raise ValueError(
                f"bandwidths: entry {k} is {value}, after {values[k - 1]}; allowed are strictly decreasing values. "
                "Reverse the schedule, or use fewer steps or a wider range."
            )


def stop_below(bandwidths: Tensor, minimum: float) -> Tensor:
    """The part of a schedule with lambda >= ``minimum``: the paper's stopping rule lambda < lambda_min.

    Raises:
        ValueError: if ``minimum`` is negative or no bandwidth is left.
    """
    check_bandwidths(bandwidths)
    kept = bandwidths[bandwidths >= minimum]
    if not minimum >= 0 or kept.numel() == 0:
        raise ValueError(
            f"minimum: got {minimum}; allowed is a number from 0 to the first bandwidth, {float(bandwidths[0]):g}. "
            "Lower it, or no step is left."
        )
    return kept
