"""Vector pictures as SVG documents; `svg_read` reads them.

    <svg xmlns=... viewBox="0 0 W H" width="W" height="H">
    <rect width="W" height="H" fill="#rrggbb"/>                                         the ground
    <path d="M x y C x y x y x y ... Z" fill="#rrggbb" fill-opacity="a"/>               a shape, in painting order
    <g fill="none" stroke-linecap="round" stroke-linejoin="round">                      strokes in a row
    <path d="M x y C x y x y x y ..." stroke="#rrggbb" stroke-width="w" stroke-opacity="a"/>

Lengths are pixels of the canvas, with `DIGITS` decimals, widths with one more.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..paint import hex_of
from .outline import curves
from .stroke import lines

if TYPE_CHECKING:
    from .shapes import Vector

DIGITS = 2


@torch.no_grad()
def write_svg(vector: Vector) -> str:
    """The document of a vector picture; paths that make no difference are left out (`Vector.needed`)."""
    width, height = vector.size
    seen, order = vector.needed(width, height, 10 ** (-vector.made.simplify / 10)).tolist(), vector.painted()
    painted = [i for i in (range(len(seen)) if order is None else order.tolist()) if seen[i]]
    text = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="{hex_of(vector.paints()[2])}"/>',
    ]
    filled, stroked = _filled(vector), _stroked(vector)
    for is_stroke, run in itertools.groupby(painted, lambda i: i >= vector.made.paths):
        if is_stroke:
            text.append('<g fill="none" stroke-linecap="round" stroke-linejoin="round">')
            text += [*(stroked[i - vector.made.paths] for i in run), "</g>"]
        else:
            text += [filled[i] for i in run]
    return "\n".join([*text, "</svg>"]) + "\n"


def _filled(vector: Vector) -> list[str]:
    """The shapes as elements."""
    outlines, (colours, opacities, _) = curves(vector.outlines(*vector.size)), vector.paints()
    return [
        f'<path d="{_path(outline)}Z" {_said("fill", colour, opacity)}/>'
        for outline, colour, opacity in zip(outlines, colours, opacities, strict=False)
    ]


def _stroked(vector: Vector) -> list[str]:
    """The strokes as elements."""
    if vector.strokes is None:
        return []
    (points, widths), closed = vector.lines(*vector.size), vector.made.closed_strokes
    colours, opacities = (paint[vector.made.paths :] for paint in vector.paints()[:2])
    return [
        f'<path d="{_path(line)}{"Z" if closed else ""}" {_said("stroke", colour, opacity)} '
        f'stroke-width="{_plain(float(width), DIGITS + 1)}"/>'
        for line, colour, opacity, width in zip(lines(points, closed), colours, opacities, widths, strict=True)
    ]


def _said(name: str, colour: Tensor, opacity: Tensor) -> str:
    """Colour and opacity of a fill or a stroke."""
    return f'{name}="{hex_of(colour)}"' + ("" if opacity > 0.998 else f' {name}-opacity="{_plain(float(opacity), 3)}"')


def _path(whole: Tensor) -> str:
    """Curves (S, 4, 2) in a row as the attribute d."""
    numbers = [[" ".join(map(_plain, point)) for point in curve] for curve in whole.tolist()]
    return "".join([f"M{numbers[0][0]}", *(f"C{' '.join(curve[1:])}" for curve in numbers)])


def _plain(value: float, digits: int = DIGITS) -> str:
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
