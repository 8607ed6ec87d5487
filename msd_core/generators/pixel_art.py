"""Pixel art: a grid of cells, each of one colour of a small palette.

    soft    x_cell = sum_k w_k c_k,   w = softmax_k(-|u - c_k|^2/(2 tau^2))      while it is optimised
    hard    x_cell = c_k,   k = argmin |u - c_k|                                 what is shown and saved

Each cell holds a colour u of its own, and shows the palette's c nearest to it. The temperature tau, a distance of
colours, falls geometrically from `WARM` to `COLD` over the run, so that what is optimised becomes what is shown. The
palette is learned with the cells, or given, and then exactly that. What the model sees is the grid at the size of the
canvas, each cell a square.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..echo import shown
from ..randomness import Rng, normal, seeded
from ..settings import check_settings, setting
from ..validation import check_choice, check_count
from .base import SIDE, Canvas, Config, Generator, View
from .paint import colour_of, hex_of, tone, toned
from .picture import check_picture

WARM, COLD = 0.35, 0.1
"""Temperature in the first iteration, and in the last."""
TINY = 1e-6
"""Added to a squared difference of colours, so that its root has a gradient at 0."""
MOST_CELLS, MOST_COLOURS = 512, 256
SHEET = 512
"""Pixels that the longer side of the file has at least, if a whole number of pixels a cell allows it."""
PALETTES = {
    "gameboy": "#0f380f #306230 #8bac0f #9bbc0f",
    "pico-8": "#000000 #1d2b53 #7e2553 #008751 #ab5236 #5f574f #c2c3c7 #fff1e8 #ff004d #ffa300 #ffec27 #00e436 #29adff "
    "#83769c #ff77a8 #ffccaa",
}
"""Palettes that are known by name."""


def palette_of(text: str) -> Tensor:
    """Colours (K, 3) in [0, 1] of a palette's name, or of colours with spaces or commas between.

    Raises:
        ValueError: there are fewer than 2 or more than `MOST_COLOURS`, or one is no colour.
    """
    words = PALETTES.get(text.strip().lower(), text).replace(",", " ").split()
    if not 2 <= len(words) <= MOST_COLOURS:
        raise ValueError(
            f"palette: got {shown(text[:80])}, {len(words)} colours; allowed are {', '.join(PALETTES)}, or 2 to "
            f"{MOST_COLOURS} colours such as '#1d2b53 #ff004d'. Leave it empty to have one learned."
        )
    return torch.tensor([colour_of(word) for word in words])


@dataclass(frozen=True)
class PixelArtSettings:
    """What pixel art is made of."""

    cells: int = setting(32, "cells along the longer side", low=2, high=MOST_CELLS, usual=(8, 128))
    colours: int = setting(8, "of a learned palette; fewer look bolder", low=2, high=MOST_COLOURS, usual=(2, 32))
    palette: str = setting("", f"the colours to use, as '#1d2b53 #ff004d', or {', '.join(PALETTES)}; empty: learned")
    mirror: bool = setting(False, "the right half is the left one, mirrored")
    tidy: float = setting(
        0.05, "how strongly stray cells are avoided; 0 = not at all", low=0, high=1e3, usual=(0, 1), expert=True
    )
    contour: bool = setting(False, "a line in the darkest colour around what stands before the ground")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.palette:
            palette_of(self.palette)


@dataclass(frozen=True)
class Softly(View):
    """A view of the soft picture, at a temperature."""

    temperature: float = WARM


class PixelArt(Generator):
    """A grid of colours out of a palette.

    Args:
        width, height: of the canvas, in pixels.
        cells, colours, palette, mirror, contour, tidy: as in `PixelArtSettings`.
        seed: of the cells' first colours and of a learned palette.

    Raises:
        ValueError: for a value out of range.
    """

    windows = True
    settings = PixelArtSettings
    files = ("sprite.png",)
    label: ClassVar[str] = "Pixel art"

    def __init__(
        self,
        width: int,
        height: int,
        *,
        cells: int = 32,
        colours: int = 8,
        palette: str = "",
        mirror: bool = False,
        contour: bool = False,
        tidy: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, side in (("width", width), ("height", height)):
            check_count(name, side, maximum=SIDE)
        self.made = PixelArtSettings(cells, colours, palette, mirror, tidy, contour)
        self.size, self.seed = (width, height), seed
        columns, rows = (max(1, round(side * cells / max(self.size))) for side in self.size)
        rng = seeded(seed)
        self.values = nn.Parameter(normal((1, 3, rows, columns), rng) * 0.02)
        given = palette_of(palette) if palette else None
        first = normal((colours, 3), rng) * 0.15
        self.palette = nn.Parameter(first if given is None else given, requires_grad=given is None)

    @classmethod
    def for_size(
        cls, width: int, height: int, *, seed: int = 0, channels: int = 4, cell: int = 8, **options: int | str | bool
    ) -> PixelArt:
        """Pixel art for a canvas of ``width`` x ``height`` pixels."""
        return cls(width, height, seed=seed, **options)  # pyright: ignore[reportArgumentType] - checked by the settings

    @property
    def kind(self) -> str:
        """ "pixel-art"."""
        return "pixel-art"

    @property
    def canvas(self) -> Canvas:
        """Of the size at which it is optimised."""
        return Canvas(*self.size)

    def config(self) -> Config:
        """Size, settings and seed."""
        return {"width": self.size[0], "height": self.size[1], **asdict(self.made), "seed": self.seed}

    def view(self, step: int, steps: int, rng: Rng) -> Softly:
        """The whole canvas, at the temperature of that iteration."""
        share = step / max(steps - 1, 1)
        own = self.canvas.view
        return Softly(own.height, own.width, temperature=WARM * (COLD / WARM) ** share)

    def colours(self) -> Tensor:
        """The palette (K, 3) in [0, 1]."""
        return self.palette if self.made.palette else tone(self.palette)

    def render(self, view: View) -> Tensor:
        """RGB in [0, 1], (1, 3, height, width) of the view's window: soft for a `Softly`, of the palette otherwise.

        What is of the palette has the gradient of the soft picture at its coldest (straight through).
        """
        if isinstance(view, Softly):
            grid = self._soft(view.temperature)
        else:
            grid = self.colours().detach()[self.numbers()].movedim(-1, 0)
            if torch.is_grad_enabled() and self.values.requires_grad:
                soft = self._soft(COLD)
                grid = soft + (grid - soft).detach()
        return _squares(grid, view)[None]

    def _cells(self) -> Tensor:
        """Colours (3, rows, columns) of the cells, mirrored if wanted."""
        values = tone(self.values[0])
        if not self.made.mirror:
            return values
        column = torch.arange(values.shape[-1], device=values.device)
        return values[..., torch.minimum(column, values.shape[-1] - 1 - column)]

    def _soft(self, temperature: float) -> Tensor:
        """The soft picture (3, rows, columns)."""
        return torch.einsum("khw,kc->chw", self._shares(temperature), self.colours())

    def _shares(self, temperature: float) -> Tensor:
        """w (K, rows, columns)."""
        cells = self._cells()
        distance = (cells[None] - self.colours()[:, :, None, None]).square().sum(dim=1)
        return torch.softmax(distance / (-2 * temperature**2), dim=0)

    @torch.no_grad()
    def numbers(self) -> Tensor:
        """Number of the palette's colour of each cell, (rows, columns)."""
        found = self._shares(COLD).argmax(dim=0)
        return _contoured(found, int(self.colours().sum(dim=1).argmin())) if self.made.contour else found

    def penalty(self, view: View) -> Tensor | None:
        """``tidy`` times the mean difference of neighbouring cells: the soft picture's total variation."""
        if self.made.tidy == 0 or not isinstance(view, Softly):
            return None
        grid = self._soft(view.temperature)
        across, down = (grid.diff(dim=side).square().sum(dim=0) + TINY for side in (-1, -2))
        return self.made.tidy * (across.sqrt().mean() + down.sqrt().mean())

    def begun(self, picture: Tensor) -> PixelArt:
        """The picture averaged down to the cells, with a palette of its own: where a fit begins."""
        made = PixelArt(**self.config())
        with torch.no_grad():
            cells = F.adaptive_avg_pool2d(picture.cpu(), (self.values.shape[-2], self.values.shape[-1]))[0]
            made.values.copy_(toned(cells)[None])
            if not self.made.palette:
                made.palette.copy_(toned(cluster(cells.flatten(1).T, self.made.colours)))
        return made.to(self.values.device)

    def export(self, name: str) -> bytes:
        """sprite.png: a file with a palette, each cell a square of a whole number of pixels."""
        check_choice("name", name, self.files)
        return png_of(self.numbers(), self.colours().detach())


