"""What a generator is: parameters, and a differentiable picture of them at any size.

A generator g with parameters psi renders x = g(psi) (Mean-Shift Distillation, section 2). The optimisation knows
nothing else about it than the members below, so a new representation is one new file.

Conventions: pictures are (1, C, H, W). ``space`` is "image" (RGB in [0, 1]) or "latent" (a model's scaled latent, H
and W in latent cells). Position is (x, y) in [0, 1]^2 from the top left corner, the whole picture at every aspect
ratio; rendering samples it at the pixel centres ((column + 1/2)/W, (row + 1/2)/H), so that every size shows the same
picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..validation import check_count

Space: TypeAlias = Literal["image", "latent"]
Config: TypeAlias = dict[str, Any]


class Generator(nn.Module, ABC):
    """A module that renders its parameters; ``make_generator(g.kind, **g.config())`` builds its untrained twin."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Its name in `GENERATORS`."""

    @property
    @abstractmethod
    def space(self) -> Space:
        """ "image" if `render` gives RGB in [0, 1], "latent" if it gives a model's latent."""

    @abstractmethod
    def config(self) -> Config:
        """Everything but the parameters, as JSON-able keyword arguments."""

    @abstractmethod
    def render(self, height: int, width: int) -> Tensor:
        """The picture (1, C, height, width), differentiable in the parameters."""


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres (x, y) in [0, 1]^2, row by row: (height * width, 2), with the type and device of ``like``.

    Raises:
        ValueError: for a size below 1.
    """
    check_count("height", height)
    check_count("width", width)
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
