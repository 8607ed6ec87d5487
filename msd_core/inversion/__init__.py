"""Walking the probability-flow ODE up: the noise that a picture would have come from (steps one a file).

An upward step is the twin of a step of `sampling`: a frozen dataclass, called as

    z_next = step(z, denoiser, sigma, sigma_next, rng)

from ``sigma`` up to ``sigma_next``. `invert` walks one over a list of levels, for the methods and for the nodes alike.
To add one: write its file, and enter it in `INVERSIONS`.
"""

from __future__ import annotations

from ..registry import Registry
from .ancestral import AncestralStep
from .explicit import ExplicitStep
from .trajectory import Trajectory, UpwardStep, ddim_invert, invert

INVERSIONS = Registry(
    "inversion", __name__, {"explicit": "explicit:ExplicitStep", "ancestral": "ancestral:AncestralStep"}
)
"""Name to the class of an upward step."""

__all__ = ["INVERSIONS", "AncestralStep", "ExplicitStep", "Trajectory", "UpwardStep", "ddim_invert", "invert"]