def _squares(grid: Tensor, view: View) -> Tensor:
    """The cells (C, rows, columns) as squares of the view's window."""
    top, left, height, width = view.box
    rows = (torch.arange(top, top + height, device=grid.device) + 0.5) * grid.shape[1] / view.height
    columns = (torch.arange(left, left + width, device=grid.device) + 0.5) * grid.shape[2] / view.width
    return grid[:, rows.long()][:, :, columns.long()]


def _contoured(numbers: Tensor, darkest: int) -> Tensor:
    """Cells of the ground that touch another, in the darkest colour; the ground is what the border is mostly of."""
    border = torch.cat([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
    ground = numbers == torch.bincount(border).argmax()
    figure = F.pad((~ground)[None, None].float(), (1, 1, 1, 1))
    cross = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], device=numbers.device)[None, None]
    touched = F.conv2d(figure, cross)[0, 0] > 0
    return torch.where(ground & touched, torch.full_like(numbers, darkest), numbers)


@torch.no_grad()
def cluster(colours: Tensor, count: int, rounds: int = 20) -> Tensor:
    """``count`` colours (count, 3) that many (N, 3) lie near to: k-means, begun with the ones farthest apart."""
    chosen = [colours.mean(dim=0)]
    while len(chosen) < count:
        nearest = torch.cdist(colours, torch.stack(chosen)).amin(dim=1)
        chosen.append(colours[int(nearest.argmax())])
    centres = torch.stack(chosen)
    for _ in range(rounds):
        owner = torch.cdist(colours, centres).argmin(dim=1)
        share = F.one_hot(owner, count).to(colours).T
        filled = share.sum(dim=1, keepdim=True)
        centres = torch.where(filled > 0, share @ colours / filled.clamp(min=1), centres)
    return centres


