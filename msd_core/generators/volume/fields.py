"""What a volume is made of: trainable functions from position in the unit ball to density and colour.

    sigma = softplus(f_0 + b (1 - |p|/0.5)),   c = sigmoid(f_1..3),   f = MLP(features(p))

The blob b (Poole et al. 2022) is there from the start, in the middle, and the rest is empty: an empty volume gives no
gradient. Features come from lattices, interpolated trilinearly: dense ones, a few and small, which are cheap on every
device; or many and fine, sharing their entries through a spatial hash (Müller et al. 2022), which hold more detail at
about twice the cost. Everything is float32, whatever the model's precision.

Adam moves all parameters at one rate, and features should move six times as fast as the network that reads them: so
both are kept in units of their own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...registry import Registry
from ..layers import linear
from .table import weighted_rows

FEATURE_UNIT, LAYER_UNIT = 9.0, 1.5
"""What 1 of a stored number counts, of the features and of the layers: a third of it, and 60 iterations leave a fog
through which the colours of the far side shine."""
BLOB_RADIUS = 0.5
"""Of the blob, in radii of the ball."""
CORNERS = tuple((i & 1, i >> 1 & 1, i >> 2) for i in range(8))
"""Of a cell: whether each lies at its lower or its upper end, along x, y and z."""
FIELDS = Registry("grid", __package__ or "", {"dense": "fields:DenseGrid", "hash": "fields:HashGrid"})
"""Name to the class of a field."""


class SolidField(nn.Module, ABC):
    """(N, 3) positions -> densities (N,), >= 0 in 1/radius, and colours (N, 3) in [0, 1].

    Args:
        width: of the features of one position.
        hidden: units of the layer that reads them.
        blob: b, the density at the centre that it starts from.
        rng: source of the first parameters.
    """

    weight: ClassVar[int] = 1
    """What the backward pass keeps of one position, in units of the dense grid's."""

    def __init__(self, width: int, hidden: int, blob: float, rng: torch.Generator) -> None:
        super().__init__()
        self.blob = blob
        self.first = linear(width, hidden, math.sqrt(6 / width) / LAYER_UNIT, rng)
        self.last = linear(hidden, 4, 1 / math.sqrt(hidden) / LAYER_UNIT, rng)

    @abstractmethod
    def features(self, place: Tensor) -> Tensor:
        """(N, 3) positions in [-1, 1]^3 -> (N, width), in the units that are stored."""

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Densities (N,) and colours (N, 3) at (N, 3)."""
        hidden = F.relu(_layer(self.first, FEATURE_UNIT * self.features(place)))
        raw = _layer(self.last, hidden)
        blob = self.blob * (1 - place.norm(dim=1) / BLOB_RADIUS)
        return F.softplus(raw[:, 0] + blob), torch.sigmoid(raw[:, 1:])


def _layer(layer: nn.Linear, values: Tensor) -> Tensor:
    return LAYER_UNIT * F.linear(values, layer.weight, layer.bias)


def _table(shape: tuple[int, ...], rng: torch.Generator) -> nn.Parameter:
    table = torch.empty(shape, dtype=torch.float32)
    return nn.Parameter(table if table.is_meta else table.uniform_(-3e-5, 3e-5, generator=rng))


class DenseGrid(SolidField):
    """Lattices of 16 and 48 points a side, four features each, and 32 hidden units: 460,000 parameters."""

    SIDES, FEATURES, HIDDEN = (16, 48), 4, 32

    def __init__(self, blob: float, rng: torch.Generator) -> None:
        super().__init__(len(self.SIDES) * self.FEATURES, self.HIDDEN, blob, rng)
        self.lattices = nn.ParameterList([_table((1, self.FEATURES, side, side, side), rng) for side in self.SIDES])

    def features(self, place: Tensor) -> Tensor:
        """Of all lattices, beside each other."""
        return torch.cat([trilinear(lattice, place) for lattice in self.lattices], dim=1)


def trilinear(lattice: Tensor, place: Tensor) -> Tensor:
    """Values (N, C) of a ``lattice`` (1, C, D, D, D) over [-1, 1]^3, corners included, at positions (N, 3)."""
    if place.device.type == "mps":  # torch has no grid_sample in space there yet
        return _gathered(lattice, place)
    return F.grid_sample(lattice, place[None, None, None], padding_mode="border", align_corners=True)[0, :, 0, 0].T


def _gathered(lattice: Tensor, place: Tensor) -> Tensor:
    """`trilinear` from the eight corners of each cell."""
    channels, side = lattice.shape[1], lattice.shape[2]
    (x, y, z), weight = corners_of(place, side)
    rows = torch.stack([x[i] + side * y[j] + side**2 * z[k] for i, j, k in CORNERS], dim=1)
    return weighted_rows(lattice.reshape(channels, -1).T, rows, weight)


def corners_of(place: Tensor, side: int) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """The two numbers (N,) along each axis of the cells that positions (N, 3) lie in, and weights of `CORNERS` (N, 8).

    The lattice has ``side`` points a side over [-1, 1]^3.
    """
    at = ((place + 1) / 2).clamp(0, 1) * (side - 1)
    low = at.floor().clamp(max=side - 2)
    x, y, z = ((1 - share, share) for share in (at - low).unbind(dim=1))
    weight = torch.stack([x[i] * y[j] * z[k] for i, j, k in CORNERS], dim=1)
    return [(number, number + 1) for number in low.long().unbind(dim=1)], weight


class HashGrid(SolidField):
    """Eight lattices of 8 to 128 points a side, two features each of at most 2^15 entries, and 32 hidden units.

    The number of entries is a power of two: a remainder is its last bits.
    """

    weight = 4
    LEVELS, FEATURES, ENTRIES, COARSEST, FINEST, HIDDEN = 8, 2, 2**15, 8, 128, 32
    PRIMES = (1, 2654435761, 805459861)

    def __init__(self, blob: float, rng: torch.Generator) -> None:
        super().__init__(self.LEVELS * self.FEATURES, self.HIDDEN, blob, rng)
        growth = (self.FINEST / self.COARSEST) ** (1 / (self.LEVELS - 1))
        self.sides = [round(self.COARSEST * growth**level) for level in range(self.LEVELS)]
        shapes = [(min(side**3, self.ENTRIES), self.FEATURES) for side in self.sides]
        self.tables = nn.ParameterList([_table(shape, rng) for shape in shapes])

    def features(self, place: Tensor) -> Tensor:
        """Of all levels, beside each other; level by level, so that little is kept for the backward pass."""
        return torch.cat([self._level(*one, place) for one in zip(self.sides, self.tables, strict=True)], dim=1)

    def _level(self, side: int, table: Tensor, place: Tensor) -> Tensor:
        if side**3 <= self.ENTRIES:
            return trilinear(table.T.reshape(1, self.FEATURES, side, side, side), place)
        axes, weight = corners_of(place, side)
        x, y, z = ((low * prime, high * prime) for (low, high), prime in zip(axes, self.PRIMES, strict=True))
        rows = torch.stack([x[i] ^ y[j] ^ z[k] for i, j, k in CORNERS], dim=1) & (self.ENTRIES - 1)
        return weighted_rows(table, rows.int(), weight)
