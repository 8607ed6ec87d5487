"""A field over many positions, piece by piece, so that the memory does not grow with their number.

    c_i = sigmoid(f(p_i; psi)),   dpsi = sum over pieces of J_piece^T g_piece

A small picture's backward pass keeps the values of all layers, about 2.5 kB a position with the defaults. A large
one's keeps none: it evaluates each piece again when its turn comes (Chen et al. 2016), for the time of one more forward
pass. Pieces and their order are the same either way, and so are the bits. It is a function of its own and not
`torch.utils.checkpoint` a piece: there the small tensors that outlive a piece lie between the large ones that do not,
and the C library's heap grew by 600 bytes a position.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from .field import Field

CHUNK = 2**13
"""Positions evaluated at once: bounds the memory of a large render, and stays in the cache of one."""
KEPT = 2**26
"""Hidden units, over all positions of a picture, that a backward pass may keep: about 13 bytes each, 0.9 GB."""

Positions = Callable[[int, int], Tensor]
"""The positions from one number up to another: (stop - start, 2)."""


def colours(field: Field, positions: Positions, count: int, units: int) -> Callable[[], Tensor]:
    """What gives sigmoid(f) at ``count`` positions, (count, 3), differentiable in the field's parameters.

    It may be called again after these have changed. Where the backward pass keeps its values, the encoded positions are
    made once, and kept as well: they are among these values.

    Args:
        field: f.
        positions: gives those of a piece.
        count: of all positions.
        units: hidden units of the field for one position, by which it is decided what the backward pass keeps. Where
            it keeps nothing there is no second derivative.
    """
    parameters = dict(field.named_parameters())
    if not torch.is_grad_enabled() or not any(p.requires_grad for p in parameters.values()):
        return partial(_evaluate, field, positions, count)
    if count * units > KEPT:
        return lambda: _Again.apply(field, positions, count, list(parameters), *parameters.values())  # pyright: ignore
    encoded = [field.encode(positions(*piece)) for piece in _pieces(count)]
    return lambda: torch.cat([torch.sigmoid(field.read(*piece)) for piece in encoded])


def _pieces(count: int) -> list[tuple[int, int]]:
    return [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _evaluate(field: Field, positions: Positions, count: int) -> Tensor:
    """The colours without gradient, written where they belong."""
    like = next(field.parameters())
    whole = like.new_empty(count, 3)
    for start, stop in _pieces(count):
        whole[start:stop] = torch.sigmoid(field(positions(start, stop)))
    return whole


class _Again(torch.autograd.Function):
    """Forward without a graph; backward with each piece's own, made for it and dropped after it."""

    @staticmethod
    def forward(ctx: Any, field: Field, positions: Positions, count: int, names: list[str], *values: Tensor) -> Tensor:  # noqa: ANN401
        ctx.field, ctx.positions, ctx.names = field, positions, names
        ctx.save_for_backward(*values)
        return _evaluate(field, positions, count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 # pyright: ignore[reportIncompatibleMethodOverride]
        needed = ctx.needs_input_grad[4:]
        values = [v.detach().requires_grad_(n) for v, n in zip(ctx.saved_tensors, needed, strict=True)]
        leaves = [value for value in values if value.requires_grad]
        total: list[Tensor | None] = [None] * len(leaves)
        for start, stop in reversed(_pieces(len(cotangent))):  # as autograd would: the last piece first
            with torch.enable_grad():
                named = dict(zip(ctx.names, values, strict=True))
                colour = torch.sigmoid(functional_call(ctx.field, named, (ctx.positions(start, stop),)))
            found = torch.autograd.grad(colour, leaves, cotangent[start:stop], allow_unused=True)
            total = [new if old is None or new is None else old + new for old, new in zip(total, found, strict=True)]
        gradients = iter(total)
        return (None,) * 4 + tuple(next(gradients) if n else None for n in needed)
