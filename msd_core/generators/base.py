"""What a generator is: parameters, and a differentiable picture of them from any view.

A generator g with parameters psi renders x = g(psi; view) (Mean-Shift Distillation, section 2). The optimisation asks
it for a view a step and renders that; what a view is, is the generator's own affair: a size here, a shift of a tile or
a camera elsewhere. It knows nothing else about it than the members below, so a new representation is one new file.

Conventions: pictures are (B, C, H, W). ``space`` is "image" (RGB in [0, 1]), "latent" (a model's scaled latent, H and
W in latent cells) or "points" (bare vectors (B, D), in no picture at all). Position is (x, y) in [0, 1]^2 from the top
left corner, the whole picture at every aspect ratio; rendering samples it at the pixel centres ((column + 1/2)/W, (row
+ 1/2)/H), so that every size shows the same picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..randomness import Rng
from ..validation import check_count

Space: TypeAlias = Literal["image", "latent", "points"]
Config: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class View:
    """The whole picture at a size: ``height`` and ``width`` in pixels, or in cells of a latent.

    Raises:
        ValueError: for a size below 1.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        check_count("height", self.height)
        check_count("width", self.width)


@dataclass(frozen=True)
class Canvas:
    """What a generator is drawn on while it is optimised.

    Attributes:
        width, height: in pixels.
        cell: pixels a side of the model's latent cell.
        space: of what the generator renders.

    Raises:
        ValueError: for a size below 1, or one that is no multiple of the cell of a latent.
    """

    width: int
    height: int
    cell: int = 8
    space: Space = "image"

    def __post_init__(self) -> None:
        for name in ("width", "height", "cell"):
            value = getattr(self, name)
            check_count(name, value)
            if self.space == "latent" and value % self.cell:
                raise ValueError(
                    f"{name}: got {value}; allowed are multiples of {self.cell}, the side of a latent's cell; "
                    f"use {max(self.cell, round(value / self.cell) * self.cell)}"
                )

    @property
    def view(self) -> View:
        """The whole canvas: in pixels, or in cells of a latent."""
        side = self.cell if self.space == "latent" else 1
        return View(self.height // side, self.width // side)


class Generator(nn.Module, ABC):
    """A module that renders its parameters; ``make_generator(g.kind, **g.config())`` builds its untrained twin.

    A class offers ``for_size(width, height, *, seed, channels, cell, **options)``, a fresh generator to be optimised at
    that size in pixels with a model whose latent has that many channels and that cell; what it has no use for it
    ignores.
    """

    label: ClassVar[str] = ""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Its name in `GENERATORS`."""

    @property
    @abstractmethod
    def canvas(self) -> Canvas:
        """What it is drawn on while it is optimised."""

    @abstractmethod
    def config(self) -> Config:
        """Everything but the parameters, as JSON-able keyword arguments."""

    @abstractmethod
    def render(self, view: Any) -> Tensor:  # noqa: ANN401 - a view of its own kind
        """The picture (B, C, H, W) of a view, differentiable in the parameters."""

    @property
    def space(self) -> Space:
        """ "image" if `render` gives RGB in [0, 1], "latent" if a model's latent, "points" if bare vectors."""
        return self.canvas.space

    @property
    def rows(self) -> int:
        """B of `render`."""
        return 1

    def view(self, step: int, rng: Rng) -> Any:  # noqa: ANN401 - a view of its own kind
        """What to render in iteration ``step`` of an optimisation; the whole canvas, unless a generator moves it."""
        return self.canvas.view

    def frame(self, height: int, width: int) -> Any:  # noqa: ANN401 - a view of its own kind
        """The view to show as a picture of a size, in pixels or latent cells."""
        return View(height, width)

    def groups(self) -> dict[str, int | None]:
        """Parts whose parameters are updated each on its own: prefix of their names to the row they render.

        None stands for all rows.
        """
        return {"": None}


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres (x, y) in [0, 1]^2, row by row: (height * width, 2), with the type and device of ``like``.

    Raises:
        ValueError: for a size below 1.
    """
    check_count("height", height)
    check_count("width", width)
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
