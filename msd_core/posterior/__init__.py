"""The density of pictures that agree with a measurement, p(y) N(b; A y, s^2 I), as a denoiser.

    D_post(z; sigma) = D(z; sigma) + K (b - A D(z; sigma))

What gain K an approximation takes is its own file: `kalman` (ours), `proximal`, `replacement`, `pigdm`. `base` has the
`PosteriorDenoiser`, on which any sampler runs. To add one: write its file, and enter it in `GAINS`.
"""

from __future__ import annotations

from ..registry import Registry
from .base import Gain, PosteriorDenoiser

GAINS = Registry(
    "gain",
    __name__,
    {
        "kalman": "kalman:Kalman",
        "proximal": "proximal:Proximal",
        "replacement": "replacement:Replacement",
        "pigdm": "pigdm:PiGDM",
    },
)
"""Name to the class of a gain."""

__all__ = ["GAINS", "Gain", "PosteriorDenoiser"]
