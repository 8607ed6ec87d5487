"""A picture tile by tile: the whole frame is never held, and between two tiles the caller does as it likes.

    picture[top : top + h, left : left + w] = g(psi; frame, window (top, left, h, w))

A tile has the pixels that the whole frame has there, to the rounding of float32: a neural image those at its own pixel
centres, pixels and latents the same resampling. A generator that does not say that it honours windows
(`Generator.windows`) is rendered whole, once, and is one tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..validation import check_count
from .base import Generator, View, Window

TILE = 512
"""Pixels a side: a picture up to this size is one tile, and rendered as ever."""


def tiles(height: int, width: int, tile: int = TILE) -> list[Window]:
    """Top, left, height and width of the tiles of a frame, row by row; the last ones are as small as need be.

    Raises:
        ValueError: for a size below 1.
    """
    for name, value in {"height": height, "width": width, "tile": tile}.items():
        check_count(name, value)
    return [
        (top, left, min(tile, height - top), min(tile, width - left))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]


def tiles_of(generator: Generator, height: int, width: int, tile: int = TILE) -> list[Window]:
    """The tiles that `render_tiles` gives; the whole frame for a generator without windows."""
    return tiles(height, width, tile if generator.windows else max(height, width, tile))


def render_tiles(
    generator: Generator, height: int, width: int, *, tile: int = TILE, window: Window | None = None
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield ``(top, left, picture)`` for every tile of a frame, row by row, without gradient.

    Args:
        generator: of any kind.
        height, width: of the frame, in pixels or in cells of a latent.
        tile: largest side of a tile, likewise.
        window: the part of the frame to give, as in `View`; all of it if left out.

    Yields:
        Where the tile lies, counted from the top left of the window, and its picture (B, C, h, w), h and w at most
        ``tile``.

    Raises:
        ValueError: at the call, for a size below 1, or a window that leaves the frame.
    """
    view = View(height, width, window)
    return _render(generator, view, tiles_of(generator, *view.box[2:], tile))


def _render(generator: Generator, view: View, places: list[Window]) -> Iterator[tuple[int, int, Tensor]]:
    top, left = view.box[:2]
    for down, right, height, width in places:
        yield down, right, render_part(generator, replace(view, window=(top + down, left + right, height, width)))


@torch.no_grad()
def render_part(generator: Generator, view: View) -> Tensor:
    """The picture (B, C, h, w) of a view's window, of any generator, without gradient."""
    frame = generator.frame(view.height, view.width)
    top, left, height, width = view.box
    if (height, width) == (view.height, view.width):
        return generator.render(frame)
    if generator.windows:
        return generator.render(_part(frame, view.box))
    return generator.render(frame)[..., top : top + height, left : left + width].clone()


def _part(frame: Any, window: Window) -> Any:  # noqa: ANN401 - a view of the generator's own kind, or a batch's list
    """The window of a frame."""
    return [_part(one, window) for one in frame] if isinstance(frame, Sequence) else replace(frame, window=window)
