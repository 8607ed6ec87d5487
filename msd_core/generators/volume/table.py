"""Weighted sums of rows of a table, as one operation: how a grid whose corners share entries is read.

    y_n = sum_k w_nk T[r_nk]

Written as an embedding and a sum, the gathered rows are kept for the backward pass, which then sorts them: several
times as slow on a CPU. Here nothing is kept but the arguments, and the gradient is added up entry by entry, in the
order of the rows: on the CPU it is the same to the bit with any number of threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def weighted_rows(table: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """(N, C) sums of rows of a ``table`` (E, C); ``rows`` (N, K) in 0 ... E - 1, ``weight`` (N, K); one derivative."""
    return _Weighted.apply(table, rows, weight.to(table))


class _Weighted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(table, rows, weight)
        if table.device.type == "mps":  # older torch has no embedding_bag there
            return (weight[..., None] * F.embedding(rows, table)).sum(dim=1)
        return F.embedding_bag(rows, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 # pyright: ignore[reportIncompatibleMethodOverride]
        table, rows, weight = ctx.saved_tensors
        of_table = of_weight = None
        if ctx.needs_input_grad[0]:
            flat, empty = rows.flatten().long(), table.new_zeros(len(table))
            parts = [empty.scatter_add(0, flat, (weight * one[:, None]).flatten()) for one in gradient.unbind(dim=1)]
            of_table = torch.stack(parts, dim=1)
        if ctx.needs_input_grad[2]:
            of_weight = (F.embedding(rows, table) * gradient[:, None]).sum(dim=-1)
        return of_table, None, of_weight
