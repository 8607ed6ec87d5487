"""A single Archimedean spiral: r = .1 + .3 phi/pi over one and a half turns, even along its length.

The paper draws it but gives no parameters. `WIDTH` is chosen so that DDIM with the ideal denoiser, in 32 steps from
10^4 samples, has the NLL that the paper reports of it, -1.39 (to .02 from seed to seed); the entropy is then -1.40.
"""

from __future__ import annotations

import math

import torch

from .curves import along_curve
from .density import Density

TURNS, INNER, OUTER, PIECES = 1.5, 0.1, 1.0, 240
WIDTH = 0.0112


def make_spiral() -> Density:
    """The density, of one class, "all"."""
    u = torch.linspace(0, 1, 20 * PIECES + 1, dtype=torch.float64)
    fine = _at(u)
    length = torch.cat([u.new_zeros(1), (fine[1:] - fine[:-1]).norm(dim=1).cumsum(0)])
    even = torch.linspace(0, float(length[-1]), PIECES + 1, dtype=torch.float64)
    points = _at(u[torch.searchsorted(length, even).clamp(max=len(u) - 1)])
    width = points.new_full((PIECES,), WIDTH)
    return Density("spiral", {"all": along_curve(points, width, torch.ones_like(width))})


def _at(u: torch.Tensor) -> torch.Tensor:
    """Points at the fractions ``u`` of the angle, (N, 2)."""
    angle, radius = 2 * math.pi * TURNS * u, INNER + (OUTER - INNER) * u
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
