"""An inversion inside a mask: the rest stays the picture, under noise that is drawn once.

    D_m(z; sigma) = m D(m z + (1 - m)(x + sigma n); sigma) + (1 - m) x       m = 1 where the picture is inverted

This is what masked sampling asks of a model: there the noise of the start, n outside of the mask, is added to what is
known at every level (ComfyUI's noise mask; Lugmayr et al. 2022, RePaint, without its jumps). So any sampler of it leads
back: inside as exactly as the inversion is, outside to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, Sigma, Wrapped, ask, at_least_float32, check_denoiser, expand_sigma
from ..randomness import Rng, draw_normal
from ..validation import as_floating, as_mask


@dataclass(frozen=True, eq=False)
class Outside:
    """What is known outside of a mask.

    Attributes:
        x: the picture, (B, C, h, w).
        mask: m, of whole cells, (B or 1, 1, h, w): 1 where the picture is inverted.
        noise: n, (B, C, h, w).
    """

    x: Tensor
    mask: Tensor
    noise: Tensor

    @classmethod
    def drawn(cls, x: Tensor, mask: object, rng: Rng | None) -> Outside:
        """Around ``mask``, (h, w) or (B or 1, 1, h, w), with noise from ``rng``.

        Raises:
            ValueError: for a mask that does not fit ``x`` (B, C, h, w), with values between 0 and 1 or 0 alone, or no
                source of noise.
        """
        found = as_mask("mask", mask)
        if x.ndim != 4 or found.shape[-2:] != x.shape[-2:] or found.shape[0] not in (1, x.shape[0]):
            raise ValueError(
                f"mask: got shape {tuple(found.shape)} for an x of {tuple(x.shape)}; allowed is one of x's cells, for "
                "all rows or one a row. Resize it."
            )
        if not bool(((found == 0) | (found == 1)).all()) or not bool(found.flatten(1).any(dim=1).all()):
            raise ValueError(
                f"mask: got values from {float(found.min()):g} to {float(found.max()):g}; allowed are whole cells, 0 "
                "or 1, with one cell or more to invert. Round it: (mask > 0.5).float()."
            )
        return cls(x, found.to(x), draw_normal(x, rng)[0])

    def filled(self, z: Tensor, sigma: Sigma) -> Tensor:
        """``z`` (B, C, h, w) at ``sigma`` inside, x + sigma n outside."""
        return torch.where(self.mask > 0, z, self.x + expand_sigma(sigma, z) * self.noise)

    @property
    def share(self) -> Tensor:
        """Of the cells that are inverted, (B or 1,)."""
        return self.mask.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class MaskedDenoiser(Wrapped):
    """D_m of the equation above.

    Args:
        denoiser: D, ``(z (B, C, h, w), sigma) -> (B, C, h, w)``.
        outside: x, m and n.
    """

    denoiser: Denoiser
    outside: Outside

    def __post_init__(self) -> None:
        check_denoiser(self.denoiser)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """D_m (B, C, h, w), at least float32."""
        z = at_least_float32(as_floating("z", z))
        denoised = ask(self.denoiser, self.outside.filled(z, sigma), sigma)
        return torch.where(self.outside.mask > 0, denoised, self.outside.x.to(denoised))


@dataclass(frozen=True)
class Inside(Wrapped):
    """m D_m: a walk of m z by it is that of z inside, and outside stays at 0 and misses nothing.

    Args:
        denoiser: D_m, ``(z (B, C, h, w), sigma) -> (B, C, h, w)``.
        mask: m.
    """

    denoiser: Denoiser
    mask: Tensor

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """m D_m (B, C, h, w)."""
        return self.denoiser(z, sigma) * self.mask
