"""The neural image: a picture as a continuous function of position, f(p; psi): [0, 1]^2 -> RGB.

    x[row, column] = sigmoid(f(p)),   p = ((column + 1/2)/W, (row + 1/2)/H)

(Mean-Shift Distillation, section 4.4: chosen over pixels so that no method can simply copy a sample.) The same
parameters render at every size. f is one of three fields: Fourier features, SIREN, or a multiresolution hash grid;
each is band-limited to the size at which it will be trained, ``resolution``, so that a larger render shows no garbage
between the pixels. The defaults are small: 64 x 64 pixels take about 10 ms, forward and back, on one CPU core."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..echo import shown
from ..randomness import Rng, draw_uniform, seeded
from ..registry import Registry
from ..settings import check_settings, setting
from ..validation import check_choice, check_count
from .base import SIDE, Canvas, Config, Generator, View, pixel_centres
from .field import TILES, axes_of
from .layers import DEEPEST, WIDEST
from .pieces import colours
from .symmetry import MOST_FOLDS, SYMMETRIES, Symmetric

SWAY = 1 / 16
"""Sides of a tile that it is shifted by at most: with more, a model that puts things in the middle smears them."""

FIELDS = Registry(
    "field",
    __package__ or "",
    {"fourier": "fourier:FourierField", "siren": "siren:SirenField", "hashgrid": "hash_grid:HashGridField"},
)
"""Name to the class of a field."""


class NeuralImage(Generator):
    """A coordinate network that renders RGB in [0, 1], shape (1, 3, H, W), at any size.

    Args:
        kind: of its field: "fourier", "siren" or "hashgrid".
        resolution: the size in pixels at which it will be trained; it limits the detail the field can hold.
        size: width and height in pixels at which it will be trained; (resolution, resolution) if left out.
        hidden, layers: units a hidden layer, and hidden layers.
        seed: of the first parameters; the global random state is neither read nor changed.
        symmetry, fold: as in `NeuralImageSettings`.
        options: of the field: ``features, scale`` (fourier), ``omega`` (siren), ``levels, features, entries, coarsest,
            finest`` (hashgrid), and of all ``tile``.

    Raises:
        ValueError: for an unknown kind or option, or a value out of range.
    """

    windows = True

    def __init__(
        self,
        kind: str = "fourier",
        *,
        resolution: int = 64,
        size: tuple[int, int] | None = None,
        hidden: int = 64,
        layers: int = 3,
        seed: int = 0,
        symmetry: str = "none",
        fold: int = 6,
        **options: Any,  # noqa: ANN401 - checked by the field
    ) -> None:
        super().__init__()
        check_choice("symmetry", symmetry, SYMMETRIES)
        check_choice("kind", kind, FIELDS)
        for option in options:
            check_choice("options", option, _options(kind))
        _check_sizes(resolution, size, hidden, layers)
        rng = seeded(seed)
        self._kind = kind
        self._canvas = Canvas(*((resolution, resolution) if size is None else size))
        self.sizes: Config = {"resolution": resolution, "hidden": hidden, "layers": layers, "seed": seed}
        self.field = FIELDS[kind](resolution, hidden, layers, rng, **options)
        if symmetry != "none":
            longest = max(self._canvas.width, self._canvas.height)
            sides = self._canvas.width / longest, self._canvas.height / longest
            self.field = Symmetric(self.field, symmetry, fold, sides)

    @property
    def kind(self) -> str:
        """That of the field."""
        return self._kind

    @property
    def canvas(self) -> Canvas:
        """Of the size at which it is trained."""
        return self._canvas

    @property
    def universal(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - of this one, not of the class
        """Unless it repeats itself: a tile, or a symmetry."""
        return not isinstance(self.field, Symmetric) and not any(axes_of(self.field.tile))

    def config(self) -> Config:
        """Sizes, seed and the field's own options; ``size`` where it is not the square of the resolution."""
        size = [self._canvas.width, self._canvas.height]
        square = size == [self.sizes["resolution"]] * 2
        return {**self.sizes, **({} if square else {"size": size}), **self.field.config()}

    def render(self, view: View) -> Tensor:
        """RGB in [0, 1], (1, 3, height, width) of the view's window, differentiable in the parameters."""
        return self.renderer(view)()

    def renderer(self, view: View) -> Callable[[], Tensor]:
        """`render` of one view, to be called often; its encoded positions are made once."""
        _, _, height, width = view.box
        like = next(self.parameters())

        shift = like.new_tensor(view.shift) if isinstance(view, Shifted) else None

        def positions(start: int, stop: int) -> Tensor:
            found = pixel_centres(view.height, view.width, like, window=view.window, start=start, stop=stop)
            return found if shift is None else (found + shift) % 1

        colour = colours(self.field, positions, height * width, self.units)
        return lambda: colour().T.reshape(1, 3, height, width)

    def view(self, step: int, steps: int, rng: Rng) -> View:
        """The whole canvas; of a tile shifted by up to `SWAY`, so that the model sees across its border."""
        axes, own = axes_of(self.field.tile), self.canvas.view
        if not any(axes):
            return own
        along = [SWAY * (2 * float(draw_uniform(1, rng)) - 1) if repeats else 0.0 for repeats in axes]
        return Shifted(own.height, own.width, shift=(along[0], along[1]))

    @property
    def units(self) -> int:
        """Hidden units that are evaluated for one position."""
        copies = self.field.copies if isinstance(self.field, Symmetric) else 1
        return self.sizes["hidden"] * self.sizes["layers"] * copies


