"""A smaller picture: the mean of every block of k x k, and its transpose. A A^T = 1 / k^2."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..settings import check_settings, setting


@dataclass(frozen=True)
class Pool:
    """The mean of every block, ``factor`` times smaller.

    Raises:
        ValueError: for a factor below 1; from `apply`, for a picture that is no whole number of blocks.
    """

    factor: int = setting(4, "how many times smaller, a side", low=1, high=64)

    def __post_init__(self) -> None:
        check_settings(self)

    def apply(self, y: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / factor, W / factor)."""
        if any(side % self.factor for side in y.shape[-2:]):
            raise ValueError(
                f"factor: got {self.factor} for a picture of {y.shape[-1]}x{y.shape[-2]}; allowed are divisors of both "
                "sides. Crop the picture, or use another factor."
            )
        return F.avg_pool2d(y, self.factor)

    def adjoint(self, u: Tensor) -> Tensor:
        """Each value spread over its block, as 1 / factor^2 of it."""
        return self.inverse(u) / self.factor**2

    def singular(self, y: Tensor) -> Tensor:
        """The singular value of all directions that it sees, 1 / factor."""
        return y.new_tensor(1 / self.factor)

    def inverse(self, u: Tensor) -> Tensor:
        """Each value repeated over its block."""
        return u.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)
