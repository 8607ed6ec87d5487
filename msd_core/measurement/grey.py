"""A picture without colour: Rec. 709's luma of linear values, 0.2126 R + 0.7152 G + 0.0722 B."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Grey:
    """The luma of a picture of three colours.

    Raises:
        ValueError: from `apply`, for another number of channels.
    """

    def apply(self, y: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, H, W)."""
        if y.shape[1] != 3:
            raise ValueError(f"y: got {y.shape[1]} channels; allowed are three colours. Decode a latent first.")
        return (y * self._weights(y)).sum(dim=1, keepdim=True)

    def adjoint(self, u: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 3, H, W)."""
        return u * self._weights(u)

    def singular(self, y: Tensor) -> Tensor:
        """The singular value of all directions that it sees, |weights|."""
        return self._weights(y).norm()

    def inverse(self, u: Tensor) -> Tensor:
        """The smallest picture of this luma."""
        return self.adjoint(u) / sum(weight**2 for weight in LUMA)

    def _weights(self, like: Tensor) -> Tensor:
        return torch.tensor(LUMA, dtype=like.dtype, device=like.device).reshape(3, 1, 1)
