"""What every metric accepts as a set of points: a finite floating-point tensor (N, D), compared in float64 on the CPU.

A row that is not finite is refused, never dropped: a study of a diverging run has to say how many points it lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...validation import as_floating


def check_points(name: str, value: Tensor, *, minimum: int = 1, dimension: int | None = None) -> Tensor:
    """``value`` as float64 rows on the CPU, detached.

    Args:
        name: the argument's name, for the error.
        value: points, shape (N, D).
        minimum: the smallest N allowed.
        dimension: the D required, or None for any.

    Raises:
        ValueError: for another shape or type, fewer rows than ``minimum``, or entries that are not finite.
    """
    value = as_floating(name, value)
    if value.ndim != 2 or value.shape[0] < minimum or value.shape[1] < 1 or dimension not in (None, value.shape[1]):
        columns = "D" if dimension is None else dimension
        raise ValueError(
            f"{name}: got shape {tuple(value.shape)}; allowed is (N, {columns}) with N >= {minimum}. Reshape it to one "
            "point a row."
        )
    lost = int((~torch.isfinite(value)).any(dim=1).sum())
    if lost:
        raise ValueError(
            f"{name}: got {lost} of {value.shape[0]} rows that are not finite; allowed are finite numbers. Take these "
            "rows out and state their number with the result."
        )
    return value.detach().double().cpu().contiguous()
