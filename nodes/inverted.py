"""What an inversion leaves for the stock samplers: its noise, and its mask in whole cells of the latent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from comfy.latent_formats import LatentFormat
from comfy.utils import reshape_mask
from torch import Tensor
from torch.nn import functional as F

from ..msd_core.inversion.masked import Outside
from .axis import Axis
from .grad import owned


def cells_of(mask: Tensor, samples: Tensor) -> Tensor:
    """The cells of ``samples`` (B, C, h, w) that a MASK touches with more than half, (B or 1, 1, h, w).

    Call inside `grad_mode()`.

    Raises:
        ValueError: the latent is no picture's; the mask is empty, of another batch, or nowhere more than half.
    """
    shape = tuple(mask.shape)
    if samples.ndim != 4:
        raise ValueError(
            f"mask: is connected with a latent of shape {tuple(samples.shape)}; allowed are pictures, (B, C, h, w); "
            "invert the whole, without mask"
        )
    if mask.numel() == 0 or mask.ndim not in (2, 3) or (mask.ndim == 3 and len(mask) not in (1, len(samples))):
        raise ValueError(f"mask: got shape {shape} for {len(samples)} latents; allowed is one mask, or one a latent")
    covered = (owned(mask).reshape(-1, 1, *shape[-2:]) > 0.5).float()
    if not bool(covered.flatten(1).any(dim=1).all()):
        raise ValueError(
            "mask: has no part above one half, so that nothing is inverted; allowed is one that is white where to "
            "invert; paint it, or disconnect it (a picture without transparency loads with an empty mask)"
        )
    return F.adaptive_max_pool2d(covered, samples.shape[-2:])


@dataclass(frozen=True, eq=False)
class InvertedNoise:
    """NOISE with which a stock sampler, started at `level`, starts at the inverted state, whatever latent it is given.

    The host starts at x = latent + σ·noise (at the model's highest level latent + √(1 + σ²)·noise; flow models at
    (1 − t)·latent + t·s·noise). This inverts that, so noise = (x_T − latent)/σ, and so on. Outside of a mask it is the
    drawn noise, which the host adds to the known latent at every level.
    """

    state: Tensor
    level: float
    sigma_max: float
    axis: Axis
    latent_format: LatentFormat
    outside: Outside | None = None
    seed: int = 0

    def generate_noise(self, input_latent: dict) -> Tensor:
        """Called by SamplerCustomAdvanced with the latent that it will sample."""
        latent = input_latent["samples"].float().cpu()
        if latent.shape != self.state.shape:
            raise ValueError(
                f"noise: was inverted from a latent of shape {tuple(self.state.shape)}, and asked for "
                f"{tuple(latent.shape)}; sample with a latent of the same size and batch"
            )
        x0 = self.latent_format.process_in(latent) if bool(latent.any()) else latent
        noise = self._noise(x0)
        if self.outside is None:
            return noise
        cells = self.outside.mask.cpu()
        self._check_mask(input_latent.get("noise_mask"), cells)
        return torch.where(cells > 0, noise, self.outside.noise.cpu())

    def _noise(self, x0: Tensor) -> Tensor:
        x = self.axis.latent(self.state, self.axis.sigma(self.level))
        if self.axis.flow:
            return (x - (1 - self.level) * x0) / (self.level * self.axis.scale)
        highest = self.level > self.sigma_max or math.isclose(self.sigma_max, self.level, rel_tol=1e-5)
        return (x - x0) / (math.sqrt(1 + self.level**2) if highest else self.level)

    def _check_mask(self, given: Tensor | None, cells: Tensor) -> None:
        """Refuse a noise mask with which the host would not keep what was kept here."""
        got = "has none"
        if given is not None:
            seen = reshape_mask(given.float().cpu(), self.state.shape)
            if torch.equal(seen, cells.expand(self.state.shape)):
                return
            got = "has another one"
        raise ValueError(
            f"noise: was inverted inside a mask, and the latent's noise mask {got}; allowed is the same mask in whole "
            "cells; sample the latent output of DDIM Inversion, which carries it"
        )
