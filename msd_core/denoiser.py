"""What a denoiser is.

Coordinates are variance-exploding throughout: z = y + sigma n with y ~ p and n ~ N(0, I). A denoiser is any callable
``(z, sigma) -> E[y | z]``; from it follow (Karras et al. 2022, Eqs. 3 and 4)

    eps(z; sigma)   = (z - D(z; sigma)) / sigma
    score(z; sigma) = (D(z; sigma) - z) / sigma^2.

z has shape (B, *). sigma is a number, a tensor of shape (), or one of shape (B,) with a level per row. A denoiser may
carry three optional attributes, read through the functions below: ``cost`` (network rows per row of z, 1 if absent) and
``sigma_min``, ``sigma_max`` (the range of levels it was trained on, 0 and infinity if absent).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias, Union

import torch
from torch import Tensor

from .validation import check_same_shape

Sigma: TypeAlias = Union[float, Tensor]  # noqa: UP007 - evaluated at run time


class Denoiser(Protocol):
    """A callable ``(z (B, *), sigma) -> denoised (B, *)`` that returns E[y | z]."""

    def __call__(self, z: Tensor, sigma: Sigma, /) -> Tensor: ...


def cost(denoiser: Denoiser) -> int:
    """Network rows that ``denoiser`` evaluates per row of z (its ``cost`` attribute; 1 if it has none)."""
    return int(getattr(denoiser, "cost", 1))


def sigma_range(denoiser: Denoiser) -> tuple[float, float]:
    """Noise levels ``(sigma_min, sigma_max)`` that ``denoiser`` was made for; (0, inf) if it does not say."""
    low, high = getattr(denoiser, "sigma_min", None), getattr(denoiser, "sigma_max", None)
    return (0.0 if low is None else float(low)), (math.inf if high is None else float(high))


def at_least_float32(z: Tensor) -> Tensor:
    """``z`` itself, or its float32 copy if it is in half precision: no coefficient is applied in half precision."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def expand_sigma(sigma: Sigma, z: Tensor) -> Tensor:
    """``sigma`` as a tensor that multiplies ``z`` (B, *): shape (B, 1, 1, ...), z's device, at least float32.

    Args:
        sigma: a number, or a tensor of shape (), (1,) or (B,).
        z: the tensor of shape (B, *) it belongs to.

    Raises:
        ValueError: if a tensor ``sigma`` has any other shape.
    """
    dtype = torch.promote_types(z.dtype, torch.float32)
    level = torch.as_tensor(sigma, device=z.device, dtype=dtype)
    if level.numel() != 1 and level.shape != z.shape[:1]:
        raise ValueError(
            f"sigma: got a tensor of shape {tuple(level.shape)}; allowed are a number, shape () or one level per row, "
            f"shape ({z.shape[0]},). Give every row of z its level."
        )
    return level.reshape(-1, *(1,) * (z.ndim - 1)).expand(z.shape[0], *(1,) * (z.ndim - 1))


def eps(z: Tensor, sigma: Sigma, denoised: Tensor) -> Tensor:
    """Predicted noise ``(z - denoised) / sigma`` (B, *), for sigma > 0."""
    return (at_least_float32(z) - denoised) / expand_sigma(sigma, z)


def score(z: Tensor, sigma: Sigma, denoised: Tensor) -> Tensor:
    """Score of the noised density, ``(denoised - z) / sigma^2`` (B, *), for sigma > 0."""
    return (denoised - at_least_float32(z)) / expand_sigma(sigma, z) ** 2


@dataclass
class RowCounter:
    """A denoiser that counts the network rows it asks ``denoiser`` for, in ``rows``.

    It refuses (`ValueError`) a model that does not return z's shape, which broadcasting could otherwise hide.
    """

    denoiser: Denoiser
    rows: int = 0

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        denoised = self.denoiser(z, sigma)
        self.rows += z.shape[0] * cost(self.denoiser)
        check_same_shape("denoiser: its result", denoised, "z", z)
        return denoised

    @property
    def sigma_min(self) -> float:
        """Smallest noise level of the counted denoiser."""
        return sigma_range(self.denoiser)[0]

    @property
    def sigma_max(self) -> float:
        """Largest noise level of the counted denoiser."""
        return sigma_range(self.denoiser)[1]
