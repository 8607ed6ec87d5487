"""What a neural image is made of: a field, a trainable function from position to colour before the sigmoid."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..validation import check_choice
from .base import Config

TILES = ("none", "x", "y", "xy")
"""Axes along which a field repeats: f(p + e) = f(p) for the unit vector e of each, to the rounding of its positions."""


def axes_of(tile: str) -> tuple[bool, bool]:
    """Whether a field repeats along x, and along y.

    Raises:
        ValueError: for a word other than those of `TILES`.
    """
    check_choice("tile", tile, TILES)
    return "x" in tile, "y" in tile


class Field(nn.Module, ABC):
    """f: (N, 2) positions in [0, 1]^2 -> (N, 3); its own options are the keyword-only arguments of its constructor.

    f = `read` of `encode`, which does not depend on the parameters: where one view is drawn often it is done once.
    ``tile`` says along which axes it repeats.
    """

    tile: str = "none"

    def forward(self, position: Tensor) -> Tensor:
        """(N, 2) positions -> (N, 3)."""
        return self.read(*self.encode(position))

    def encode(self, position: Tensor) -> tuple[Tensor, ...]:
        """What `read` needs of (N, 2) positions, free of the parameters: tensors with N rows."""
        return (position,)

    @abstractmethod
    def read(self, *encoded: Tensor) -> Tensor:
        """(N, 3) of what `encode` gave."""

    @abstractmethod
    def config(self) -> Config:
        """Its own options, as JSON-able keyword arguments."""
