"""Curves over the steps of an optimisation, drawn with Pillow alone, a panel a quantity, log where it can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from .info import Info

MARGIN, GAP, FONT_SIZE = 56, 26, 13
INK, GRID, COLOURS = "#222222", "#dddddd", ("#1f5fbf", "#c23b22", "#2a8f4f", "#8a4fbf")


def plot_curves(curves: Mapping[str, Sequence[float]], *, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Panels one below the other, one for each entry of ``curves``: its name, its values against the step.

    The vertical axis is logarithmic if all finite values are positive, else linear. Values that are not finite are left
    out. The font knows Latin letters only: write "lambda".

    Args:
        curves: name to values, one a step; at least one name.
        size: width and height of the picture, pixels.

    Raises:
        ValueError: if ``curves`` is empty.
    """
    if not curves:
        raise ValueError("curves: got none; allowed is at least one name with its values. Pass {'name': values}.")
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE)
    panel = (size[1] - GAP) / len(curves)
    for i, (name, values) in enumerate(curves.items()):
        box = (MARGIN, i * panel + GAP, size[0] - 16, (i + 1) * panel)
        _panel(draw, font, box, name, [float(v) for v in values], COLOURS[i % len(COLOURS)])
    draw.text((size[0] / 2, size[1] - 4), "step", INK, font, anchor="ms")
    return picture


def history_curves(history: Sequence[Info]) -> dict[str, list[float]]:
    """Curves of an optimisation: the level of each step (lambda, or sigma where there is no lambda), its norm, and the
    evaluations so far."""
    spent = {"evaluations so far": [float(n) for n in itertools.accumulate(info.evaluations for info in history)]}
    if all(info.bandwidth is not None for info in history):
        level = {"bandwidth lambda": [float(info.bandwidth or 0) for info in history]}
        return level | {"mean shift |m|": [info.norm for info in history]} | spent
    level = {"noise level sigma": [math.nan if info.sigma is None else info.sigma for info in history]}
    return level | {"gradient |g|": [info.norm for info in history]} | spent


def _panel(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    box: tuple[float, float, float, float],
    name: str,
    values: list[float],
    colour: str,
) -> None:
    left, top, right, bottom = box
    finite = [v for v in values if math.isfinite(v)]
    logarithmic = bool(finite) and min(finite) > 0
    scale = math.log10 if logarithmic else float
    low, high = (min(map(scale, finite)), max(map(scale, finite))) if finite else (0.0, 1.0)
    pad = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    low, high = low - pad, high + pad

    def place(step: int, value: float) -> tuple[float, float]:
        across = step / max(len(values) - 1, 1)
        return left + across * (right - left), bottom - (scale(value) - low) / (high - low) * (bottom - top)

    for tick in _ticks(low, high, logarithmic):
        y = place(0, tick)[1]
        draw.line((left, y, right, y), GRID)
        draw.text((left - 6, y), f"{tick:g}", INK, font, anchor="rm")
    draw.rectangle(box, outline=INK)
    draw.text((left, top - 4), name, colour, font, anchor="ls")
    draw.text((right, top - 4), f"{len(values)} steps", INK, font, anchor="rs")
    points = [place(step, value) for step, value in enumerate(values) if math.isfinite(value)]
    if len(points) > 1:
        draw.line(points, colour, width=2, joint="curve")
    elif points:
        x, y = points[0]
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Three to seven round values between ``low`` and ``high``, which are exponents of 10 on a logarithmic axis."""
    if logarithmic and high - low > 0.7:
        stride = math.ceil((high - low) / 6)
        factors = (1,) if high - low > 3 else (1, 3) if high - low > 1.5 else (1, 2, 5)
        decades = range(math.floor(low), math.ceil(high) + 1, stride)
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        return [v for v in values if low <= math.log10(v) <= high]
    start, end = (10**low, 10**high) if logarithmic else (low, high)
    unit = 10.0 ** math.floor(math.log10((end - start) / 3))
    step = next(unit * f for f in (1, 2, 5, 10) if (end - start) / (unit * f) <= 5)
    first = math.ceil(start / step)
    return [round(k * step, 12) for k in range(first, math.floor(end / step) + 1)]
