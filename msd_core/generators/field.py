"""What a neural image is made of: a field, a trainable function from position to colour before the sigmoid."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from .base import Config


class Field(nn.Module, ABC):
    """f: (N, 2) positions in [0, 1]^2 -> (N, 3); its own options are the keyword-only arguments of its constructor."""

    @abstractmethod
    def forward(self, position: Tensor) -> Tensor:
        """(N, 2) positions -> (N, 3)."""

    @abstractmethod
    def config(self) -> Config:
        """Its own options, as JSON-able keyword arguments."""
