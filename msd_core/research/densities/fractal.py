"""The tree-like density of Karras et al. 2024 (autoguidance, the toy example): two classes, a binary tree each.

A branch of depth d = 0 .. 6 at angle a has length L = .292 .8^d (1 + .2 n), n ~ N(0, 1), and holds 8 Gaussians, centred
at .07 .. .93 of it. With u = (cos a, sin a) and its thickness t = .2 .8^d / L against its length,

    covariance = (u u^T + (I - u u^T) t^2) * (size size^T),   size = scale L .06,   weight ~ L .5^d,

"*" elementwise. Its two children start at its end, at the angles a +- .7^d (1 + .2 n). The whole tree stands at the
origin and is then scaled, so that both classes, weighed by their trees' own sums of weights, have mean 0 and standard
deviation .5 in each coordinate (weighed alike, as in `Density.mixture`, the mean is .017 off). One stream,
`RandomState(2)`, class A first, gives a branch its length, then the first child's angle, all of that child, and the
second child's angle; the angles are drawn at the last depth too, for children that are not there.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ...densities import GaussianMixture
from .density import Density

SEED, DEPTH, PIECES = 2, 7, 8
ORIGIN, SCALE = np.array([0.0030, 0.0325]), np.array([1.3136, 1.3844])
ROOTS = {"A": math.pi / 4, "B": 5 * math.pi / 4}
LENGTH, SHRINK, SPREAD, THICKNESS, SIZE, VARIATION = 0.292, 0.8, 0.7, 0.2, 0.06, 0.2

Piece = tuple[float, NDArray[np.float64], NDArray[np.float64]]


def make_fractal() -> Density:
    """The density with its classes "A" and "B"."""
    random = np.random.RandomState(SEED)
    return Density("fractal", {name: _mixture(_branch(random, ORIGIN, root, 0)) for name, root in ROOTS.items()})


def _branch(random: np.random.RandomState, start: NDArray[np.float64], angle: float, depth: int) -> list[Piece]:
    """Weight, mean and covariance of every Gaussian of a branch and of all that grows from it."""
    if depth == DEPTH:
        return []
    length = LENGTH * SHRINK**depth * (1 + VARIATION * random.randn())
    direction = np.array([math.cos(angle), math.sin(angle)])
    along, size = np.outer(direction, direction), SCALE * length * SIZE
    thickness = THICKNESS * SHRINK**depth / length
    covariance = (along + (np.eye(2) - along) * thickness**2) * np.outer(size, size)
    step = direction * length
    pieces = [(length * 0.5**depth, (start + step * at) * SCALE, covariance) for at in np.linspace(0.07, 0.93, PIECES)]
    for sign in (1, -1):
        turn = sign * SPREAD**depth * (1 + VARIATION * random.randn())
        pieces += _branch(random, start + step, angle + turn, depth + 1)
    return pieces


def _mixture(pieces: list[Piece]) -> GaussianMixture:
    weights, means, covariances = (torch.from_numpy(np.array(column)) for column in zip(*pieces, strict=True))
    return GaussianMixture(weights / weights.sum(), means, covariances)
