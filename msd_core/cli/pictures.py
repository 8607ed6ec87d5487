"""Tensors to picture files, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from ..echo import shortened
from ..generators import Generator, render_tiles, tiles_of

Decode = Callable[[Tensor], Tensor]


@torch.no_grad()
def picture_of(
    generator: Generator, width: int, height: int, decode: Decode | None = None, *, watched: bool = False
) -> Image.Image:
    """The generator drawn at ``width`` × ``height`` pixels; a latent is decoded at its own size, then resized.

    An image is drawn tile by tile, in no more memory than the picture's own; ``watched`` shows a bar of the tiles.

    Raises:
        ValueError: a latent generator came without the model's ``decode``.
    """
    if generator.space == "image":
        picture = Image.new("RGB", (width, height))
        total = len(tiles_of(generator, height, width))
        tiles = render_tiles(generator, height, width)
        for top, left, tile in tqdm(tiles, total=total, desc="render", unit="tile", disable=not watched):
            picture.paste(to_pil(tile[0]), (left, top))
        return picture
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


def read_picture(path: Path) -> Tensor:
    """The picture in a file, upright, (1, 3, H, W) in [0, 1].

    Raises:
        ValueError: it cannot be read, or is transparent somewhere.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"path: {str(path)!r} cannot be read as a picture ({shortened(error)}). Use a PNG or a JPEG."
        ) from error
    pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0)
    if int(pixels[3].min()) < 255:
        raise ValueError(f"path: {str(path)!r} is transparent; allowed are opaque pictures. Put it on a ground first.")
    return pixels[None, :3].float() / 255


def sheet_size(count: int, width: int, height: int) -> tuple[int, int]:
    """Width and height of a sheet of ``count`` pictures, in rows of ⌈√count⌉."""
    across = math.ceil(math.sqrt(count))
    return across * width, math.ceil(count / across) * height


def paste_row(sheet: Image.Image, picture: Tensor, row: int, count: int) -> None:
    """Put the picture (3, H, W) numbered ``row`` of ``count`` in its place."""
    _, height, width = picture.shape
    across = math.ceil(math.sqrt(count))
    sheet.paste(to_pil(picture), (row % across * width, row // across * height))


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
