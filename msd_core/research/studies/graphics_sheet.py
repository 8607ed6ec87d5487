"""The sheet of the captions as SVGs: each as resvg draws it, small and large, with its caption beneath."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...atomic import write_whole
from ...sheet import INK
from .figures import image_bytes
from .result import Figure
from .study import Cell

SMALL, LARGE = 64, 1024
"""Pixels a side that the SVGs are drawn at."""
SHOWN = {SMALL: 192, LARGE: 256}
"""Pixels a side that they have on their sheet: each small one three times as large, the large ones averaged down."""
COLUMNS, MARGIN, LINE, LETTERS = 6, 8, 15, 32
CAPTION = "All {count} captions by MSD, each an SVG that resvg drew at {side} x {side} pixels, shown at {shown}."


def kept(numbers: dict[str, float], document: bytes) -> Cell:
    """A cell that holds an SVG beside its numbers."""
    return Cell(numbers, {"svg": torch.frombuffer(bytearray(document), dtype=torch.uint8)})


def sheets(
    cells: Sequence[Cell], captions: Sequence[str], drawn: Callable[[bytes, int], Tensor], folder: Path
) -> list[Figure]:
    """The two figures of all ``cells``, made by `kept`; their files are written to ``folder``.

    Args:
        captions: one a cell.
        drawn: (document, side) -> (3, side, side) in [0, 1].
    """
    documents, made = [bytes(cell.tensors["svg"].tolist()) for cell in cells], []
    for name, side in (("sheet", SMALL), ("sheet-large", LARGE)):
        how = Image.Resampling.NEAREST if side < SHOWN[side] else Image.Resampling.BOX
        pictures = [_image(drawn(document, side)).resize((SHOWN[side], SHOWN[side]), how) for document in documents]
        path = folder / f"graphics-{name}.png"
        write_whole(path, image_bytes(montage(pictures, captions)))
        caption = CAPTION.format(count=len(cells), side=side, shown=SHOWN[side])
        made.append(Figure(name, f"Captions as SVGs, {side} pixels", caption, path))
    return made


def montage(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Pictures of one size in rows, beneath each its caption."""
    side, columns = pictures[0].width, min(COLUMNS, len(pictures))
    wrapped = [textwrap.wrap(caption, LETTERS * side // SHOWN[SMALL]) for caption in captions]
    across, down = side + MARGIN, side + MARGIN + max(map(len, wrapped)) * LINE
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (MARGIN + columns * across, MARGIN + rows * down), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i, (picture, lines) in enumerate(zip(pictures, wrapped, strict=True)):
        x, y = MARGIN + i % columns * across, MARGIN + i // columns * down
        sheet.paste(picture, (x, y))
        draw.text((x, y + side + 2), "\n".join(lines), INK, font)
    return sheet


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray((picture * 255).round().to(torch.uint8).movedim(0, -1).contiguous().numpy())
