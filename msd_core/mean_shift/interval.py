"""The interval of noise levels within which the kernel acts (Mean-Shift Distillation, section 4.3a)."""

from __future__ import annotations

import math

INTERVAL_HELP = "noise levels σ between which the kernel acts, low and high"


def check_interval(interval: tuple[float, float] | None) -> None:
    """Refuse an interval that does not rise.

    Raises:
        ValueError: naming it.
    """
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError(
            f"interval: got {interval}; allowed is (low, high) with 0 <= low < high. Give noise levels in order."
        )


def bounds(interval: tuple[float, float] | None) -> tuple[float, float]:
    """``interval``, or the whole axis where there is none."""
    return (0.0, math.inf) if interval is None else interval
