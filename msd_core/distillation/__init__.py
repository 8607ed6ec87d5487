"""Distillation methods: a function from x to a gradient on x, one method a file (`base` says what one is).

To add one: write its file, and enter it in `METHODS`. The command line, the nodes and the docs follow from its fields.
"""

from __future__ import annotations

from ..registry import Registry
from .base import ANNEALINGS, Method
from .msd import MSD
from .noising import WEIGHTINGS
from .sdi import SDI
from .sds import SDS, sds_gradient

METHODS = Registry(
    "method",
    __name__,
    {
        "msd": "msd:MSD",
        "sds": "sds:SDS",
        "sdi": "sdi:SDI",
        "csd": "csd:CSD",
        "nfsd": "nfsd:NFSD",
        "ism": "ism:ISM",
        "cfd": "cfd:CFD",
        "dds": "dds:DDS",
        "pds": "pds:PDS",
        "lusd": "lusd:LUSD",
    },
)
"""Name to the class of a method."""

__all__ = ["ANNEALINGS", "METHODS", "MSD", "SDI", "SDS", "WEIGHTINGS", "Method", "sds_gradient"]
