"""What is known of a picture y: b = A y + s xi, xi ~ N(0, I), with a linear operator A (operators one a file).

An operator has ``apply``, y (B, C, H, W) -> A y, and ``adjoint``, its transpose; `base` says more, and holds the
`Observation` of a picture. To add one: write its file, and enter it in `MEASUREMENTS`.
"""

from __future__ import annotations

from ..registry import Registry
from .base import Measurement, Observation, observe

MEASUREMENTS = Registry(
    "measurement",
    __name__,
    {
        "mask": "mask:Mask",
        "pool": "pool:Pool",
        "blur": "blur:Blur",
        "grey": "grey:Grey",
    },
    methods=("apply",),
)
"""Name to the class of an operator."""

__all__ = ["MEASUREMENTS", "Measurement", "Observation", "observe"]
