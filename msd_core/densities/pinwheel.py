"""Five arms that turn with their radius (Johnson et al. 2016): the pinwheel.

The recipe: in an arm's own frame (1 + .3 n1, .1 n2), turned by its angle 2 pi k/5 + .25 exp(r) with r = 1 + .3 n1, all
over 2.5. Each arm is cut into pieces of equal probability along n1; a piece is a Gaussian along its chord, long enough
to run into the next, and as wide across as the recipe is there.

The paper's parameters are unpublished, and the recipe's width of .1 gives another entropy than its DDIM samples have as
NLL (-1.19 with the ideal, -1.10 with the learned denoiser): `WIDTH` is chosen so that the entropy is -1.15.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .curves import OVERLAP
from .density import Density
from .mixture import GaussianMixture

ARMS, PIECES, RADIAL, WIDTH, RATE, SHRINK = 5, 40, 0.3, 0.083, 0.25, 2.5


def make_pinwheel() -> Density:
    """The density, of one class, "all"."""
    edges = torch.linspace(0.5 / PIECES, 1 - 0.5 / PIECES, PIECES + 1, dtype=torch.float64)
    radius = 1 + RADIAL * torch.special.ndtri(edges)
    middle = (radius[1:] + radius[:-1]) / 2
    arms = [_arm(radius, middle, 2 * math.pi * k / ARMS) for k in range(ARMS)]
    means, covariances = (torch.cat(parts) for parts in zip(*arms, strict=True))
    weights = torch.full((ARMS * PIECES,), 1 / (ARMS * PIECES), dtype=torch.float64)
    return Density("pinwheel", {"all": GaussianMixture(weights, means, covariances)})


def _arm(edges: Tensor, middle: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Means (K, 2) and covariances (K, 2, 2) of the pieces between the radii ``edges``."""
    ends = _turn(edges, torch.zeros_like(edges), angle)
    along = OVERLAP * (ends[1:] - ends[:-1])
    across = WIDTH * (_turn(middle, torch.ones_like(middle), angle) - _turn(middle, torch.zeros_like(middle), angle))
    return _turn(middle, torch.zeros_like(middle), angle), _square(along) + _square(across)


def _square(vectors: Tensor) -> Tensor:
    return vectors[:, :, None] * vectors[:, None, :]


def _turn(x: Tensor, y: Tensor, angle: float) -> Tensor:
    """Points (x, y) of an arm's frame in the plane: turned by the arm's angle and by .25 exp(x)."""
    phi = angle + RATE * x.exp()
    return torch.stack([x * phi.cos() - y * phi.sin(), x * phi.sin() + y * phi.cos()], dim=1) / SHRINK
