"""What the two generators share whose parameters are the picture itself: their start, and resampling.

    g(psi) = psi at its own size; other sizes are bicubic resamplings (antialiased when smaller).

The Jacobian at the grid's own size is the identity: what a method does to x it does to the parameters, unfiltered.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..validation import check_choice, check_count
from .base import Config, View

INITS = ("flat", "noise")


def start(channels: int, height: int, width: int, init: str, seed: int) -> tuple[Tensor, Config]:
    """Standard normal noise, or zeros, of the grid's shape; and the checked options."""
    for name, value in {"channels": channels, "height": height, "width": width}.items():
        check_count(name, value)
    check_choice("init", init, INITS)
    check_count("seed", seed, minimum=0)
    shape = (1, channels, height, width)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) if init == "noise" else torch.zeros(shape)
    return noise, {"channels": channels, "height": height, "width": width, "init": init, "seed": seed}


def resample(values: Tensor, view: View) -> Tensor:
    """``values`` (1, C, h, w) at the size of ``view``, differentiable; a copy of them at their own."""
    if values.shape[-2:] == (view.height, view.width):
        return values.clone()
    return F.interpolate(values, size=(view.height, view.width), mode="bicubic", antialias=True)
