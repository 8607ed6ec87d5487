"""Tensors to picture files."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from ..generators import Generator

Decode = Callable[[Tensor], Tensor]


@torch.no_grad()
def picture_of(generator: Generator, width: int, height: int, decode: Decode | None = None) -> Image.Image:
    """The generator drawn at ``width`` × ``height`` pixels; a latent is decoded at its own size, then resized.

    Raises:
        ValueError: a latent generator came without the model's ``decode``.
    """
    if generator.space == "image":
        return to_pil(generator.render(generator.frame(height, width))[0])
    if decode is None:
        raise ValueError("decode: got none with a latent generator; allowed is the model's decoder. Pass it.")
    own = generator.canvas.view
    return to_pil(decode(generator.render(generator.frame(own.height, own.width)))[0]).resize(
        (width, height), Image.Resampling.BICUBIC
    )


def to_pil(picture: Tensor) -> Image.Image:
    """RGB (3, H, W) in [0, 1] as 8-bit pixels, rounded."""
    pixels = (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.movedim(0, -1).contiguous().cpu().numpy())


def side_by_side(pictures: Tensor) -> Image.Image:
    """Pictures (B, 3, H, W) in rows of ⌈√B⌉, filled up with white."""
    rows, _, height, width = pictures.shape
    across = math.ceil(math.sqrt(rows))
    sheet = Image.new("RGB", (across * width, math.ceil(rows / across) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(to_pil(picture), (i % across * width, i // across * height))
    return sheet


def check_finite(x: Tensor) -> Tensor:
    """``x`` itself, what a model returned, if all of it is numbers.

    Raises:
        ValueError: naming the model as the cause.
    """
    if not torch.isfinite(x).all():
        raise ValueError(
            "model: it returned NaN or infinity; allowed are finite numbers. Lower --cfg, or use another file."
        )
    return x
