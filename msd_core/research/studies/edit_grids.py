"""What is tried of each way to change a word (`edit_ways`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .edit_ways import Distilled, Dream, Nothing, Swapped, Way


def _starts(inversion: str, tried: Mapping[float, Sequence[float]]) -> list[Way]:
    """An inversion at each cfg with each start."""
    return [Swapped(inversion, cfg, start) for cfg, starts in tried.items() for start in starts]


def _deltas(method: str, tried: Sequence[tuple[float, Mapping[str, Any]]]) -> list[Way]:
    return [Distilled(method, cfg, {"optimizer": "gd", **settings}) for cfg, settings in tried]


def _shifts(tried: Sequence[tuple[float, float, float, float]], first: Swapped | None = None) -> list[Way]:
    """Mean-shift distillation for each cfg, learning rate, and first and last bandwidth."""
    return [
        Distilled("msd", cfg, {"optimizer": "gd", "lr": lr, "bandwidth_start": start, "bandwidth_end": end}, first)
        for cfg, lr, start, end in tried
    ]


WAYS: dict[str, list[Way]] = {
    "nothing": [Nothing()],
    "edit, caption unsaid": [Dream(0.2), Dream(0.1), Dream(0.4)],
    "edit, caption known": [Dream()],
    "DDIM inversion, cfg 1": _starts("explicit", {1: (0.6, 1, 0.8, 0.4)}),
    "DDIM inversion, guided": _starts("explicit", {3: (0.5, 1, 0.7), 7.5: (0.7, 0.5)}),
    "negative-prompt": _starts("negative-prompt", {1.5: (0.5, 1), 3: (0.5, 1)}),
    "direct": _starts("direct", {1: (0.6, 1, 0.4), 3: (0.7, 0.5), 7.5: (0.5,)}),
    "edit-friendly": _starts("edit-friendly", {1: (0.5, 1), 3: (0.7, 0.5), 7.5: (0.5,)}),
    "FlowEdit": _starts("flow-edit", {1: (1, 0.7), 3: (1, 0.7), 7.5: (0.7,)}),
    "DDS": _deltas(
        "dds",
        [
            *((1, {"lr": lr, "t_max": t_max}) for lr, t_max in ((0.3, 0.95), (1.0, 0.95), (0.3, 0.6))),
            *((3, {"lr": lr, "t_max": t_max}) for lr, t_max in ((0.1, 0.6), (0.3, 0.6))),
            (7.5, {"lr": 0.1, "t_max": 0.6}),
        ],
    ),
    "PDS": _deltas(
        "pds",
        [
            *((7.5, {"lr": lr}) for lr in (0.3, 0.5, 1.0)),
            (15, {"lr": 0.2}),
            *((3, {"lr": lr}) for lr in (0.3, 1.0)),
            *((cfg, {"lr": 0.3, "identity": "consistent"}) for cfg in (1, 3)),
            (7.5, {"lr": 0.05, "optimizer": "adam"}),
        ],
    ),
    "LUSD": _deltas(
        "lusd",
        [
            (1, {"lr": lr, "keep": keep, "strength": strength})
            for lr, keep, strength in (
                *((0.5, keep, strength) for keep in (0.25, 0.3) for strength in (0.3, 0.6)),
                *((1.0, keep, 0.3) for keep in (0.2, 0.3)),
            )
        ],
    ),
    "MSD": _shifts(
        [
            *((1, 0.25, start, end) for start, end in ((0.5, 0.1), (1.0, 0.3), (4.0, 0.7))),
            *((1, 0.1, start, end) for start, end in ((1.0, 0.3), (4.0, 0.7))),
            *((3, 0.25, start, end) for start, end in ((0.5, 0.1), (1.0, 0.3))),
        ]
    ),
    "DDIM inversion, then MSD": _shifts(
        [(1, lr, start, end) for lr in (0.1, 0.25) for start, end in ((0.5, 0.1), (1.0, 0.3))],
        Swapped("explicit", start=0.6),
    ),
}
"""Name to what is tried of it; at each number of rows the study takes the one that does best on pictures other than
those that it reports. The grids are what was left, by sight of two or three further pictures, of 166 settings: the
methods' own defaults are for hundreds of steps and for Stable Diffusion, and most of them end at no picture within 80
rows (DDS at cfg 7.5 from a rate of .3, LUSD with its ``keep`` of .02)."""
