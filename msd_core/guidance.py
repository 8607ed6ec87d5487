"""Classifier-free guidance: two denoisers in, one denoiser out.

    D(z; sigma) = D_uncond + cfg (D_cond - D_uncond)

(Ho & Salimans 2022). ``cfg`` is ComfyUI's: 1 is off. Mean-Shift Distillation, Eq. 13, writes cfg = 1 + w. The same
formula holds for denoised, noise and score, since each is affine in the other with the same coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from .denoiser import Denoiser, Sigma, cost, sigma_range


@dataclass(frozen=True)
class GuidedDenoiser:
    """The denoiser ``uncond + cfg (cond - uncond)``.

    cond and uncond are called one after the other, since two arbitrary callables cannot share a batch; a model that can
    put both into one batch offers the same three members (`__call__`, ``cost``, `with_cfg`) itself. With ``cfg == 1``
    uncond is not called, and costs nothing.

    Args:
        cond: denoiser of the prompt, ``(z (B, *), sigma) -> (B, *)``.
        uncond: denoiser of the empty or negative prompt.
        cfg: guidance scale, any finite number (negative ones are used to invert with guidance).

    Raises:
        ValueError: if ``cfg`` is not finite.
    """

    cond: Denoiser
    uncond: Denoiser
    cfg: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.cfg):
            raise ValueError(f"cfg: got {self.cfg!r}; allowed is a finite number, 1 = off. Usual values are 1 to 15.")

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        cond = self.cond(z, sigma)
        if self.cfg == 1:
            return cond
        uncond = self.uncond(z, sigma)
        return uncond + self.cfg * (cond - uncond)

    @property
    def cost(self) -> int:
        """Network rows per row of z."""
        return cost(self.cond) + (0 if self.cfg == 1 else cost(self.uncond))

    @property
    def sigma_min(self) -> float:
        """Smallest noise level that both denoisers know."""
        return max(sigma_range(self.cond)[0], sigma_range(self.uncond)[0])

    @property
    def sigma_max(self) -> float:
        """Largest noise level that both denoisers know."""
        return min(sigma_range(self.cond)[1], sigma_range(self.uncond)[1])

    def with_cfg(self, cfg: float) -> GuidedDenoiser:
        """The same pair at another guidance scale."""
        return replace(self, cfg=cfg)
