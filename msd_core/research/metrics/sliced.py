"""Sliced Wasserstein distance of two sets of points (Rabin et al. 2011): how far mass has to be moved.

    SW2^2 = E_u W2^2(<u, x>, <u, y>),   u uniform on the sphere;   on a line W2 pairs sorted points

Two samples of one density have a distance, too, which falls with their number: it belongs beside every figure.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...randomness import Rng, draw_normal
from ...validation import check_count
from .points import check_points

DIRECTIONS = 128


@torch.no_grad()
def sliced_wasserstein(generated: Tensor, reference: Tensor, rng: Rng, directions: int = DIRECTIONS) -> float:
    """SW2, in units of the points.

    Args:
        generated: (N, D).
        reference: (N, D), as many.
        rng: of the directions.
        directions: how many.

    Raises:
        ValueError: for shapes that do not fit, rows that are not finite, or no direction.
    """
    check_count("directions", directions, maximum=1_000_000)
    x = check_points("generated", generated)
    y = check_points("reference", reference, minimum=len(x), dimension=x.shape[1])
    if len(y) != len(x):
        raise ValueError(f"reference: got {len(y)} points for {len(x)}; allowed are as many. Draw as many.")
    along = draw_normal(x.new_empty(directions, x.shape[1]), rng)[0]
    along = (along / along.norm(dim=1, keepdim=True)).T
    return float(((x @ along).sort(dim=0).values - (y @ along).sort(dim=0).values).square().mean().sqrt())
