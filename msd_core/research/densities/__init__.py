"""Named densities of the plane, each a `GaussianMixture`: the ground truth of the two-dimensional studies.

To add one: write its file, and enter it in `DENSITIES`.
"""

from __future__ import annotations

from collections.abc import Callable

from ...validation import check_choice
from .checkerboard import make_checkerboard
from .density import Density
from .fractal import make_fractal
from .modes import entropy, find_modes
from .pinwheel import make_pinwheel
from .ring import make_ring
from .spiral import make_spiral
from .two_spirals import make_two_spirals

DENSITIES: dict[str, Callable[[], Density]] = {
    "fractal": make_fractal,
    "spiral": make_spiral,
    "pinwheel": make_pinwheel,
    "two-spirals": make_two_spirals,
    "checkerboard": make_checkerboard,
    "ring": make_ring,
}
"""Name to the function that makes the density."""


def make_density(name: str) -> Density:
    """The density ``name``, one of `DENSITIES`.

    Raises:
        ValueError: for any other name.
    """
    check_choice("name", name, DENSITIES)
    return DENSITIES[name]()


__all__ = [
    "DENSITIES",
    "Density",
    "entropy",
    "find_modes",
    "make_density",
]
