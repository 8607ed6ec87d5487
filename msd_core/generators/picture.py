"""A picture from outside, (1, 3, H, W) in [0, 1], made to fit a canvas: checked, cut to its shape, resampled."""

from __future__ import annotations

import torch
from torch import Tensor

from ..validation import as_finite, check_count
from .base import Generator, View
from .grid import resample


def check_picture(name: str, picture: object) -> Tensor:
    """``picture`` as a tensor (1, 3, H, W).

    Raises:
        ValueError: it has another shape, or holds NaN or numbers outside of [0, 1].
    """
    found = as_finite(name, picture)
    if found.ndim != 4 or found.shape[:2] != (1, 3):
        raise ValueError(
            f"{name}: got shape {tuple(found.shape)}; allowed is (1, 3, H, W), one RGB picture. Reshape it, and drop "
            "an alpha channel."
        )
    return check_range(name, found)


def check_range(name: str, found: Tensor) -> Tensor:
    """Refuse a picture with numbers outside of [0, 1]; returns it."""
    low, high = float(found.detach().min()), float(found.detach().max())
    if low < 0 or high > 1:
        raise ValueError(
            f"{name}: got numbers from {low:g} to {high:g}; allowed are those in [0, 1]. Divide by 255, or clamp them."
        )
    return found


def cover(picture: Tensor, width: int, height: int) -> Tensor:
    """The largest part in the middle of ``picture`` that has the shape of a size, at that size: (1, 3, height, width).

    Args:
        picture: (1, 3, H, W) in [0, 1].
        width, height: in pixels.

    Raises:
        ValueError: for a picture that is none, or a size below 1.
    """
    picture = check_picture("picture", picture)
    check_count("width", width)
    check_count("height", height)
    rows, columns = picture.shape[-2:]
    wide = max(1, min(columns, round(rows * width / height)))
    tall = max(1, min(rows, round(columns * height / width)))
    top, left = (rows - tall) // 2, (columns - wide) // 2
    return _resized(picture[..., top : top + tall, left : left + wide], width, height)


def on_canvas(name: str, picture: object, generator: Generator) -> Tensor:
    """A copy of ``picture`` at the size of the generator's canvas, float32, on its device, without gradient.

    Raises:
        ValueError: it is no picture, or the canvas has another shape.
    """
    found = check_picture(name, picture)
    width, height = generator.canvas.width, generator.canvas.height
    rows, columns = found.shape[-2:]
    if abs(columns * height / rows - width) > 1 and abs(rows * width / columns - height) > 1:
        raise ValueError(
            f"{name}: got {columns}x{rows} for a canvas of {width}x{height}, which has another shape; allowed is its "
            "shape, at any size. Cut it, with msd_core.generators.cover(picture, width, height)."
        )
    device = next(generator.parameters()).device
    with torch.inference_mode(False), torch.no_grad():  # autograd takes no tensor of inference mode
        return _resized(found.detach().to(device=device, dtype=torch.float32, copy=True), width, height)


def _resized(picture: Tensor, width: int, height: int) -> Tensor:
    """``picture`` at another size, cubic and antialiased, within [0, 1]; a copy at its own."""
    return resample(picture, View(height, width)).clamp(0, 1)
