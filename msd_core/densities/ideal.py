"""The ideal denoiser of a finite data set, as attention.

For data y_1 .. y_N (Karras et al. 2022, Eq. 57; Mean-Shift Distillation, Eq. 16)

    D(z; sigma) = softmax_i(-|z - y_i|^2 / (2 sigma^2)) y_i.

|z|^2 is common to all i, so the logits are <z, y_i>/sigma^2 - |y_i|^2/(2 sigma^2): scaled-dot-product attention with
query [z, 1]/sigma^2, key [y_i, -|y_i|^2/2], value y_i and scale 1, which torch streams in O(N) memory (given 4-D
tensors, and values as wide as the keys: hence the two extra dimensions and the column of zeros below).

The logits grow as (radius/sigma)^2 while their *differences* decide, so float32 has no digits left at small sigma. The
data is centred, and float64 is used wherever float32's rounding of the logits could exceed 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from ..denoiser import Sigma, expand_sigma
from ..validation import check_count

_LOGIT_ERROR = 1e-5


@dataclass(frozen=True, eq=False)
class IdealDenoiser:
    """The denoiser of the empirical distribution of ``data``.

    Args:
        data: N points, shape (N, *), finite.
        chunk: query rows per attention call; bounds the memory to ``chunk * N`` numbers even where attention is not
            streamed.

    Raises:
        ValueError: if ``data`` is empty or not finite, or ``chunk`` is not a whole number > 0.
    """

    data: Tensor
    chunk: int = 4096
    _centre: Tensor = field(init=False, repr=False)
    _keys: Tensor = field(init=False, repr=False)
    _radius: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("chunk", self.chunk)
        if self.data.ndim < 2 or self.data.numel() == 0 or not bool(torch.isfinite(self.data).all()):
            raise ValueError(
                f"data: got shape {tuple(self.data.shape)}, or entries that are not finite; allowed is a finite tensor "
                "(N, *) with N >= 1. Clean and stack it first."
            )
        points = self.data.flatten(1).double()
        centre = points.mean(dim=0)
        centred = points - centre
        square = centred.square().sum(dim=1, keepdim=True)
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_keys", torch.cat([centred, -square / 2], dim=1))
        object.__setattr__(self, "_radius", float(square.max().sqrt()))

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z], shape and dtype of ``z`` (B, *).

        Raises:
            ValueError: if ``sigma`` is not positive or ``z`` does not have the data's shape after the first dimension.
        """
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
        dtype = self._dtype(rows, level)
        keys = self._keys.to(dtype)[None, None]
        values = pad(keys[..., :-1], (0, 1))
        queries = (pad(rows, (0, 1), value=1.0) / level**2).to(dtype)[None, None]
        parts = [
            scaled_dot_product_attention(part, keys, values, scale=1.0) for part in queries.split(self.chunk, dim=2)
        ]
        return (torch.cat(parts, dim=2)[0, 0, :, :-1].double() + self._centre).reshape(z.shape).to(z.dtype)

    def _dtype(self, rows: Tensor, level: Tensor) -> torch.dtype:
        """float32 where its rounding changes no logit by more than `_LOGIT_ERROR`, else float64."""
        reach = self._radius * (rows.norm(dim=1, keepdim=True) + self._radius)
        worst = float((reach / level**2).detach().max())
        return torch.float32 if worst * torch.finfo(torch.float32).eps < _LOGIT_ERROR else torch.float64
