"""The side of a latent's cell in pixels, which is the model's own: 8 for most, 16 for Flux 2, 1 for models on pixels.

The host's latent formats say it themselves from its release 0.11 on. For older releases `EARLIER` says it for those
that are not at 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy.latent_formats import LatentFormat

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas

CELL = 8
EARLIER = {"Flux2": 16, "HunyuanImage21": 32, "ChromaRadiance": 1, "SC_Prior": 42, "SC_B": 4}


def cell_of(latent_format: LatentFormat) -> int:
    """Pixels a side of a cell of the latents of this format."""
    stated = getattr(latent_format, "spacial_downscale_ratio", None)  # the host's spelling
    if stated is not None:
        return int(stated)
    return next((EARLIER[base.__name__] for base in type(latent_format).__mro__ if base.__name__ in EARLIER), CELL)


def check_size(width: int, height: int, cell: int = CELL) -> None:
    """Refuse a side that is no whole number of cells."""
    for name, side in (("width", width), ("height", height)):
        if side < cell or side % cell:
            raise ValueError(
                f"{name}: got {side}; allowed are multiples of {cell}, the side of a latent's cell; "
                f"use {max(cell, round(side / cell) * cell)}"
            )


def grid_of(canvas: Canvas, latent_format: LatentFormat) -> tuple[int, int]:
    """Height and width, in cells, of the latents of a model that a canvas is optimised with.

    Raises:
        ValueError: a side is no whole number of the model's cells, or a latent has cells of another size.
    """
    cell, name = cell_of(latent_format), type(latent_format).__name__
    if canvas.space == "latent" and canvas.cell != cell:
        raise ValueError(
            f"generator: the cells of its latent are {canvas.cell} pixels a side, those of this model ({name}) {cell}; "
            f"set cell to {cell} in the Neural Image Generator"
        )
    for side_name, side in (("width", canvas.width), ("height", canvas.height)):
        if side % cell:
            raise ValueError(
                f"generator: its {side_name} is {side}; allowed with this model ({name}) are multiples of {cell}, the "
                f"side of its latent's cell; use {max(cell, round(side / cell) * cell)} in the Neural Image Generator"
            )
    return canvas.height // cell, canvas.width // cell
