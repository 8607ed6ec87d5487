"""The neural image: a picture as a continuous function of position, f(p; psi): [0, 1]^2 -> RGB.

    x[row, column] = sigmoid(f(p)),   p = ((column + 1/2)/W, (row + 1/2)/H)

(Mean-Shift Distillation, section 4.4: chosen over pixels so that no method can simply copy a sample.) The same
parameters render at every size. f is one of three fields: Fourier features, SIREN, or a multiresolution hash grid;
each is band-limited to the size at which it will be trained, ``resolution``, so that a larger render shows no garbage
between the pixels. The defaults are small: 64 x 64 pixels take about 10 ms, forward and back, on one CPU core."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..validation import check_choice, check_count
from .base import Config, Generator, Space, pixel_centres
from .field import Field
from .fourier import FourierField
from .hash_grid import HashGridField
from .siren import SirenField

ENCODINGS: dict[str, Callable[..., Field]] = {
    "fourier": FourierField,
    "siren": SirenField,
    "hashgrid": HashGridField,
}
_CHUNK = 2**13
"""Positions evaluated at once: bounds the memory of a large render, and stays in the cache of one."""


class NeuralImage(Generator):
    """A coordinate network that renders RGB in [0, 1], shape (1, 3, H, W), at any size.

    Args:
        encoding: "fourier", "siren" or "hashgrid".
        resolution: the size in pixels at which it will be trained; it limits the detail the field can hold.
        hidden, layers: units a hidden layer, and hidden layers.
        seed: of the first parameters; the global random state is neither read nor changed.
        options: of the field: ``features, scale`` (fourier), ``omega`` (siren), ``levels, features, entries, coarsest,
            finest`` (hashgrid).

    Raises:
        ValueError: for an unknown encoding or option, or a value out of range.
    """

    def __init__(
        self,
        encoding: str = "fourier",
        *,
        resolution: int = 64,
        hidden: int = 64,
        layers: int = 3,
        seed: int = 0,
        **options: Any,  # noqa: ANN401 - checked by the field
    ) -> None:
        super().__init__()
        check_choice("encoding", encoding, ENCODINGS)
        for option in options:
            check_choice("options", option, _options(encoding))
        for name, value in {"resolution": resolution, "hidden": hidden, "layers": layers}.items():
            check_count(name, value)
        check_count("seed", seed, minimum=0)
        rng = torch.Generator().manual_seed(seed)
        self.encoding = encoding
        self.size: Config = {"resolution": resolution, "hidden": hidden, "layers": layers, "seed": seed}
        self.field = ENCODINGS[encoding](resolution, hidden, layers, rng, **options)

    @property
    def kind(self) -> str:
        """The encoding."""
        return self.encoding

    @property
    def space(self) -> Space:
        """ "image"."""
        return "image"

    def config(self) -> Config:
        """Sizes, seed and the field's own options."""
        return {**self.size, **self.field.config()}

    def render(self, height: int, width: int) -> Tensor:
        """RGB in [0, 1], (1, 3, height, width), differentiable in the parameters.

        Raises:
            ValueError: for a size below 1.
        """
        positions = pixel_centres(height, width, next(self.parameters())).split(_CHUNK)
        colour = torch.cat([torch.sigmoid(self.field(position)) for position in positions])
        return colour.T.reshape(1, 3, height, width)


def _options(encoding: str) -> list[str]:
    """Names of the options of a field: its keyword-only arguments."""
    parameters = inspect.signature(ENCODINGS[encoding]).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
