"""Bandwidths drawn by hand: a curve of heights over the run, between two ends, on the axis of log lambda.

    lambda_k = end^(1 - h_k) start^h_k,    h_k in [0, 1], never rising

so that height 1 is ``start``, height 0 is ``end``, and a straight line is "exponential".
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .bandwidth import Exponential, check_bandwidths
from .validation import as_levels


def drawn_bandwidths(curve: Any, start: float, end: float) -> Tensor:  # noqa: ANN401 - a tensor, list or array
    """Bandwidths at the heights of a ``curve``, one a step, (steps,), float32.

    Args:
        curve: heights at the steps, in order (steps,), in [0, 1]; never rising.
        start: lambda at height 1, in units of x.
        end: lambda at height 0; at most ``start``, and positive.

    Raises:
        ValueError: for ends that are not positive or rise, or a height outside of [0, 1] or above the one before.
    """
    ends = Exponential(start, end)
    heights = as_levels("curve", curve, "Draw one from the upper left to the lower right.").double()
    for k, height in enumerate(heights.tolist()):
        place = f"curve: at {k / max(1, len(heights) - 1):.3g} of the run it is at {height:.4g}"
        if not 0 <= height <= 1:
            raise ValueError(f"{place}; allowed are heights from 0, which is end, to 1, which is start. Move it there.")
        if k and height > heights[k - 1]:
            raise ValueError(
                f"{place}, after {heights[k - 1]:.4g}; allowed is a curve that never rises, since λ does not. Pull "
                "its points down from left to right, or remove the one that stands too high."
            )
    bandwidths = ends.at(1 - heights)
    bandwidths[heights == 1], bandwidths[heights == 0] = float(start), float(end)
    check_bandwidths(bandwidths.float())
    return bandwidths.float()
