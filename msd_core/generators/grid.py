"""What the two generators share whose parameters are the picture itself: their start, and resampling.

    g(psi) = psi at its own size; other sizes are bicubic resamplings (antialiased when smaller):

    y_i = sum_j k((j + 1/2 - s (i + 1/2)) / max(s, 1)) psi_j / (the same sum of k),   s = cells a pixel,

along either side, with Keys' cubic kernel k (1981, a = -1/2).

The Jacobian at the grid's own size is the identity: what a method does to x it does to the parameters, unfiltered.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..randomness import normal, seeded
from ..validation import check_choice, check_count
from .base import SIDE, Config, View

CHANNELS = 2**10
"""Most channels of a grid."""
INITS = ("flat", "noise")


def start(channels: int, height: int, width: int, init: str, seed: int) -> tuple[Tensor, Config]:
    """Standard normal noise, or zeros, of the grid's shape; and the checked options."""
    for name, value in {"channels": channels, "height": height, "width": width}.items():
        check_count(name, value, maximum=CHANNELS if name == "channels" else SIDE)
    check_choice("init", init, INITS)
    source = seeded(seed)
    shape = (1, channels, height, width)
    noise = normal(shape, source) if init == "noise" else torch.zeros(shape, dtype=torch.float32)
    return noise, {"channels": channels, "height": height, "width": width, "init": init, "seed": seed}


def resample(values: Tensor, view: View) -> Tensor:
    """``values`` (1, C, h, w) at the size of ``view``, its window only; differentiable; a copy of them at their own."""
    top, left, height, width = view.box
    if values.shape[-2:] == (view.height, view.width):
        return values[..., top : top + height, left : left + width].clone()
    if (height, width) == (view.height, view.width):
        return F.interpolate(values, size=(height, width), mode="bicubic", antialias=True)
    rows, down = _taps(values.shape[-2], view.height, top, height)
    columns, across = _taps(values.shape[-1], view.width, left, width)
    first = int(rows.min())
    band = values[..., first : int(rows.max()) + 1, :]
    return _weighted(_weighted(band, -1, columns, across), -2, rows - first, down)


def _taps(cells: int, length: int, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Cells and weights, (count, taps) both, of the sum above for pixels from ``start`` on, ``length`` in all.

    On the CPU: not every device has float64, and their least and greatest cell is asked for.
    """
    scale = cells / length
    spread = max(scale, 1.0)
    centre = (torch.arange(start, start + count, dtype=torch.float64, device="cpu")[:, None] + 0.5) * scale
    taps = (centre - 2 * spread + 0.5).long() + torch.arange(math.ceil(4 * spread) + 1, device="cpu")
    weight = _cubic((taps + 0.5 - centre) / spread) * ((taps >= 0) & (taps < cells))
    return taps.clamp(0, cells - 1), weight / weight.sum(dim=1, keepdim=True)


def _weighted(values: Tensor, side: int, taps: Tensor, weight: Tensor) -> Tensor:
    """The weighted sum of the ``taps`` along ``side``, one after the other: no tensor outgrows the result."""
    shape = (-1, 1) if side == -2 else (-1,)
    taps, weight = taps.to(values.device), weight.to(values.dtype).to(values.device)
    parts = (values.index_select(side, taps[:, k]) * weight[:, k].reshape(shape) for k in range(taps.shape[1]))
    return functools.reduce(torch.add, parts)


def _cubic(t: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2; 0 from 2 on."""
    t = t.abs()
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))
