"""The host's CURVE: λ along the run drawn by hand, in the Bandwidth Scheduler or in the host's Curve Editor.

The type came with 0.16. A host without it has neither the input nor the schedule "drawn", and a graph that asks for it
is refused there by name. The front end draws the widget in its Vue renderer ("Nodes 2.0"); in the other it stands as a
line, keeps its value, and takes a Curve Editor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.drawn import drawn_bandwidths
from ..msd_core.echo import shown

DRAWN = "drawn"
"""The schedule whose shape is the curve's."""
KNOWN = hasattr(io, "Curve")
"""Whether this host has curves."""
FALLING = [[0.0, 1.0], [1.0, 0.0]]
"""Points (fraction of the run, height) of the curve that a node is made with: a straight line, log-linear."""


def schedules(names: Sequence[str]) -> list[str]:
    """The menu of schedules: that of the core, and the drawn one where the host can draw."""
    return [*names, *([DRAWN] if KNOWN else [])]


def inputs() -> list[io.Input]:
    """The curve, where the host has such a thing."""
    if not KNOWN:
        return []
    return [
        io.Curve.Input(
            "curve",
            optional=True,
            default=FALLING,  # pyright: ignore[reportArgumentType] - pairs, as the saved graph has them
            socketless=False,
            advanced=True,
            tooltip="Of drawn: log λ over the run, from start, at the top, to end, at the bottom. Drag its points, "
            "click for another; it never rises. Drawn here where nodes are shown as Nodes 2.0, or in a Curve "
            "Editor that is connected.",
        )
    ]


def is_connected(curve: object) -> bool:
    """Whether a curve comes from another node: the widget gives plain data."""
    return curve is not None and not isinstance(curve, (dict, list, tuple))


def check_unused(curve: object, schedule: str) -> None:
    """Refuse a curve that another node draws and nothing uses.

    Raises:
        ValueError: there is one.
    """
    if is_connected(curve):
        raise ValueError(
            f"curve: connected, with the schedule {schedule!r}; allowed is one with {DRAWN!r}, and only there. Choose "
            f"{DRAWN!r}, or disconnect the curve."
        )


def bandwidths_of(curve: Any, start: float, end: float, steps: int) -> Tensor:  # noqa: ANN401 - the host's
    """The bandwidths (steps,) of a drawn ``curve``: the host's, or its points as the widget gives them.

    Raises:
        ValueError: there is none, it is no curve or has no points, or rises.
    """
    from comfy_api.input import CurveInput

    if curve is None:
        raise ValueError(
            f"curve: not given, with the schedule {DRAWN!r}; allowed are points (fraction of the run, height). Draw "
            "one, or connect a Curve Editor."
        )
    try:
        found = CurveInput.from_raw(curve)
        if not len(found.points):
            raise ValueError("a curve without points")
        heights = found.interp_array(torch.linspace(0, 1, steps, dtype=torch.float64).numpy())
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ValueError(
            f"curve: got {shown(curve)}; allowed are points (fraction of the run, height), for example "
            '{"points": [[0, 1], [0.5, 0.3], [1, 0]], "interpolation": "linear"}'
        ) from None
    return drawn_bandwidths(heights, start, end)
