"""Prompts by region: one denoiser made of several, each with its share of every cell.

    D(z; sigma) = sum_j w_j D_j(z; sigma) + (1 - sum_j w_j) D_0(z; sigma),   w_j = m_j / max(1, sum_k m_k)

m_j in [0, 1] is the mask of region j. Where regions overlap each counts by its mask; D_0 is asked where they leave
something. (MultiDiffusion, Bar-Tal et al. 2023, Eq. 5, with a denoiser of its own for the rest.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .denoiser import Denoiser, Sigma, Wrapped, ask, check_denoiser, checked_parts, cost, parts_cost
from .guidance import guided
from .validation import as_floating, as_mask


@dataclass(frozen=True)
class Regional(Wrapped):
    """The denoiser above.

    Args:
        denoiser: D_0, where no region is.
        regions: pairs of a mask m_j, (h, w) or (B or 1, 1, h, w) of z's cells, and a denoiser D_j.

    Raises:
        ValueError: for a mask that is none; when called, for one of another size than z.
    """

    denoiser: Denoiser
    regions: Sequence[tuple[Tensor, Denoiser]]

    def __post_init__(self) -> None:
        check_denoiser(self.denoiser)
        pairs = []
        for number, (mask, denoiser) in enumerate(self.regions):
            check_denoiser(denoiser, f"regions[{number}]")
            pairs.append((as_mask(f"regions[{number}]", mask), denoiser))
        object.__setattr__(self, "regions", tuple(pairs))

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z] (B, *), each cell of its own prompts."""
        return self._mixed(z, lambda denoiser: ask(denoiser, z, sigma))

    def parts(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result; see `guidance`."""
        pairs = {id(one): checked_parts(guided(one, "regions").parts(z, sigma), z) for one in self._all}
        cond, uncond = (self._mixed(z, lambda one, i=i: pairs[id(one)][i]) for i in (0, 1))
        return cond, uncond

    def with_cfg(self, cfg: float) -> Regional:
        """The same prompts at another guidance scale."""
        scaled = [guided(one, "regions").with_cfg(cfg) for one in self._all]
        regions = [(mask, one) for (mask, _), one in zip(self.regions, scaled[1:], strict=True)]
        return replace(self, denoiser=scaled[0], regions=regions)

    @property
    def cost(self) -> int:
        """Network rows per row of z: those of all prompts."""
        return sum(cost(one) for one in self._all)

    @property
    def parts_cost(self) -> int:
        """Network rows per row of z of `parts`."""
        return sum(parts_cost(one) for one in self._all)

    @property
    def _all(self) -> list[Denoiser]:
        return [self.denoiser, *(denoiser for _, denoiser in self.regions)]

    def _mixed(self, z: Tensor, result: Callable[[Denoiser], Tensor]) -> Tensor:
        z = as_floating("z", z)
        masks = [self._fitting(number, mask, z) for number, (mask, _) in enumerate(self.regions)]
        total = sum(masks, start=z.new_zeros(())).clamp(min=1)
        found, rest = result(self.denoiser), 1.0
        shares = [mask / total for mask in masks]
        for share in shares:
            rest = rest - share
        found = found * rest
        for share, (_, denoiser) in zip(shares, self.regions, strict=True):
            found = found + share * result(denoiser)
        return found

    def _fitting(self, number: int, mask: Tensor, z: Tensor) -> Tensor:
        if mask.shape[-2:] != z.shape[-2:] or mask.shape[0] not in (1, z.shape[0]):
            raise ValueError(
                f"regions[{number}]: got a mask of shape {tuple(mask.shape)} for z of {tuple(z.shape)}; allowed is one "
                "of z's cells, for all rows or one a row. Resize the mask."
            )
        return mask.to(z)
