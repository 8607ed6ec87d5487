"""What Render Generator shows of a generator: how large, and which part of it.

    width = canvas width * scale * (right - left)          and likewise down, where a scale is set

so that a region keeps its shape. Without a scale, width and height are those of the region's picture, as they are.
"""

from __future__ import annotations

import math

from comfy_api.latest import io

from ..msd_core.generators.base import Canvas, Region, View
from ..msd_core.validation import check_number
from .schema import FOLDED

LARGEST = 16384
"""Pixels of a side that is rendered."""
FINEST = 2**23
"""Pixels of a side of the whole picture that a region is a part of: more have no centres of their own in float32."""
ROUNDED = 0.02
"""Of a ratio of sides: less than that is from whole pixels and cells."""
EDGES = {"left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0}


def inputs() -> list[io.Input]:
    """The scale and the region."""
    scale = io.Float.Input(
        "scale",
        default=0.0,
        min=0.0,
        max=1024.0,
        step=0.25,
        round=False,
        optional=True,
        tooltip="Above 0 it replaces width and height: the size that the generator is optimised at, times this, in the "
        "same proportions. 1 to 8 are usual. 0: width and height count, whatever proportions they have.",
    )
    edges = [
        io.Float.Input(
            name,
            default=default,
            min=0.0,
            max=1.0,
            step=0.01,
            round=False,
            optional=True,
            tooltip=f"{name.capitalize()} edge of the part that is shown, 0 to 1 across the whole picture: a zoom. The "
            "part alone fills the image.",
            extra_dict=FOLDED,
        )
        for name, default in EDGES.items()
    ]
    return [scale, *edges]


def stretch_of(canvas: Canvas, view: View) -> str:
    """What to tell of a ``view`` whose sides are not as those of the ``canvas``; "" for what rounding does."""
    share = view.width * canvas.height / (view.height * canvas.width)
    if abs(math.log(share)) < ROUNDED:
        return ""
    how = f"{share:.3g} times too wide" if share > 1 else f"{1 / share:.3g} times too high"
    return f"stretched, {how} for a generator of {canvas.width} x {canvas.height}; scale keeps its sides"


def view_of(canvas: Canvas, width: int, height: int, scale: float, region: Region) -> View:
    """The view of a ``region`` at a size, in pixels, or in cells of a latent.

    Args:
        canvas: of the generator.
        width, height: of the region's picture in pixels; whole cells of a latent.
        scale: pixels for a pixel of the canvas, in place of width and height; 0 for none.
        region: left, top, right and bottom in [0, 1].

    Raises:
        ValueError: for a size or a region out of range.
    """
    for name, value in zip(EDGES, region, strict=True):
        check_number(name, value, "The whole picture is left 0, top 0, right 1, bottom 1.", low=0, high=1)
    check_number("scale", scale, "Use 0 for width and height.", low=0, high=1024)
    cell = canvas.cell if canvas.space == "latent" else 1
    left, top, right, bottom = region
    wide, tall = width // cell, height // cell
    if scale:
        wide = max(1, round(canvas.width * (right - left) * scale / cell))
        tall = max(1, round(canvas.height * (bottom - top) * scale / cell))
        if max(wide, tall) * cell > LARGEST:
            raise ValueError(
                f"scale: got {scale:g}, which makes {wide * cell}x{tall * cell}; allowed are sides up to {LARGEST}; "
                "lower it, or render a smaller region"
            )
    if left < right and top < bottom:  # an empty one is refused below
        whole = wide / (right - left), tall / (bottom - top)
        if max(whole) > FINEST:
            raise ValueError(
                f"region: got {region}, of a whole picture of {whole[0]:.8g}x{whole[1]:.8g}; allowed are {FINEST} a "
                "side; take a larger region, or render it smaller"
            )
    return View.zoom(region, tall, wide)