@dataclass(frozen=True)
class Shifted(View):
    """A view of a tile that begins at ``shift``, in sides of the tile, and goes on over its border."""

    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class NeuralImageSettings:
    """What a neural image repeats."""

    tile: str = setting("none", "axes along which the picture repeats without a seam", choices=TILES)
    symmetry: str = setting(
        "none",
        "mirror: one half is the other's; kaleidoscope, rotate: the picture is the same after a turn by 1/fold",
        choices=SYMMETRIES,
    )
    fold: int = setting(6, "turns of a kaleidoscope or of rotate", low=2, high=MOST_FOLDS, usual=(2, 24), expert=True)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class NeuralImageKind:
    """`NeuralImage` with one field, as an entry of the registry of generators."""

    kind: str
    settings: ClassVar[type] = NeuralImageSettings

    def __call__(self, **options: Any) -> NeuralImage:  # noqa: ANN401 - checked by the constructor
        """As `NeuralImage`."""
        return NeuralImage(self.kind, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(NeuralImage)
        return signature.replace(parameters=[p for name, p in signature.parameters.items() if name != "kind"])

    def for_size(
        self,
        width: int,
        height: int,
        *,
        seed: int = 0,
        channels: int = 4,
        cell: int = 8,
        **options: Any,  # noqa: ANN401 - checked by the constructor
    ) -> NeuralImage:
        """A neural image for pictures of ``width`` x ``height`` pixels."""
        check_count("width", width)
        check_count("height", height)
        return NeuralImage(self.kind, resolution=max(width, height), size=(width, height), seed=seed, **options)


FOURIER, SIREN, HASHGRID = NeuralImageKind("fourier"), NeuralImageKind("siren"), NeuralImageKind("hashgrid")


def _check_sizes(resolution: int, size: tuple[int, int] | None, hidden: int, layers: int) -> None:
    """Refuse sizes that are no whole numbers, or too large to be meant."""
    check_count("resolution", resolution, maximum=SIDE)
    check_count("hidden", hidden, maximum=WIDEST)
    check_count("layers", layers, maximum=DEEPEST)
    if size is not None:
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise ValueError(f"size: got {shown(size)}; allowed are a width and a height in pixels. Pass (64, 48).")
        for name, side in zip(("width", "height"), size, strict=True):
            check_count(name, side, maximum=SIDE)


def _options(kind: str) -> list[str]:
    """Names of the options of a field: its keyword-only arguments."""
    parameters = inspect.signature(FIELDS[kind]).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
