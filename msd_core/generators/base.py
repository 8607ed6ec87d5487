"""What a generator is: parameters, and a differentiable picture of them from any view.

A generator g with parameters psi renders x = g(psi; view) (Mean-Shift Distillation, section 2). The optimisation asks
it for a view a step and renders that; what a view is, is the generator's own affair: a size here, a shift of a tile or
a camera elsewhere. It knows nothing else about it than the members below, so a new representation is one new file.

Conventions: pictures are (B, C, H, W). ``space`` is "image" (RGB in [0, 1]), "latent" (a model's scaled latent, H and
W in latent cells) or "points" (bare vectors (B, D), in no picture at all). Position is (x, y) in [0, 1]^2 from the top
left corner, the whole picture at every aspect ratio; rendering samples it at the pixel centres ((column + 1/2)/W, (row
+ 1/2)/H), so that every size shows the same picture. A part of one is rendered as a window of a frame: the pixels that
the whole frame has there."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ..randomness import Rng
from ..validation import check_choice, check_count

Space: TypeAlias = Literal["image", "latent", "points"]
Config: TypeAlias = dict[str, Any]
Window: TypeAlias = tuple[int, int, int, int]
Region: TypeAlias = tuple[float, float, float, float]

SIDE = 2**14
"""Most pixels a side, or cells of a latent, of what a generator is made for: that of the largest pictures of a host."""


@dataclass(frozen=True)
class View:
    """The picture at a size, or a part of it.

    Attributes:
        height, width: of the whole frame, in pixels or in cells of a latent.
        window: top, left, height and width of the part of the frame to render, in its pixels; None is all of it.

    Raises:
        ValueError: for a size below 1, or a window that leaves the frame.
    """

    height: int
    width: int
    window: Window | None = None

    def __post_init__(self) -> None:
        check_count("height", self.height)
        check_count("width", self.width)
        if self.window is not None:
            _check_window(self.window, self.height, self.width)

    @classmethod
    def zoom(cls, region: Region, height: int, width: int) -> View:
        """A part of the picture at a size: the window of that size that comes nearest to the ``region``.

        Args:
            region: left, top, right and bottom in [0, 1]^2, as positions are; the whole picture is (0, 0, 1, 1).
            height, width: of the part, in pixels. The frame is as much larger as the region is smaller, rounded to
                whole pixels: each edge lies within one pixel of where it was asked for.

        Raises:
            ValueError: for a size below 1, or a region that is empty or leaves the picture.
        """
        check_count("height", height)
        check_count("width", width)
        left, top, right, bottom = region
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"region: got {tuple(region)}; allowed is (left, top, right, bottom) with 0 <= left < right <= 1 and "
                "0 <= top < bottom <= 1. The whole picture is (0, 0, 1, 1)."
            )
        tall, start = _frame(top, bottom, height)
        wide, side = _frame(left, right, width)
        return cls(tall, wide, (start, side, height, width))

    @property
    def box(self) -> Window:
        """Top, left, height and width of what is rendered, in pixels of the frame."""
        return (0, 0, self.height, self.width) if self.window is None else self.window


def _check_window(window: Window, height: int, width: int) -> None:
    """Refuse a window that is empty or leaves the frame."""
    top, left, rows, columns = window
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in window)
    if not whole or min(top, left) < 0 or min(rows, columns) < 1 or top + rows > height or left + columns > width:
        raise ValueError(
            f"window: got {tuple(window)}; allowed is (top, left, height, width) in whole pixels inside of the frame, "
            f"{height} high and {width} wide. Move it inside, or make it smaller."
        )


def _frame(low: float, high: float, length: int) -> tuple[int, int]:
    """Length of the frame in which ``low`` to ``high`` of [0, 1] is ``length`` pixels long, and the first of them."""
    whole = max(length, round(length / (high - low)))
    return whole, min(round(low * whole), whole - length)


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
        check_choice("space", self.space, ("image", "latent", "points"))
        for name in ("width", "height", "cell"):
            check_count(name, getattr(self, name))
        for name in ("width", "height", "cell"):
            value = getattr(self, name)
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


class Moved(NamedTuple):
    """An iteration that is done: number ``step`` of ``steps``, what was rendered, and where it was pulled.

    ``pulled`` and ``target`` are (B, C, h, w) of one shape, the picture's or the latent's: the generator's own rows,
    before its update, and where they should be.
    """

    step: int
    steps: int
    view: Any
    pulled: Tensor
    target: Tensor


class Generator(nn.Module, ABC):
    """A module that renders its parameters; ``make_generator(g.kind, **g.config())`` builds its untrained twin.

    A class offers ``for_size(width, height, *, seed, channels, cell, **options)``, a fresh generator to be optimised at
    that size in pixels with a model whose latent has that many channels and that cell; what it has no use for it
    ignores.

    All parameters are moved at one rate: a class that wants some of them to move faster keeps them in smaller units.
    """

    label: ClassVar[str] = ""
    settings: ClassVar[type | None] = None
    """A frozen dataclass of `setting`s, which ``for_size`` takes by their plain names: flags and widgets are made of
    it."""
    files: ClassVar[tuple[str, ...]] = ()
    """Names of files, beside the picture, that `export` can write: what the kind is used for elsewhere."""
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """By the name of a method, the settings of a run that suit the kind better than the method's own preset."""
    largest: ClassVar[float] = 1e6
    """Most that a number among the parameters of a file may be in size: far above any that is of use, and so far below
    where float32 ends that the layers of a network do not overflow."""
    universal: ClassVar[bool] = False
    """Whether it comes close to any picture of its canvas. Of one that does not, a shift is left at the best that it
    can draw (`symptoms`)."""
    windows: ClassVar[bool] = False
    """Whether `render` honours the window of a `View`; of a generator that does not, the whole is rendered and cut."""

    independent: ClassVar[bool] = False
    """Whether each place of its canvas has parameters of its own: where nothing pulls, nothing moves."""

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

    def renderer(self, view: Any) -> Callable[[], Tensor]:  # noqa: ANN401 - a view of its own kind
        """`render` of one view, to be called while the parameters change; what does not depend on them is made once."""
        return partial(self.render, view)

    @property
    def space(self) -> Space:
        """ "image" if `render` gives RGB in [0, 1], "latent" if a model's latent, "points" if bare vectors."""
        return self.canvas.space

    @property
    def rows(self) -> int:
        """B of `render` of a `frame`: its pictures."""
        return 1

    @property
    def views(self) -> int:
        """B of `render` of a `view`: more than `rows` where an iteration sees a picture's object from several sides."""
        return self.rows

    def view(self, step: int, steps: int, rng: Rng) -> Any:  # noqa: ANN401 - a view of its own kind
        """What to render in iteration ``step`` of ``steps``; the whole canvas, unless a generator moves it."""
        return self.canvas.view

    def frame(self, height: int, width: int) -> Any:  # noqa: ANN401 - a view of its own kind
        """The view to show as a picture of a size, in pixels or latent cells."""
        return View(height, width)

    def words(self, view: Any) -> dict[str, str]:  # noqa: ANN401 - a view of its own kind
        """What a prompt can say of a view: names that stand in braces in it, such as {ground}, and their words."""
        return {}

    def shares(self, view: Any) -> list[tuple[float, dict[str, str]]]:  # noqa: ANN401 - a view of its own kind
        """`words` of a view with a share each that sum to 1: several where it lies between two sides."""
        return [(1.0, self.words(view))]

    def groups(self) -> dict[str, int | None]:
        """Parts whose parameters are updated each on its own: prefix of their names to the row they render.

        None stands for all rows.
        """
        return {"": None}

    def penalty(self, view: Any) -> Tensor | None:  # noqa: ANN401 - a view of its own kind
        """What speaks against the parameters as they are, a differentiable scalar; None for nothing.

        It counts beside the mean over the places of one picture of |pulled - target|^2/2; of several views, their sum.
        """
        return None

    def tend(self, moved: Moved, rng: Rng) -> Mapping[str, Tensor]:
        """Upkeep after an iteration, in place: of what is no parameter, or of parts that nothing moves any more.

        Returns:
            For each parameter whose rows have moved or begin anew, along its first dimension, by name: the number of
            the row that each was before, -1 for one that begins anew. The optimiser's memory follows.
        """
        return {}

    def begun(self, picture: Tensor) -> Generator:
        """Where a fit to ``picture`` (1, 3, height, width) of the canvas begins; itself, unless it knows better."""
        return self

    def export(self, name: str) -> bytes:
        """The content of the file ``name``, one of `files`."""
        raise NotImplementedError(name)


G = TypeVar("G", bound=Generator)


def on_device(generator: G, device: torch.device) -> G:
    """A generator on ``device``: itself if all of it is there, else a copy."""
    if all(tensor.device == device for tensor in generator.state_dict().values()):
        return generator
    return copy.deepcopy(generator).to(device)


def pixel_centres(
    height: int, width: int, like: Tensor, *, window: Window | None = None, start: int = 0, stop: int | None = None
) -> Tensor:
    """Pixel centres (x, y) in [0, 1]^2, row by row, with the type and device of ``like``: (stop - start, 2).

    Args:
        height, width: of the frame, in pixels.
        like: any tensor.
        window: the part of the frame, as in `View`.
        start, stop: which pixels of it, counted row by row; all if left out. Only theirs take memory.

    Raises:
        ValueError: for a size below 1, or a window that leaves the frame.
    """
    top, left, rows, columns = View(height, width, window).box
    pixel = torch.arange(start, rows * columns if stop is None else stop, device=like.device)
    y = ((pixel // columns + top).to(like.dtype) + 0.5) / height
    x = ((pixel % columns + left).to(like.dtype) + 0.5) / width
    return torch.stack([x, y], dim=-1)
