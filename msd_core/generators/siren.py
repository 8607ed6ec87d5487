"""A sinusoidal representation network.

    h_1 = sin(omega (W_1 p + b_1)),   h_i = sin(W_i h_{i-1} + b_i),   f = W_n h + b_n,   p in [-1, 1]^2

(Sitzmann et al. 2020, Eq. 3) with their initialisation (section 3.2): W_1 ~ U(-1/2, 1/2), W_i ~ U(-c, c) with
c = sqrt(6/fan_in), output weights ~ U(-c/omega, c/omega). Every layer then has arcsine-distributed outputs of the same
variance. The paper writes omega W_i with W_i smaller by omega; here it is absorbed into the hidden weights and biases:
the same function, but one step of Adam, whose size does not depend on the gradient's, then turns the phases by its
learning rate and not by omega times that. Measured, a two-shape picture of 64 px fitted with Adam at the project's 0.01
and omega 16, clean and noisy gradients: 41.1 and 29.4 dB; with the paper's parametrisation 35.8 and 19.8, and no fit at
all with omega 30.

omega is a rate of radians per half picture. The paper's 30 was for pictures of 256 pixels and more; band-limited to the
training size the default is omega = resolution / 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..validation import check_number
from .base import Config
from .field import Field, axes_of
from .layers import linear


class SirenField(Field):
    """The field above, (N, 2) positions in [0, 1]^2 -> (N, 3).

    Args:
        resolution: training size in pixels; sets the default ``omega``.
        hidden, layers: units a sine layer, and sine layers (the first one included).
        rng: source of the first weights.
        omega: angular frequency of the first layer, radians per half picture; None = resolution / 4.
        tile: of `TILES`; along these axes the first layer reads a point on a circle of the picture's length.

    Raises:
        ValueError: for an ``omega`` that is not from 1e-5 to 1e5.
    """

    def __init__(
        self,
        resolution: int,
        hidden: int,
        layers: int,
        rng: torch.Generator,
        *,
        omega: float | None = None,
        tile: str = "none",
    ) -> None:
        super().__init__()
        self.axes, self.tile = axes_of(tile), tile
        self.omega = resolution / 4 if omega is None else omega
        check_number("omega", self.omega, "Radians per half picture.", low=1e-5, high=1e5)
        bound = math.sqrt(6 / hidden)
        bias = self.omega / math.sqrt(hidden)
        self.first = linear(2 + sum(self.axes), hidden, 1 / 2, rng, bias=1 / math.sqrt(2))
        self.sines = nn.ModuleList(linear(hidden, hidden, bound, rng, bias=bias) for _ in range(layers - 1))
        self.output = linear(hidden, 3, bound / self.omega, rng)

    def read(self, position: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - of `encode`
        """(N, 2) positions in [0, 1]^2 -> (N, 3)."""
        wave = torch.sin(self.omega * self.first(self._placed(position)))
        for layer in self.sines:
            wave = torch.sin(layer(wave))
        return self.output(wave)

    def _placed(self, position: Tensor) -> Tensor:
        """Positions in [-1, 1]; a point of a circle of circumference 2 along the axes that repeat."""
        parts = []
        for axis, repeats in enumerate(self.axes):
            along = position[:, axis : axis + 1]
            turn = 2 * math.pi * along
            parts += [turn.cos() / math.pi, turn.sin() / math.pi] if repeats else [2 * along - 1]
        return torch.cat(parts, dim=1)

    def config(self) -> Config:
        """The options that are this field's own."""
        return {"omega": self.omega, **({} if self.tile == "none" else {"tile": self.tile})}
