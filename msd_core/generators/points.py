"""Bare points: the parameters are x itself, many rows at once, as in the two-dimensional studies.

    g(psi) = psi, (B, D)

The Jacobian is the identity. With `OptimizerConfig` "gd" the update is x <- x - lr g, plain gradient descent, and with
a mean-shift method and lr = 1 the mean-shift iteration x <- x' (Mean-Shift Distillation, Eq. 6; Comaniciu & Meer 2002).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..validation import as_floating, check_choice
from .base import Canvas, Config, Generator

DTYPES = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64")}


class Points(Generator):
    """Points (B, D), of any floating type.

    They are drawn as they are, so that a file's may be of any size.

    Args:
        x: where they start, or the shape of such a tensor, a list of whole numbers > 0, as `config` gives it.
        dtype: name of its type, where ``x`` is a shape.

    Raises:
        ValueError: for an ``x`` that is not floating point, or not (B, *), or an unknown ``dtype``.
    """

    largest = math.inf

    def __init__(self, x: Tensor | list[int], dtype: str = "float32") -> None:
        super().__init__()
        check_choice("dtype", dtype, DTYPES)
        sides = [side for side in x if type(side) is int and side > 0] if isinstance(x, (list, tuple)) else []
        shape = bool(sides) and len(sides) == len(x)
        values = torch.zeros(sides, dtype=DTYPES[dtype]) if shape else as_floating("x", x).detach().clone()
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
        """Shape and type."""
        dtype = str(self.values.dtype).removeprefix("torch.")
        return {"x": list(self.values.shape), **({} if dtype == "float32" else {"dtype": dtype})}

    def render(self, view: Any) -> Tensor:  # noqa: ANN401 - unused
        """The points (B, D) themselves."""
        return self.values.clone()
