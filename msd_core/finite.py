"""NaN and infinity, refused where they first appear."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class NonFiniteError(ValueError):
    """A NaN or infinity where a number is needed.

    Attributes:
        name: of what gave it; what: the numbers that hold it; count, total: how many do, of how many; fix: what to do;
            where: the step, as far as it is known.
    """

    def __init__(self, name: str, what: str, count: int, total: int, fix: str, where: str = "") -> None:
        self.name, self.what, self.count, self.total, self.fix, self.where = name, what, count, total, fix, where
        super().__init__(
            f"{name}: NaN or infinity in {count} of {total} numbers of the {what}{where}; allowed are finite numbers. "
            f"{fix}"
        )


def check_finite(name: str, tensors: Iterable[Tensor], what: str, fix: str) -> None:
    """Refuse NaN and infinity in ``tensors``.

    Raises:
        NonFiniteError: with how many.
    """
    bad = total = 0
    for tensor in tensors:
        bad += int(tensor.numel() - torch.isfinite(tensor).sum())
        total += tensor.numel()
    if bad:
        raise NonFiniteError(name, what, bad, total, fix)