def palette_from(picture: Tensor, count: int) -> str:
    """The palette of a picture (1, 3, H, W) in [0, 1]: ``count`` of its colours, as `PixelArtSettings` takes them.

    All of them, where it has no more; two at least.

    Raises:
        ValueError: it is no picture, or the count is not from 2 to `MOST_COLOURS`.
    """
    check_count("colours", count, minimum=2, maximum=MOST_COLOURS)
    picture = check_picture("picture", picture)
    own = (_looked_at(picture, 1024) * 255).round().unique(dim=0)
    if 2 <= len(own) <= count:
        return " ".join(hex_of(colour) for colour in own / 255)
    pixels = _looked_at(picture, 64)
    return " ".join(hex_of(colour) for colour in cluster(pixels, count))


def _looked_at(picture: Tensor, most: int) -> Tensor:
    """Pixels (N, 3) of a picture (1, 3, H, W), in as many rows and columns as it has, or ``most``; none is mixed."""
    rows, columns = (
        ((torch.arange(count, device=picture.device) + 0.5) * side / count).long()
        for side, count in ((side, min(side, most)) for side in picture.shape[-2:])
    )
    return picture[0][:, rows][:, :, columns].flatten(1).T


def png_of(numbers: Tensor, palette: Tensor, scale: int = 0) -> bytes:
    """A PNG with a palette.

    Args:
        numbers: of the colours, (rows, columns).
        palette: (K, 3) in [0, 1], K up to 256.
        scale: pixels a side of a cell; 0: as many as make the longer side `SHEET` at least.
    """
    from PIL import Image

    scale = scale or max(1, -(-SHEET // max(numbers.shape)))
    picture = Image.fromarray(numbers.to(torch.uint8).cpu().numpy(), mode="P")
    picture.putpalette((palette.cpu() * 255).round().to(torch.uint8).flatten().tolist())
    file = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def sheet_of(sprites: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Sprites of one size in rows, about square, as one: numbers (rows, columns) and the palette (K, 3) of all.

    Equal colours are one entry; cells beyond the last sprite have the first entry, which is the first sprite's first.

    Args:
        sprites: numbers (h, w) and palette (k, 3) in [0, 1] of each.

    Raises:
        ValueError: there is none, they differ in size, or have more than 256 colours together.
    """
    if not sprites or any(numbers.shape != sprites[0][0].shape for numbers, _ in sprites):
        sizes = [tuple(numbers.shape) for numbers, _ in sprites]
        raise ValueError(
            f"sprites: got sizes {shown(sizes)}; allowed are one or more of one size. Make them in a batch."
        )
    height, width = sprites[0][0].shape
    columns = math.ceil(math.sqrt(len(sprites)))
    rows = math.ceil(len(sprites) / columns)
    seen: dict[tuple[int, ...], int] = {}
    sheet = torch.zeros(rows * height, columns * width, dtype=torch.int64)
    for i, (numbers, palette) in enumerate(sprites):
        entries = [tuple(entry) for entry in (palette.detach().cpu() * 255).round().to(torch.int64).tolist()]
        own = torch.tensor([seen.setdefault(entry, len(seen)) for entry in entries])
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = own[numbers.cpu().long()]
    if len(seen) > MOST_COLOURS:
        raise ValueError(
            f"sprites: got {len(seen)} colours together; allowed are {MOST_COLOURS} in one palette. Give them one in "
            "common, or save them one by one."
        )
    return sheet, torch.tensor(list(seen), dtype=torch.float32) / 255
