"""How good enlarged pictures are: fidelity to the truth, and fineness, which fidelity does not see.

    PSNR         -10 log10 of the mean squared error, dB
    SSIM         structural similarity (Wang et al. 2004, Eq. 13): Gaussian window of 11 × 11 pixels, deviation 1.5,
                 K1 = .01, K2 = .03, the window's own moments, mean over colours and over windows inside the picture
    sharpness    energy of the differences of neighbouring pixels, over the truth's: 1 is as fine as the truth, less is
                 blurred. It knows nothing of where the truth has its edges.
    consistency  PSNR of the reduced picture against the low-resolution one that was given (Saharia et al. 2021)

A mean over what could be there has the best PSNR and a sharpness below 1; a sample of what could be there has a lower
PSNR and a sharpness of 1 (perception against distortion: Blau & Michaeli 2018).

Conventions: pictures (B, 3, S, S) in [0, 1], a figure a picture (B,). Perfect agreement is an infinite PSNR.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ...validation import as_floating, check_same_shape
from .pictures import reduce

WINDOW, DEVIATION = 11, 1.5
K1, K2 = 0.01, 0.03


def _pair(pictures: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both, refused where they are no pictures (B, C, H, W) of one shape."""
    pictures, truth = as_floating("pictures", pictures), as_floating("truth", truth)
    check_same_shape("pictures", pictures, "truth", truth)
    if pictures.ndim != 4:
        raise ValueError(f"pictures: got shape {tuple(pictures.shape)}; allowed is (B, C, H, W). Add the missing ones.")
    return pictures, truth


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """PSNR in dB (B,)."""
    pictures, truth = _pair(pictures, truth)
    return -10 * (pictures - truth).square().mean(dim=(1, 2, 3)).log10()


def _window_mean(pictures: Tensor) -> Tensor:
    """Gaussian mean over each window inside the picture: (B, 3, S - 10, S - 10)."""
    offsets = torch.arange(WINDOW, dtype=pictures.dtype) - WINDOW // 2
    weights = (-(offsets**2) / (2 * DEVIATION**2)).exp()
    weights = (weights / weights.sum()).expand(pictures.shape[1], 1, 1, -1)
    rows = F.conv2d(pictures, weights, groups=pictures.shape[1])
    return F.conv2d(rows, weights.transpose(2, 3), groups=pictures.shape[1])


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (B,), at most 1; pictures of at least 11 × 11 pixels.

    Raises:
        ValueError: for shapes that differ, or smaller pictures.
    """
    pictures, truth = _pair(pictures, truth)
    if min(pictures.shape[-2:]) < WINDOW:
        shape = tuple(pictures.shape)
        raise ValueError(f"pictures: got shape {shape}; allowed are sides of at least {WINDOW}, SSIM's window.")
    x, y = pictures.double(), truth.double()
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x, var_y = _window_mean(x * x) - mean_x**2, _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean(dim=(1, 2, 3)).float()


def _difference_energy(pictures: Tensor) -> Tensor:
    return sum(pictures.diff(dim=d).square().sum(dim=(1, 2, 3)) for d in (2, 3))  # type: ignore[return-value]


def sharpness(pictures: Tensor, truth: Tensor) -> Tensor:
    """Energy of the differences of neighbouring pixels, over that of ``truth``: (B,)."""
    pictures, truth = _pair(pictures, truth)
    return _difference_energy(pictures) / _difference_energy(truth)


def consistency(pictures: Tensor, truth: Tensor) -> Tensor:
    """PSNR in dB (B,) of the reduced pictures against the reduced truth, which is what was given."""
    pictures, truth = _pair(pictures, truth)
    return psnr(reduce(pictures), reduce(truth))


FIGURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": psnr,
    "ssim": ssim,
    "sharpness": sharpness,
    "consistency": consistency,
}
