"""Conjugate gradients for M u = e, each row for itself (Hestenes & Stiefel 1952)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], e: Tensor, steps: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield ``(alpha, p, r)`` after each step: u grows by alpha p, and r is what is left of ``e``.

    A row whose residual is 0, or along whose direction the operator does not stretch (that of a network need not be
    positive), stops: its alpha is 0 from there.

    Args:
        operator: M, (B, *) -> (B, *).
        e: right-hand side (B, *).
        steps: most of them.
    """
    r = p = e
    length = _dot(r, r)
    going = length > 0
    for _ in range(steps):
        if not bool(going.any()):
            return
        stretched = operator(p)
        along = _dot(p, stretched)
        going = going & (along > 0)
        alpha = torch.where(going, length / torch.where(going, along, 1.0), 0.0)
        yield alpha, p, r
        r = r - alpha * stretched
        left = _dot(r, r)
        p = r + torch.where(going, left / torch.where(length > 0, length, 1.0), 0.0) * p
        going = going & (left > torch.finfo(e.dtype).eps ** 2 * _dot(e, e))
        length = left


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of every row, (B, 1, ...)."""
    return (a * b).flatten(1).sum(dim=1).reshape(-1, *(1,) * (a.ndim - 1))
