"""Five arms that turn with their radius (Johnson et al. 2016): the pinwheel.

The recipe: a point (r, y) = (1 + .3 n1, .1 n2) of an arm's own frame, n1 and n2 from N(0, 1), is turned by
2 pi k/5 + .25 exp(r), and divided by 2.5. Along n1, N(0, 1) is written as Gaussians of standard deviation h at the
multiples c of h, with weights ~ exp(-c^2 / (2 (1 - h^2))): their sum is N(0, 1) to 1e-8. Each is carried through the
turn by its Jacobian at (r, y) = (1 + .3 c, 0), which is the only approximation.

The paper gives no parameters. The recipe's own width, .1, has an entropy of -.90; `WIDTH` takes its place, so that DDIM
with the ideal denoiser, in 32 steps from 10^4 samples, has the NLL that the paper reports of it, -1.19 (to .02 from
seed to seed); the entropy is then -1.27. All else is the recipe's.
"""

from __future__ import annotations

import math

import torch

from ...densities import GaussianMixture
from .density import Density

ARMS, RADIAL, RATE, SHRINK = 5, 0.3, 0.25, 2.5
SPACING, REACH = 0.2, 18
WIDTH = 0.068


def make_pinwheel() -> Density:
    """The density, of one class, "all"."""
    c = SPACING * torch.arange(-REACH, REACH + 1, dtype=torch.float64).repeat(ARMS)
    start = (2 * math.pi / ARMS * torch.arange(ARMS, dtype=torch.float64)).repeat_interleave(2 * REACH + 1)
    radius = 1 + RADIAL * c
    angle = start + RATE * radius.exp()
    outward = torch.stack([angle.cos(), angle.sin()], dim=1) / SHRINK
    sideways = torch.stack([-outward[:, 1], outward[:, 0]], dim=1)
    turned = (radius * RATE * radius.exp())[:, None] * sideways
    along, across = RADIAL * SPACING * (outward + turned), WIDTH * sideways
    covariances = along[:, :, None] * along[:, None, :] + across[:, :, None] * across[:, None, :]
    weights = (-(c**2) / (2 * (1 - SPACING**2))).exp()
    mixture = GaussianMixture(weights / weights.sum(), radius[:, None] * outward, covariances)
    return Density("pinwheel", {"all": mixture})
