"""Colours as parameters, and as words.

    colour = sigmoid(TONE * parameter)

so that one step of Adam at 0.01 moves a colour in the middle of its range by 1.5 % of it.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..echo import shown

TONE = 6.0
"""Steepness of a colour in its parameter."""


def tone(parameter: Tensor) -> Tensor:
    """The colour, in [0, 1]."""
    return torch.sigmoid(TONE * parameter)


def toned(colour: Tensor) -> Tensor:
    """The parameter of a colour in [0, 1]; of one at an end, that of a colour 2 % off it, which can still move."""
    return torch.logit(colour, eps=0.02) / TONE


def hex_of(colour: Tensor) -> str:
    """#rrggbb of a colour (3,) in [0, 1]."""
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in colour)


def colour_of(text: str) -> tuple[float, float, float]:
    """#rgb, #rrggbb, rgb(r, g, b) or one of a few words, as numbers in [0, 1].

    Raises:
        ValueError: it is something else.
    """
    given = text.strip().lower()
    found = re.fullmatch(r"#([0-9a-f]{3}|[0-9a-f]{6})", _WORDS.get(given, given))
    if found:
        digits = found.group(1)
        pairs = [d * 2 for d in digits] if len(digits) == 3 else [digits[i : i + 2] for i in (0, 2, 4)]
        red, green, blue = (int(pair, 16) / 255 for pair in pairs)
        return red, green, blue
    numbers = re.fullmatch(r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)", given)
    if numbers and max(map(int, numbers.groups())) <= 255:
        red, green, blue = (int(value) / 255 for value in numbers.groups())
        return red, green, blue
    raise ValueError(
        f"colour: got {shown(text[:40])}; allowed are #rrggbb, #rgb, rgb(r, g, b) and {', '.join(_WORDS)}. Write "
        "#rrggbb."
    )


_WORDS = {
    "black": "#000000", "white": "#ffffff", "red": "#ff0000", "lime": "#00ff00", "green": "#008000", "blue": "#0000ff",
    "yellow": "#ffff00", "cyan": "#00ffff", "magenta": "#ff00ff", "gray": "#808080", "grey": "#808080",
    "orange": "#ffa500", "purple": "#800080", "brown": "#a52a2a", "pink": "#ffc0cb",
}  # fmt: skip
