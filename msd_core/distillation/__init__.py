"""Distillation methods: a function from x to a gradient on x, one method a file (`base` says what one is).

To add one: write its file, and enter it in `METHODS`.
"""

from __future__ import annotations

from .base import ANNEALINGS, Levels, Method
from .msd import CENTRES, MSD
from .sdi import SDI
from .sds import SDS, WEIGHTINGS, sds_gradient

METHODS: dict[str, type[MSD] | type[SDI] | type[SDS]] = {"msd": MSD, "sdi": SDI, "sds": SDS}

__all__ = [
    "ANNEALINGS",
    "CENTRES",
    "METHODS",
    "MSD",
    "SDI",
    "SDS",
    "WEIGHTINGS",
    "Levels",
    "Method",
    "sds_gradient",
]
