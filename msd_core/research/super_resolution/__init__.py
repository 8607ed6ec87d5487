"""Super-resolution by 4 of drawn pictures: the smallest conditional diffusion model on which DREAM can be measured."""

from __future__ import annotations

from .model import SuperResolutionDenoiser, SuperResolver, super_resolve
from .pictures import FACTOR, draw_pictures, enlarge, reduce
from .quality import FIGURES, consistency, psnr, sharpness, ssim
from .train import Record, SuperResolutionSettings, noise_loss, train_super_resolution

__all__ = [
    "FACTOR",
    "FIGURES",
    "Record",
    "SuperResolutionDenoiser",
    "SuperResolutionSettings",
    "SuperResolver",
    "consistency",
    "draw_pictures",
    "enlarge",
    "noise_loss",
    "psnr",
    "reduce",
    "sharpness",
    "ssim",
    "super_resolve",
    "train_super_resolution",
]
