"""Two spirals, turned against each other by half a turn: a class each.

The recipe of the field (FFJORD's data, Grathwohl et al. 2019): phi = sqrt(U) 3 pi, points +-(-phi cos phi, phi sin phi)
moved by .5 U in each coordinate, divided by 3, plus .1 N(0, I), all over 4. Here U is replaced by pieces of equal
probability along the curve, and the uniform shift by Gaussians of its variance.
"""

from __future__ import annotations

import math

import torch

from ...densities import GaussianMixture
from .density import Density

PIECES, TURNS, SHIFT, SCALE, NOISE, SHRINK = 160, 1.5, 0.5, 3.0, 0.1, 4.0


def make_two_spirals() -> Density:
    """The density with its classes "A" and "B"."""
    middle = (torch.arange(PIECES, dtype=torch.float64) + 0.5) / PIECES
    edges = torch.arange(PIECES + 1, dtype=torch.float64) / PIECES
    curve, ends = _at(middle), _at(edges)
    chord = (ends[1:] - ends[:-1]) / 12**0.5
    spread = (NOISE / SHRINK) ** 2 + (SHIFT / SCALE / SHRINK) ** 2 / 12
    covariances = chord[:, :, None] * chord[:, None, :] + spread * torch.eye(2, dtype=torch.float64)
    weights = torch.full((PIECES,), 1 / PIECES, dtype=torch.float64)
    shift = SHIFT / 2 / SCALE / SHRINK
    classes = {
        name: GaussianMixture(weights, sign * (curve + shift), covariances) for name, sign in (("A", 1), ("B", -1))
    }
    return Density("two-spirals", classes)


def _at(u: torch.Tensor) -> torch.Tensor:
    """The curve at the quantiles ``u``, without shift and noise, (N, 2)."""
    phi = u.sqrt() * 2 * math.pi * TURNS
    return torch.stack([-phi * phi.cos(), phi * phi.sin()], dim=1) / SCALE / SHRINK
