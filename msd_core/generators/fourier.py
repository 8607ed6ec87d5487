"""A coordinate network on random Fourier features.

    f(p) = MLP([cos(2 pi B p), sin(2 pi B p)]),   B (features, 2) ~ N(0, scale^2), fixed

(Tancik et al. 2020, Eq. 5 with Gaussian frequencies). ``scale`` is in cycles per picture width. A frequency above half
the number of pixels is invisible while training and garbage between the pixels when rendered larger; behind an
autoencoder with cells of 8 pixels the limit is 8 times lower. So the default is tied to the training size, scale =
resolution / 32: half the latent's Nyquist limit, and the network adds the harmonics that sharp edges need. Measured at
64 px: distilled through a latent model the picture is smooth at scale 2 and below, and has grain all over at 4; fitted
directly to a two-shape picture and compared at 512 px, 28.8 dB at scale 2, 29.4 at 4 (bicubic enlargement: 27.7), 28.4
and grain at 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..randomness import normal
from ..validation import check_count, check_number
from .base import Config
from .field import Field, axes_of
from .layers import WIDEST, perceptron


class FourierField(Field):
    """The field above, (N, 2) positions in [0, 1]^2 -> (N, 3).

    Args:
        resolution: training size in pixels; sets the default ``scale``.
        hidden, layers: units a hidden layer, and hidden layers.
        rng: source of the frequencies and the first weights.
        features: number of frequencies; the network reads twice as many numbers.
        scale: standard deviation of the frequencies in cycles per picture; None = resolution / 32.
        tile: of `TILES`; along these axes the frequencies are whole numbers of cycles.

    Raises:
        ValueError: for a count or a scale out of range.
    """

    frequencies: Tensor

    def __init__(
        self,
        resolution: int,
        hidden: int,
        layers: int,
        rng: torch.Generator,
        *,
        features: int = 64,
        scale: float | None = None,
        tile: str = "none",
    ) -> None:
        super().__init__()
        axes, self.tile = axes_of(tile), tile
        check_count("features", features, maximum=WIDEST)
        self.features = features
        self.scale = resolution / 32 if scale is None else scale
        check_number("scale", self.scale, "Cycles per picture.", low=1e-5, high=1e5)
        frequencies = normal((features, 2), rng).mul_(self.scale)
        for axis, repeats in enumerate(axes):
            if repeats:
                frequencies[:, axis] = frequencies[:, axis].round()
        self.register_buffer("frequencies", frequencies)
        self.network = perceptron(2 * features, hidden, layers, 3, rng)

    def encode(self, position: Tensor) -> tuple[Tensor, ...]:
        """The features (N, 2 features)."""
        phase = (2 * math.pi) * position @ self.frequencies.T
        return (torch.cat([phase.cos(), phase.sin()], dim=-1),)

    def read(self, features: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - of `encode`
        """(N, 3)."""
        return self.network(features)

    def config(self) -> Config:
        """The options that are this field's own."""
        return {"features": self.features, "scale": self.scale, **({} if self.tile == "none" else {"tile": self.tile})}
