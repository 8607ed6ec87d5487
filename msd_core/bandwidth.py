"""Bandwidths: how lambda, the standard deviation of the kernel, falls over an optimisation.

Mean-Shift Distillation anneals lambda monotonically and stops at lambda < lambda_min (section 4.5). With
u = k/(steps - 1) from 0 to 1, a = start and b = end:

    linear       a + u (b - a)
    cosine       b + (a - b) (1 + cos(pi u)) / 2
    exponential  a (b/a)^u                                       (log-linear)
    karras       (a^(1/rho) + u (b^(1/rho) - a^(1/rho)))^rho     (Karras et al. 2022, Eq. 5)
    piecewise    log-linear between (0, a), the points (u, lambda) and (1, b)
    listed       the values given, one a step

A curve is a frozen dataclass ``(steps) -> bandwidths (steps,)``. It never rises, or is refused; with b = a it stays.
To add one: write its class, and enter it in `BANDWIDTHS`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from .echo import shown
from .registry import Registry
from .settings import build, check_settings, setting, settings_of
from .validation import MOST_STEPS, as_levels, check_choice, check_count, is_real, tensor_of

BANDWIDTHS = Registry(
    "bandwidth",
    __package__ or "",
    {
        "linear": "bandwidth:Linear",
        "cosine": "bandwidth:Cosine",
        "exponential": "bandwidth:Exponential",
        "karras": "bandwidth:Karras",
        "piecewise": "bandwidth:Piecewise",
        "listed": "bandwidth:Listed",
    },
)
"""Name to the class of a curve."""


class Bandwidths(Protocol):
    """A curve of bandwidths."""

    def __call__(self, steps: int) -> Tensor:
        """Bandwidths of all steps, never rising, (steps,), float32."""
        ...


def bandwidth_at(curve: Bandwidths, step: int, steps: int) -> float:
    """lambda at iteration ``step`` of ``steps``.

    Raises:
        ValueError: there is no such iteration.
    """
    check_step(step, steps)
    return _values(curve, steps)[step]


def check_step(step: int, steps: int) -> None:
    """Refuse a ``step`` that is none of 0 .. steps - 1."""
    check_count("steps", steps, maximum=MOST_STEPS)
    check_count("step", step, minimum=0, maximum=steps - 1)


def _values(curve: Bandwidths, steps: int) -> list[float]:
    """All of them, checked; remembered for curves that cannot change: frozen dataclasses."""
    frozen = getattr(getattr(curve, "__dataclass_params__", None), "frozen", False)
    return _remembered(curve, steps) if frozen else _checked(curve, steps)


@lru_cache(maxsize=32)
def _remembered(curve: Bandwidths, steps: int) -> list[float]:
    return _checked(curve, steps)


def _checked(curve: Bandwidths, steps: int) -> list[float]:
    values = check_bandwidths(curve(steps))
    if len(values) != steps:
        raise ValueError(
            f"bandwidths: got {len(values)} of them for {steps} steps; allowed is one a step. Return as many."
        )
    return values


@dataclass(frozen=True)
class _Curve(ABC):
    """A curve that is a function of u, from ``start`` to ``end``.

    Raises:
        ValueError: for ends that are not positive, or rise.
    """

    start: float = setting(
        8.0, "first λ: large, all modes merge; small, the nearest mode", above=0, usual=(0.001, 1000)
    )
    end: float = setting(
        0.7, "last λ, at most the first; far below the data's spread the shift is noise", above=0, usual=(0.001, 1000)
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.end > self.start:
            raise ValueError(
                f"end: got {self.end} with start {self.start}; allowed is end <= start. Bandwidths "
                "never rise: lower end."
            )

    @abstractmethod
    def at(self, u: Tensor) -> Tensor:
        """Bandwidths at the fractions ``u`` of the run, float64; the two ends are set afterwards."""

    def __call__(self, steps: int) -> Tensor:
        """Bandwidths of all steps, from ``start`` to ``end``, (steps,), float32; with one step just ``start``."""
        check_count("steps", steps, maximum=MOST_STEPS)
        bandwidths = self.at(torch.linspace(0, 1, steps, dtype=torch.float64)).clamp(float(self.end), float(self.start))
        bandwidths[0] = float(self.start)
        if steps > 1:
            bandwidths[-1] = float(self.end)
        bandwidths = bandwidths.float()
        check_bandwidths(bandwidths)
        return bandwidths


def _lerp(u: Tensor, start: float, end: float) -> Tensor:
    return torch.lerp(torch.full_like(u, start), torch.full_like(u, end), u)


@dataclass(frozen=True)
class Linear(_Curve):
    """Equal steps of lambda."""

    def at(self, u: Tensor) -> Tensor:
        """a + u (b - a)."""
        return _lerp(u, float(self.start), float(self.end))


@dataclass(frozen=True)
class Cosine(_Curve):
    """Half a cosine: slow, fast, slow."""

    def at(self, u: Tensor) -> Tensor:
        """b + (a - b) (1 + cos(pi u)) / 2."""
        return float(self.end) + (float(self.start) - float(self.end)) * (1 + torch.cos(math.pi * u)) / 2


@dataclass(frozen=True)
class Exponential(_Curve):
    """Equal ratios of lambda: log-linear."""

    def at(self, u: Tensor) -> Tensor:
        """a (b/a)^u."""
        return _lerp(u, math.log(self.start), math.log(self.end)).exp()


@dataclass(frozen=True)
class Karras(_Curve):
    """Between linear (rho = 1) and exponential (rho large)."""

    rho: float = setting(
        7.0, "exponent of karras: 1 is linear, large is exponential", low=0.1, usual=(0.1, 100), expert=True
    )

    def at(self, u: Tensor) -> Tensor:
        """(a^(1/rho) + u (b^(1/rho) - a^(1/rho)))^rho."""
        return _lerp(u, self.start ** (1 / self.rho), self.end ** (1 / self.rho)) ** self.rho


@dataclass(frozen=True)
class Piecewise(_Curve):
    """Log-linear through points.

    Raises:
        ValueError: also for points out of order, or outside of start and end.
    """

    points: tuple[tuple[float, float], ...] = setting(
        (), "of piecewise: points fraction:λ between the ends, for example 0.25:2", kind=tuple, length=-1, expert=True
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _pairs(self.points))
        super().__post_init__()
        self._knots()

    def at(self, u: Tensor) -> Tensor:
        """Log-linear between the knots."""
        knots = self._knots()
        at = torch.tensor([fraction for fraction, _ in knots], dtype=u.dtype)
        log = torch.tensor([value for _, value in knots], dtype=u.dtype).log()
        high = torch.searchsorted(at, u).clamp(1, len(knots) - 1)
        weight = (u - at[high - 1]) / (at[high] - at[high - 1])
        return torch.lerp(log[high - 1], log[high], weight).exp()

    def _knots(self) -> list[tuple[float, float]]:
        """(0, start), the interior points, (1, end); refuses points out of order or at odds with start and end."""
        knots = list(self.points)
        if not knots or knots[0][0] != 0:
            knots.insert(0, (0.0, self.start))
        if knots[-1][0] != 1:
            knots.append((1.0, self.end))
        rising = all(a[0] < b[0] for a, b in zip(knots, knots[1:], strict=False))
        falling = all(a[1] >= b[1] for a, b in zip(knots, knots[1:], strict=False))
        if not (rising and falling and knots[0] == (0.0, self.start) and knots[-1] == (1.0, self.end)):
            raise ValueError(
                f"points: got {shown(self.points)} with start {self.start} and end {self.end}; allowed are pairs "
                "(fraction, bandwidth), fractions rising inside 0..1, bandwidths falling from start to end, or "
                "equal. Sort them, drop those outside."
            )
        return knots


@dataclass(frozen=True)
class Listed:
    """The bandwidths themselves, one a step, such as a curve that was drawn by hand.

    Raises:
        ValueError: for values that rise; when called, for another number of steps.
    """

    hidden: ClassVar[bool] = True

    values: tuple[float, ...] = setting((8.0,), "the bandwidths, one a step", kind=float, length=-1, hidden=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(check_bandwidths(self.values)))

    def __call__(self, steps: int) -> Tensor:
        """The bandwidths, (steps,), float32."""
        if len(self.values) != steps:
            raise ValueError(
                f"bandwidths: got {len(self.values)} of them for {steps} steps; allowed is one a step. "
                f"Make bandwidth_schedule(..., steps={steps})."
            )
        return torch.tensor(self.values, dtype=torch.float32)


def as_bandwidths(value: Any) -> Bandwidths:  # noqa: ANN401
    """``value`` itself if it is a curve; of a name the curve with its defaults; a list of bandwidths as `Listed`.

    Raises:
        ValueError: for anything else, or values that rise.
    """
    if isinstance(value, str):
        return cast("Bandwidths", BANDWIDTHS.made("bandwidths", value))
    if callable(value) and not isinstance(value, type):
        return cast("Bandwidths", value)
    if tensor_of(value, torch.float64) is not None:
        return Listed(tuple(check_bandwidths(value)))
    raise ValueError(
        f"bandwidths: got {shown(value)}; allowed is a curve, such as Exponential(8, 0.7), its name, or one bandwidth "
        "a step. Pass one of them."
    )


def bandwidth_schedule(
    name: str,
    start: float,
    end: float,
    steps: int,
    *,
    rho: float | None = None,
    points: Sequence[tuple[float, float]] | None = None,
) -> Tensor:
    """Bandwidths lambda_0 = start >= ... >= lambda_{steps-1} = end, of shape (steps,), float32; equations above.

    Args:
        name: one of `BANDWIDTHS` but "listed".
        start: first standard deviation of the kernel, in units of x.
        end: last one; at most ``start``, and positive.
        steps: how many; with 1 the schedule is just ``start``.
        rho: exponent of "karras", 7 if left out.
        points: of "piecewise": pairs (fraction of the run in 0..1, bandwidth) between start and end.

    Raises:
        ValueError: for an unknown name, a value that is not positive, ``end > start``, options of another curve,
            or points that are missing or out of order.
    """
    check_choice("name", name, [known for known in BANDWIDTHS if known != "listed"])
    if name == "piecewise" and points is None:
        raise ValueError("points: got None with the schedule 'piecewise'; allowed are its points. Pass some.")
    check_count("steps", steps, maximum=MOST_STEPS)
    options = {"rho": rho, "points": None if points is None else _pairs(points)}
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in settings_of(BANDWIDTHS[name]):
            users = ", ".join(known for known, kind in BANDWIDTHS.items() if option in settings_of(kind))
            raise ValueError(
                f"{option}: got {shown(value)} with the schedule {name!r}; allowed with {users}. Leave it out or "
                "change the schedule."
            )
    return build(BANDWIDTHS[name](start, end), given)(steps)


def _pairs(points: Any) -> tuple[tuple[float, float], ...]:  # noqa: ANN401
    """``points`` as pairs of numbers.

    Raises:
        ValueError: they are none.
    """
    pairs = tensor_of(list(points) if isinstance(points, (list, tuple)) else points, torch.float64)
    if isinstance(points, (list, tuple)) and not points:
        return ()
    if pairs is None or not is_real(pairs) or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(
            f"points: got {shown(points)}; allowed are pairs (fraction of the run, bandwidth). Write ((0.25, 2.0),)."
        )
    return tuple((u, value) for u, value in pairs.tolist())


def check_bandwidths(bandwidths: Any) -> list[float]:  # noqa: ANN401 - a tensor, list or array
    """The bandwidths as numbers, after refusing any but a non-empty 1-D tensor of finite, positive ones; none may rise.

    Raises:
        ValueError: naming the first offending entry.
    """
    fix = "Make one with bandwidth_schedule(name, start, end, steps)."
    values = as_levels("bandwidths", bandwidths, fix).tolist()
    for k, value in enumerate(values):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"bandwidths: entry {k} is {value}; allowed are finite numbers > 0 (the kernel's standard deviation). "
                "A noise schedule that ends in 0 must lose its last entry."
            )
        if k and value > values[k - 1]:
            raise ValueError(
                f"bandwidths: entry {k} is {value}, after {values[k - 1]}; allowed are values that never rise. "
                "Reverse the schedule."
            )
    return values
