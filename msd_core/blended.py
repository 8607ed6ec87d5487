"""Several prompts at once, each with a share: what a view between two sides is asked under.

    D(z; sigma) = sum_k w_k D_k(z; sigma),    sum_k w_k = 1

Where the denoisers differ in their prompt alone this is guidance with the blended conditional part, since guidance is
affine in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from .denoiser import Denoiser, Sigma, Wrapped, at_least_float32, check_denoiser, cost, parts_cost
from .guidance import guided
from .validation import as_finite, as_floating


@dataclass(frozen=True, eq=False)
class BlendedDenoiser(Wrapped):
    """The mean of K denoisers, with shares of its own for each of V views.

    Args:
        denoiser: the first of them, which is asked for whatever else is to be known, such as its levels.
        others: K - 1 of the same model, with the same negative prompt and companions.
        shares: (V, K), each row summing to 1: row r of z has number r mod V.

    Raises:
        ValueError: for a denoiser that cannot be called, or such shares; when called, for a z whose rows are no
            multiple of V.
    """

    passed_on: ClassVar[tuple[str, ...]] = (*Wrapped.passed_on, "uncond", "companions")

    denoiser: Denoiser
    others: tuple[Denoiser, ...]
    shares: Tensor

    def __post_init__(self) -> None:
        for one in self.all:
            check_denoiser(one)
        shares = as_finite("shares", self.shares)
        sums = shares.sum(dim=-1)
        if shares.ndim != 2 or shares.shape[1] != len(self.all) or not torch.allclose(sums, torch.ones_like(sums)):
            raise ValueError(
                f"shares: got shape {tuple(shares.shape)} with sums {sums.tolist()}; allowed is (views, "
                f"{len(self.all)}), each row summing to 1. Divide each row by its sum."
            )
        object.__setattr__(self, "shares", shares)

    @property
    def all(self) -> tuple[Denoiser, ...]:
        """The K denoisers."""
        return (self.denoiser, *self.others)

    @property
    def cost(self) -> int:
        """Network rows per row of z."""
        return sum(cost(one) for one in self.all)

    @property
    def parts_cost(self) -> int:
        """Network rows per row of z of `parts`."""
        return sum(parts_cost(one) for one in self.all)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z] (B, *), at least float32."""
        return self._mean([one(z, sigma) for one in self.all], z)

    def parts(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """The blended conditional and unconditional results, each (B, *)."""
        pairs = [guided(one, "a blend of prompts").parts(z, sigma) for one in self.all]
        return self._mean([cond for cond, _ in pairs], z), self._mean([uncond for _, uncond in pairs], z)

    def with_cfg(self, cfg: float) -> BlendedDenoiser:
        """The same prompts at another guidance scale."""
        first, *others = (guided(one, "a blend of prompts").with_cfg(cfg) for one in self.all)
        return replace(self, denoiser=first, others=tuple(others))

    def _mean(self, results: Sequence[Tensor], z: Tensor) -> Tensor:
        rows, views = as_floating("z", z).shape[0], len(self.shares)
        if rows % views:
            raise ValueError(
                f"z: got {rows} rows for prompts of {views} views; allowed is a multiple of {views}. Render all views "
                "of an iteration together."
            )
        own = self.shares.repeat(rows // views, 1).to(device=z.device, dtype=at_least_float32(z).dtype)
        ends = (1,) * (z.ndim - 1)
        found = torch.zeros_like(z, dtype=own.dtype)
        for share, result in zip(own.unbind(1), results, strict=True):
            found = found + share.reshape(-1, *ends) * result
        return found


def blended(denoisers: Sequence[Denoiser], shares: Any) -> Denoiser:  # noqa: ANN401 - nested lists, or a tensor
    """The one denoiser of a list of one; else their `BlendedDenoiser`."""
    first, *others = denoisers
    return first if not others else BlendedDenoiser(first, tuple(others), torch.as_tensor(shares))
