"""A blurred picture: A y = y * N(0, width^2), cut at three widths, of the picture mirrored at its edges.

Mirrored so that the first and the last pixel stand twice, an even kernel is its own transpose: cosines are its
eigenvectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..settings import check_settings, setting


@dataclass(frozen=True)
class Blur:
    """A Gaussian of standard deviation ``width`` pixels.

    Raises:
        ValueError: for a width that is not above 0.
    """

    width: float = setting(2.0, "standard deviation in pixels", above=0, high=256)

    def __post_init__(self) -> None:
        check_settings(self)

    def apply(self, y: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        reach = math.ceil(3 * self.width)
        taps = torch.arange(-reach, reach + 1, device=y.device, dtype=y.dtype)
        taps = (-(taps**2) / (2 * self.width**2)).exp()
        kernel = (taps / taps.sum()).expand(y.shape[1], 1, 1, -1)
        across = F.conv2d(y[..., mirrored(y.shape[-1], reach)], kernel, groups=y.shape[1])
        return F.conv2d(across[..., mirrored(y.shape[-2], reach), :], kernel.mT, groups=y.shape[1])

    def adjoint(self, u: Tensor) -> Tensor:
        """The same."""
        return self.apply(u)


def mirrored(side: int, reach: int) -> Tensor:
    """Where the ``side`` pixels, and ``reach`` more at both ends, are found in the mirrored row."""
    place = torch.arange(-reach, side + reach) % (2 * side)
    return torch.minimum(place, 2 * side - 1 - place)
