"""A transparent picture, for stickers and sprites: colour and opacity, seen before another ground in each iteration.

    x = a c + (1 - a) ground,   c and a neural images

A ground that changes from step to step cannot be drawn by c: where the model wants the ground, a has to fall. The
model is told what it sees: ``{ground}`` in a prompt is the ground's name, as in "a red boat on a {ground} background".
Without it the model wants a ground of its own, and paints it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..randomness import Rng, draw_uniform
from ..settings import check_settings, setting
from ..validation import check_choice, check_count, check_seed
from .base import SIDE, Canvas, Config, Generator, View
from .neural_image import FIELDS, NeuralImage

GROUNDS = {
    "white": (0.98, 0.97, 0.94),
    "black": (0.20, 0.21, 0.26),
    "yellow": (0.98, 0.88, 0.56),
    "green": (0.57, 0.76, 0.62),
    "blue": (0.52, 0.65, 0.85),
    "pink": (0.96, 0.75, 0.80),
}
"""Name and colour of the grounds that it is seen before."""
SHOWN = "white"
"""The ground that it is shown before where nothing else is said."""
WEIGHT = 4e-3
"""Of the penalty on half an opacity."""
LOOKED_AT = 64
"""Pixels a side that the penalty looks at, at most."""


@dataclass(frozen=True)
class StickerSettings:
    """What a transparent picture is made of."""

    field: str = setting("fourier", "of the two neural images", choices=tuple(FIELDS))

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Before(View):
    """A view before one of the `GROUNDS`."""

    ground: str = SHOWN

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("ground", self.ground, GROUNDS)


class Sticker(Generator):
    """Colour and opacity.

    Args:
        width, height: of the canvas, in pixels.
        field: as in `StickerSettings`.
        hidden, layers: units a hidden layer, and hidden layers, of both.
        seed: of the first parameters.

    Raises:
        ValueError: for a value out of range.
    """

    windows = True
    settings = StickerSettings
    files = ("sticker.png",)
    label: ClassVar[str] = "Sticker"

    def __init__(
        self, width: int, height: int, *, field: str = "fourier", hidden: int = 64, layers: int = 3, seed: int = 0
    ) -> None:
        super().__init__()
        for name, side in (("width", width), ("height", height)):
            check_count(name, side, maximum=SIDE)
        check_seed("seed", seed)
        self.made = StickerSettings(field)
        self.sizes: Config = {"width": width, "height": height, "hidden": hidden, "layers": layers, "seed": seed}
        own = {"resolution": max(width, height), "size": (width, height), "hidden": hidden, "layers": layers}
        self.colour, self.matte = (NeuralImage(field, **own, seed=(seed + i) % 2**64) for i in range(2))
        self.register_buffer("grounds", torch.tensor(list(GROUNDS.values())), persistent=False)

    @classmethod
    def for_size(
        cls, width: int, height: int, *, seed: int = 0, channels: int = 4, cell: int = 8, **options: str | int
    ) -> Sticker:
        """A sticker for a canvas of ``width`` x ``height`` pixels."""
        return cls(width, height, seed=seed, **options)  # pyright: ignore[reportArgumentType] - checked by the settings

    @property
    def kind(self) -> str:
        """ "sticker"."""
        return "sticker"

    @property
    def canvas(self) -> Canvas:
        """Of the size at which it is optimised."""
        return Canvas(self.sizes["width"], self.sizes["height"])

    def config(self) -> Config:
        """Sizes, settings and seed."""
        return {**self.sizes, **asdict(self.made)}

    def view(self, step: int, steps: int, rng: Rng) -> Before:
        """The whole canvas, before a ground drawn by chance."""
        own, names = self.canvas.view, list(GROUNDS)
        return Before(own.height, own.width, ground=names[int(float(draw_uniform(1, rng)) * len(names))])

    def words(self, view: View) -> dict[str, str]:
        """``{ground}``: the ground's name."""
        return {"ground": view.ground if isinstance(view, Before) else SHOWN}

    def render(self, view: View) -> Tensor:
        """RGB in [0, 1], (1, 3, height, width) of the view's window, before the view's ground or a white one."""
        return self.renderer(view)()

    def renderer(self, view: View) -> Callable[[], Tensor]:
        """`render` of one view, to be called while the parameters change."""
        colour, matte = self.colour.renderer(view), self.matte.renderer(view)
        number = list(GROUNDS).index(self.words(view)["ground"])
        grounds = self.grounds
        assert isinstance(grounds, Tensor)  # noqa: S101 - a buffer
        ground = grounds[number].to(next(self.parameters()))[:, None, None]

        def draw() -> Tensor:
            return torch.lerp(ground, colour(), matte().mean(dim=1, keepdim=True))

        return draw

    def rgba(self, view: View) -> Tensor:
        """Colour and opacity in [0, 1], (1, 4, height, width) of the view's window; colour is not multiplied."""
        return torch.cat([self.colour.render(view), self.matte.render(view).mean(dim=1, keepdim=True)], dim=1)

    def penalty(self, view: View) -> Tensor:
        """How far the opacity is from 0 and from 1: 4 a (1 - a), its mean, weakly."""
        opacity = self.matte.render(View(min(LOOKED_AT, view.height), min(LOOKED_AT, view.width))).mean(dim=1)
        return WEIGHT * (4 * opacity * (1 - opacity)).mean()

    def export(self, name: str) -> bytes:
        """sticker.png: with transparency, at the size of the canvas times what makes its longer side 512 at least."""
        check_choice("name", name, self.files)
        canvas = self.canvas
        scale = max(1, -(-512 // max(canvas.width, canvas.height)))
        return png_of(self, View(canvas.height * scale, canvas.width * scale))


@torch.no_grad()
def png_of(sticker: Sticker, view: View) -> bytes:
    """A PNG with transparency of a view."""
    from PIL import Image

    pixels = (sticker.rgba(view)[0].clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).contiguous().cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
