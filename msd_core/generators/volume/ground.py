"""What stands behind an object: a colour that is solved for, a given one, one by chance, or a sky that is learned.

    picture = colour + (1 - opacity) ground
    solved: ground <- ground + e (g* - ground),   g* = sum u target / sum u,   u = (1 - opacity)^4

A ground that is moved by gradient is moved to explain errors that the density made, and the density learns to imitate
it: fog. Solved in closed form from the pixels that see it, it leaves the density nothing to gain (e = 1 in the first
iteration, then 0.2). Measured with the demo model on a white ground: mean opacity .83 learned, .17 solved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import perceptron
from .camera import Vector3

COLOURS: dict[str, Vector3] = {"white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}
GROUNDS = ("solved", *COLOURS, "random", "sky")
SHARE, POWER = 0.2, 4
"""e after the first iteration, and the power of the transparency."""


def first_ground(kind: str) -> Tensor:
    """RGB (3,) of a ground before the first iteration, or throughout it: grey unless the kind names a colour."""
    return torch.tensor(COLOURS.get(kind, COLOURS["grey"]))


@torch.no_grad()
def solved(ground: Tensor, opacity: Tensor, target: Tensor, share: float) -> Tensor:
    """The ground (3,) after an iteration.

    Args:
        ground: before it, (3,).
        opacity: of what was rendered, (V, 1, h, w).
        target: where the picture was pulled, (V, 3, H, W).
        share: e.
    """
    weight = F.interpolate(1 - opacity, target.shape[-2:], mode="area").clamp(0, 1) ** POWER
    total = weight.sum()
    if not total > 0:
        return ground.clone()
    found = (weight * target).sum(dim=(0, 2, 3)) / total
    return torch.lerp(ground, found.to(ground).clamp(0, 1), share)


class Sky(nn.Module):
    """Colour (R, 3) in [0, 1] by direction (R, 3): an MLP of its products up to the second degree."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.network = perceptron(9, 16, 2, 3, rng)

    def forward(self, direction: Tensor) -> Tensor:
        """Colours of unit vectors."""
        products = (direction[:, :, None] * direction[:, None]).flatten(1)[:, [0, 1, 2, 4, 5]]
        constant = torch.ones_like(direction[:, :1])
        return torch.sigmoid(self.network(torch.cat([constant, direction, products], dim=1)))
