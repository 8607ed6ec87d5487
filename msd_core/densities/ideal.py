"""The ideal denoiser of a finite data set, as attention.

For data y_1 .. y_N (Karras et al. 2022, Eq. 57; Mean-Shift Distillation, Eq. 16)

    D(z; sigma) = softmax_i(-|z - y_i|^2 / (2 sigma^2)) y_i.

|z|^2 is common to all i, so the logits are <z, y_i>/sigma^2 - |y_i|^2/(2 sigma^2): scaled-dot-product attention with
query [z, 1]/sigma^2, key [y_i, -|y_i|^2/2], value y_i and scale 1, which torch streams in O(N) memory (given 4-D
tensors, and values as wide as the keys: hence the two extra dimensions and the column of zeros below).

Two things make small sigma different. Only near data counts: queries are taken in compact blocks, and each block sees
only the data that can matter to it (`neighbours`). And the logits grow as (radius/sigma)^2 while their *differences*
decide, so that float32 runs out of digits: each block is centred on the data it sees, and computed in float64 where
float32's rounding could still move the result by more than 1e-5 of the data's unit radius.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from ..denoiser import Sigma, expand_sigma
from ..validation import as_floating, check_count
from .neighbours import MAX_DIMENSIONS, Blocks, bisect

_ROUNDING = 3e-5
_DATA_BLOCK = 64


@dataclass(frozen=True, eq=False)
class IdealDenoiser:
    """The denoiser of the empirical distribution of ``data``.

    A float64 z is answered in float64 throughout; a float32 one to 1e-5 of the data's radius.

    Args:
        data: N points, shape (N, *), finite.
        block: rows that are answered together when only near data counts.

    Raises:
        ValueError: if ``data`` is empty or not finite, or ``block`` is not a whole number > 0.
    """

    data: Tensor
    block: int = 256
    _centre: Tensor = field(init=False, repr=False)
    _points: Tensor = field(init=False, repr=False)
    _radius: float = field(init=False, repr=False)
    _blocks: Blocks | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("block", self.block)
        object.__setattr__(self, "data", as_floating("data", self.data))
        if self.data.ndim < 2 or self.data.numel() == 0 or not bool(torch.isfinite(self.data).all()):
            raise ValueError(
                f"data: got shape {tuple(self.data.shape)}, or entries that are not finite; allowed is a finite tensor "
                "(N, *) with N >= 1. Clean and stack it first."
            )
        points = self.data.flatten(1).double()
        centre = points.mean(dim=0)
        centred = points - centre
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_points", centred)
        object.__setattr__(self, "_radius", float(centred.norm(dim=1).max()))
        blocks = Blocks.of(centred, _DATA_BLOCK) if centred.shape[1] <= MAX_DIMENSIONS else None
        object.__setattr__(self, "_blocks", blocks)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z], shape and dtype of ``z`` (B, *).

        Raises:
            ValueError: if ``sigma`` is not positive or ``z`` does not have the data's shape after the first dimension.
        """
        z = as_floating("z", z)
        if z.shape[1:] != self.data.shape[1:]:
            raise ValueError(
                f"z: got shape {tuple(z.shape)}; allowed is (B, *) with rows of the data's shape, "
                f"{tuple(self.data.shape[1:])}. Reshape it."
            )
        rows = z.flatten(1).double() - self._centre
        level = expand_sigma(sigma, rows)
        if not bool((level > 0).all()):
            raise ValueError(
                f"sigma: got {float(level.min())}; allowed is > 0: between data points there is no density at 0. "
                "End the schedule's evaluations at its last non-zero level."
            )
        spread = 2 * level**2 * self._cutoff(z.dtype)
        if self._blocks is None or self._all_count(rows, level, spread, z.dtype):
            denoised = self._attend(rows, level, self._points, z.dtype)
        else:
            denoised = self._near(rows, level, spread, self._blocks, z.dtype)
        return (denoised + self._centre).reshape(z.shape).to(z.dtype)

    def _cutoff(self, dtype: torch.dtype) -> float:
        """T: all that is dropped weighs less than 1e-6, or 1e-12 for float64."""
        return math.log(len(self._points)) + (12 if dtype == torch.float64 else 6) * math.log(10)

    def _all_count(self, rows: Tensor, level: Tensor, spread: Tensor, dtype: torch.dtype) -> bool:
        """Whether to ask all data at once: where most of it counts, that is faster than to choose, in float32."""
        reach = float(spread.min().sqrt()) / max(self._radius, 1e-300)
        single = dtype != torch.float64 and self._rounding(rows, level, self._radius) <= _ROUNDING
        return reach >= 2 or (single and reach >= 0.75)

    def _near(self, rows: Tensor, level: Tensor, spread: Tensor, blocks: Blocks, dtype: torch.dtype) -> Tensor:
        """Block by block, each with the data that can matter to it: (B, D)."""
        order = bisect(rows.detach(), self.block)
        rows, level = rows[order], level[order]
        near = blocks.near(rows.detach(), spread[order])
        parts = []
        for part, noise, seen in zip(
            rows.split(self.block), level.split(self.block), near.split(self.block), strict=True
        ):
            chosen = seen.any(dim=0)
            points = blocks.points[chosen][blocks.real[chosen]]
            parts.append(self._attend(part, noise, points, dtype))
        return torch.empty_like(rows).index_copy(0, order, torch.cat(parts))

    def _attend(self, rows: Tensor, level: Tensor, points: Tensor, dtype: torch.dtype) -> Tensor:
        """Attention of ``rows`` (B, D) to ``points`` (n, D): (B, D), float64."""
        origin = (points.amin(dim=0) + points.amax(dim=0)) / 2
        points, rows = points - origin, rows - origin
        square = points.square().sum(dim=1, keepdim=True)
        if dtype != torch.float64 and self._rounding(rows, level, float(square.max().sqrt())) > _ROUNDING:
            dtype = torch.float64
        dtype = dtype if dtype == torch.float64 else torch.float32
        keys = torch.cat([points, -square / 2], dim=1).to(dtype)[None, None]
        values = pad(keys[..., :-1], (0, 1))
        queries = (pad(rows, (0, 1), value=1.0) / level**2).to(dtype)[None, None]
        return scaled_dot_product_attention(queries, keys, values, scale=1.0)[0, 0, :, :-1].double() + origin

    def _rounding(self, rows: Tensor, level: Tensor, radius: float) -> float:
        """How far float32's rounding of the logits can move the result, as a fraction of the data's radius."""
        reach = radius * (rows.detach().norm(dim=1, keepdim=True) + radius / 2)
        logit = float((reach / level**2).max()) * torch.finfo(torch.float32).eps
        return logit * radius / max(self._radius, 1e-300)
