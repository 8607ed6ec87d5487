"""Some of the picture: A y = m y, with m = 1 where it is known and 0 in the hole.

Between, m is how well: what is seen of a cell through m = 1/2 is known with twice the noise, so a soft edge is one of
decreasing trust. A A^T = m^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..validation import as_mask


@dataclass(frozen=True)
class Mask:
    """m y.

    Args:
        mask: m in [0, 1], (H, W), (1, 1, H, W) or (B, 1, H, W): 1 is known.

    Raises:
        ValueError: for a mask of another shape or range; from `apply`, for a picture of another size.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_mask("mask", self.mask))

    def apply(self, y: Tensor) -> Tensor:
        """m y, of y's shape."""
        if self.mask.shape[-2:] != y.shape[-2:]:
            raise ValueError(
                f"mask: got {self.mask.shape[-1]}x{self.mask.shape[-2]} for a picture of {y.shape[-1]}x{y.shape[-2]}; "
                "allowed is its size. Resize the mask."
            )
        return self.mask.to(y) * y

    def adjoint(self, u: Tensor) -> Tensor:
        """m u: it is its own transpose."""
        return self.apply(u)

    def singular(self, y: Tensor) -> Tensor:
        """The singular value of each number of y, m: it is diagonal."""
        return self.mask.to(y)

    def inverse(self, u: Tensor) -> Tensor:
        """u / m where m is not 0, and 0 in the hole."""
        mask = self.mask.to(u)
        return torch.where(mask > 0, u / mask.clamp(min=torch.finfo(u.dtype).tiny), 0.0)
