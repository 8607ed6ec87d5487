"""Bare points: the parameters are x itself, many rows at once, as in the two-dimensional studies.

    g(psi) = psi, (B, D)

The Jacobian is the identity. With `OptimizerConfig` "gd" the update is x <- x - lr g, plain gradient descent, and with a
mean-shift method and lr = 1 the mean-shift iteration x <- x' (Mean-Shift Distillation, Eq. 6; Comaniciu & Meer 2002).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..validation import check_floating
from .base import Canvas, Config, Generator


class Points(Generator):
    """Points (B, D), of any floating type.

    Args:
        x: where they start, or the shape [B, D] of such a tensor, as `config` gives it.

    Raises:
        ValueError: for an ``x`` that is not floating point, or not (B, *).
    """

    def __init__(self, x: Tensor | list[int]) -> None:
        super().__init__()
        values = x.detach().clone() if isinstance(x, Tensor) else torch.zeros(x)
        check_floating("x", values)
        self.values = nn.Parameter(values)

    @property
    def kind(self) -> str:
        """ "points"."""
        return "points"

    @property
    def canvas(self) -> Canvas:
        """None to speak of: points lie in no picture."""
        return Canvas(1, 1, 1, "points")

    @property
    def rows(self) -> int:
        """How many points there are."""
        return self.values.shape[0]

    def config(self) -> Config:
        """The shape."""
        return {"x": list(self.values.shape)}

    def render(self, view: Any) -> Tensor:  # noqa: ANN401 - unused
        """The points (B, D) themselves."""
        return self.values.clone()
