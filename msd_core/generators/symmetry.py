"""A field with a symmetry: what it says of a position it says of all that the symmetry takes it to.

    mirror         f(fold p),   fold p = (min(x, 1 - x), y), and likewise for y
    kaleidoscope   f(fold q),   q about the centre, its angle folded into half of one of n sectors: n mirrors
    rotate         mean over k of f(R^k q),   R a turn by 1/n: no mirror, and no crease between the sectors

Turns are those of the picture as it is seen, whatever its proportions: q is measured in its longer side. Exact to the
rounding of the positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..validation import check_choice, check_count
from .base import Config
from .field import Field

SYMMETRIES = ("none", "mirror-x", "mirror-y", "mirror-xy", "kaleidoscope", "rotate")
MOST_FOLDS = 64
REACH = 1 / math.sqrt(2)
"""Of a field's square that is used around the centre, so that every turn of a corner stays in it."""


class Symmetric(Field):
    """``field`` with a symmetry.

    Args:
        field: any other.
        symmetry: of `SYMMETRIES`, but "none".
        fold: n, of "kaleidoscope" and "rotate".
        sides: width and height of the picture, in longer sides.

    Raises:
        ValueError: for an unknown symmetry, a fold out of range, or a field that repeats and is to be turned.
    """

    def __init__(self, field: Field, symmetry: str, fold: int, sides: tuple[float, float]) -> None:
        super().__init__()
        check_choice("symmetry", symmetry, SYMMETRIES[1:])
        check_count("fold", fold, minimum=2, maximum=MOST_FOLDS)
        if field.tile != "none" and symmetry in ("kaleidoscope", "rotate"):
            raise ValueError(
                f"symmetry: got {symmetry!r} with tile {field.tile!r}; allowed are the mirrors there, since a turned "
                "tile does not repeat. Set tile to 'none', or mirror."
            )
        self.inner, self.symmetry, self.fold, self.sides, self.tile = field, symmetry, fold, sides, field.tile

    @property
    def copies(self) -> int:
        """Positions that the field is asked for one."""
        return self.fold if self.symmetry == "rotate" else 1

    def encode(self, position: Tensor) -> tuple[Tensor, ...]:
        """The field's own, of the folded positions; all turns of one along the second dimension."""
        if self.symmetry.startswith("mirror"):
            columns = [
                torch.minimum(part, 1 - part) if axis in self.symmetry.partition("-")[2] else part
                for axis, part in zip("xy", position.unbind(-1), strict=True)
            ]
            return self.inner.encode(torch.stack(columns, dim=-1))
        around = (position - 0.5) * position.new_tensor(self.sides)
        turned = self._folded(around)[None] if self.symmetry == "kaleidoscope" else self._turned(around)
        encoded = self.inner.encode((0.5 + REACH * turned).flatten(0, 1))
        return tuple(part.unflatten(0, (self.copies, -1)).transpose(0, 1) for part in encoded)

    def _folded(self, around: Tensor) -> Tensor:
        """(N, 2) with the angle, from the upper half of the vertical axis, folded into [0, pi/n]."""
        sector = 2 * math.pi / self.fold
        angle = torch.atan2(around[:, 0], -around[:, 1]) % sector
        angle, radius = torch.minimum(angle, sector - angle), around.norm(dim=-1)
        return torch.stack([radius * angle.sin(), -radius * angle.cos()], dim=-1)

    def _turned(self, around: Tensor) -> Tensor:
        """All turns, (n, N, 2)."""
        angle = 2 * math.pi / self.fold * torch.arange(self.fold, dtype=around.dtype, device=around.device)
        cos, sin = angle.cos(), angle.sin()
        turns = torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=1)
        return torch.einsum("kij,nj->kni", turns, around)

    def read(self, *encoded: Tensor) -> Tensor:
        """(N, 3): the field's own; of turns the mean."""
        if self.symmetry.startswith("mirror"):
            return self.inner.read(*encoded)
        rows = len(encoded[0])
        return self.inner.read(*(part.flatten(0, 1) for part in encoded)).unflatten(0, (rows, -1)).mean(dim=1)

    def config(self) -> Config:
        """The field's own options, and the symmetry."""
        turned = {} if self.symmetry.startswith("mirror") else {"fold": self.fold}
        return {**self.inner.config(), "symmetry": self.symmetry, **turned}
