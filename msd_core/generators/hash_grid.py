"""A multiresolution hash grid: trainable features on nested lattices, read by a small network.

Level l is a square lattice of R_l cells a side, R_l = floor(coarsest * b^l), from ``coarsest`` to ``finest``. A
position is interpolated bilinearly between the features of its cell's four corners; the levels' features are
concatenated and an MLP turns them into the field (Müller et al. 2022, Eqs. 2-4). A lattice of more than ``entries``
corners shares its features through the spatial hash (x xor y * 2654435761) mod entries; a smaller one is stored one to
one.

Between the pixels a cell finer than a pixel is free to hold anything, so by default the finest lattice has one cell for
two pixels: ``finest`` = resolution / 2.

The lookup is ``embedding``, whose backward pass is deterministic on the CPU with any number of threads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..validation import check_count
from .base import SIDE, Config
from .field import Field, axes_of
from .layers import perceptron

_PRIME = 2654435761
LIMITS = {"levels": 64, "features": 2**10, "entries": 2**26, "coarsest": SIDE, "finest": SIDE}
"""Most that the options may be."""


class HashGridField(Field):
    """The field above, (N, 2) positions in [0, 1]^2 -> (N, 3).

    Args:
        resolution: training size in pixels; sets the default ``finest``.
        hidden, layers: units a hidden layer, and hidden layers of the network that reads the features.
        rng: source of the first weights.
        levels: number of lattices.
        features: numbers a corner of a level.
        entries: most corners that a level stores.
        coarsest, finest: cells a side of the first and the last lattice; None = resolution / 2.
        tile: of `TILES`; along these axes the last corners are the first ones.

    Raises:
        ValueError: for a count out of range, or ``finest < coarsest``.
    """

    cells: Tensor
    sizes: Tensor
    starts: Tensor

    def __init__(
        self,
        resolution: int,
        hidden: int,
        layers: int,
        rng: torch.Generator,
        *,
        levels: int = 6,
        features: int = 4,
        entries: int = 2**14,
        coarsest: int = 4,
        finest: int | None = None,
        tile: str = "none",
    ) -> None:
        super().__init__()
        self.axes, self.tile = axes_of(tile), tile
        finest = max(coarsest, resolution // 2) if finest is None else finest
        self.options: Config = {
            "levels": levels, "features": features, "entries": entries, "coarsest": coarsest, "finest": finest,
        }  # fmt: skip
        for name, value in self.options.items():
            check_count(name, value, maximum=LIMITS[name])
        if finest < coarsest:
            raise ValueError(
                f"finest: got {finest} with coarsest {coarsest}; allowed is finest >= coarsest. Swap them."
            )
        growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
        lattices = [math.floor(coarsest * growth**level + 1e-6) for level in range(levels)]
        cells = torch.tensor(lattices, device="cpu")  # numbers even where only shapes are asked for
        sizes = torch.clamp((cells + 1) ** 2, max=entries)
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("starts", torch.cumsum(sizes, 0) - sizes, persistent=False)
        table = torch.empty(int(sizes.sum()), features, dtype=torch.float32)
        self.table = nn.Parameter(table.uniform_(-1e-4, 1e-4, generator=rng))
        self.network = perceptron(levels * features, hidden, layers, 3, rng)

    def read(self, index: Tensor, weight: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(N, 3) of the corners that `encode` gave."""
        corners = F.embedding(index, self.table)
        features = (weight[..., None] * corners).sum(dim=2)
        return self.network(features.flatten(1))

    def encode(self, position: Tensor) -> tuple[Tensor, ...]:
        """Rows of the table and bilinear weights of the four corners around each position: both (N, levels, 4)."""
        place = position[:, None] * self.cells[:, None]
        low = torch.minimum(place.floor().long(), self.cells[:, None] - 1)
        along = place - low
        corner = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=position.device)
        lattice = low[:, :, None] + corner
        weight = torch.where(corner.bool(), along[:, :, None], 1 - along[:, :, None]).prod(dim=-1)
        x, y = (
            part % self.cells[:, None] if repeats else part
            for part, repeats in zip(lattice.unbind(-1), self.axes, strict=True)
        )
        side = self.cells[:, None] + 1
        sizes = self.sizes[:, None]
        index = torch.where(sizes == side**2, y * side + x, (x ^ (y * _PRIME)) % sizes)
        return index + self.starts[:, None], weight

    def config(self) -> Config:
        """The options that are this field's own."""
        return {**self.options, **({} if self.tile == "none" else {"tile": self.tile})}
