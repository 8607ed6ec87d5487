"""Argument checks that speak with one voice.

A wrong argument raises ``ValueError`` with four things in it: the argument's name, the value received, what is allowed,
and what to do about it. Nothing is corrected silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a ``value`` that is not one of ``choices``."""
    allowed = tuple(choices)
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}; allowed are {', '.join(map(repr, allowed))}. Pick one of these.")


def check_count(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> None:
    """Refuse a ``value`` that is not an integer from ``minimum`` to ``maximum``."""
    top = math.inf if maximum is None else maximum
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= top:
        end = "" if maximum is None else f", at most {maximum}"
        raise ValueError(f"{name}: got {value!r}; allowed is a whole number of at least {minimum}{end}. Pass an int.")


def is_number(value: object) -> bool:
    """Whether ``value`` is a real number, but no bool and no NaN; whole numbers too large for a float are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False


def check_number(
    name: str, value: object, fix: str, *, low: float = -math.inf, high: float = math.inf, infinite: bool = False
) -> None:
    """Refuse a ``value`` that is no number from ``low`` to ``high``, or not finite where it is not ``infinite``."""
    number = float(value) if is_number(value) else math.nan  # pyright: ignore[reportArgumentType]
    if not low <= number <= high or not (infinite or math.isfinite(number)):
        ends = {"from": low, "to": high}
        words = " ".join(f"{word} {end:g}" for word, end in ends.items() if math.isfinite(end))
        kind = "a number" if infinite else "a finite number"
        raise ValueError(f"{name}: got {value!r}; allowed is {' '.join([kind, words]).strip()}. {fix}")


def check_positive(name: str, value: float | Tensor) -> None:
    """Refuse a number, or a tensor with any entry, that is not finite and greater than zero."""
    if isinstance(value, Tensor):
        ok = bool((torch.isfinite(value) & (value > 0)).all())
        shown = value.tolist()
    else:
        ok = is_number(value) and math.isfinite(value) and value > 0
        shown = value
    if not ok:
        raise ValueError(f"{name}: got {shown!r}; allowed is a finite number > 0. Check its unit and its sign.")


def check_same_shape(name: str, value: Tensor, reference_name: str, reference: Tensor) -> None:
    """Refuse a tensor whose shape differs from that of ``reference``."""
    if value.shape != reference.shape:
        raise ValueError(
            f"{name}: got shape {tuple(value.shape)}; allowed is the shape of {reference_name}, "
            f"{tuple(reference.shape)}. Reshape or expand it first."
        )


def check_floating(name: str, value: Tensor) -> None:
    """Refuse a tensor that does not hold real floating-point numbers or that has no batch dimension."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 1:
        shown = f"{value.dtype}, shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(type(value))
        raise ValueError(f"{name}: got {shown}; allowed is a floating-point tensor of shape (B, *). Convert it first.")
