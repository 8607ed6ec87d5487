"""The settings of a vector picture."""

from __future__ import annotations

from dataclasses import dataclass

from ...settings import check_settings, setting

MOST_PATHS, MOST_SEGMENTS = 4096, 512
PAINTS = ("opaque", "translucent")
THINNEST, THICKEST = 2e-4, 0.25
"""Widths of a stroke, in longer sides: what they are kept between."""


@dataclass(frozen=True)
class VectorSettings:
    """What a vector picture is made of."""

    paths: int = setting(
        64,
        "filled shapes of the picture; fewer are bolder, and easier to edit; 0 = strokes alone",
        low=0,
        high=MOST_PATHS,
    )
    segments: int = setting(
        4, "curves of a shape's outline; more give it more corners", low=2, high=MOST_SEGMENTS, usual=(2, 16)
    )
    paint: str = setting("opaque", "opaque: flat colours; translucent: each shape learns its opacity", choices=PAINTS)
    tidy: float = setting(
        0.02,
        "how strongly crossed and sliver-thin outlines are avoided; 0 = not at all",
        low=0,
        high=1e3,
        usual=(0, 1),
        expert=True,
    )
    simplify: float = setting(
        36.0,
        "shapes are left out of the SVG as long as the picture stays the same to this many dB; 99 keeps nearly all",
        low=10,
        high=99,
        usual=(20, 60),
        expert=True,
    )
    strokes: int = setting(
        0,
        "stroked lines, each of a width and a colour of its own, at first in front of the shapes",
        low=0,
        high=MOST_PATHS,
    )
    stroke_width: float = setting(
        2.0, "width that strokes begin with, per cent of the picture's longer side", low=0.05, high=20, usual=(0.1, 10)
    )
    fixed_width: bool = setting(False, "strokes keep their width, as a pen's; else each learns its own", expert=True)
    stroke_segments: int = setting(
        2, "curves of a stroke: 1 is a bow, 2 an S", low=1, high=MOST_SEGMENTS, usual=(1, 16), expert=True
    )
    closed_strokes: bool = setting(False, "strokes are closed lines, rings at first; else open", expert=True)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.paths + self.strokes == 0:
            raise ValueError(
                "paths: got 0 beside 0 strokes, which draw nothing; allowed is at least one of either. Raise paths, or "
                "strokes."
            )
        if self.closed_strokes and self.strokes and self.stroke_segments < 2:
            raise ValueError(
                f"stroke_segments: got {self.stroke_segments} with closed_strokes; allowed is 2 or more there. Raise "
                "it, or leave the strokes open."
            )
