"""A picture as a model's own latent: no encoder in the loop, hence the fastest, and as free as pixels."""

from __future__ import annotations

from torch import Tensor, nn

from ..validation import check_count
from .base import SIDE, Canvas, Config, Generator, View
from .grid import resample, start


class Latent(Generator):
    """A model's latent (1, channels, height, width), in the units in which the model's denoiser works.

    Args:
        channels: 4 for Stable Diffusion 1.5 and SDXL, 16 for Stable Diffusion 3 and Flux.
        height, width: of the grid, in latent cells.
        init: "noise", N(0, 1), the spread of a picture's latent; "flat", zeros.
        seed: of the noise.
        cell: pixels a side of a cell.

    Raises:
        ValueError: for a size or a cell out of range, or an unknown ``init``.
    """

    universal = windows = independent = True

    def __init__(
        self, channels: int, height: int, width: int, *, init: str = "noise", seed: int = 0, cell: int = 8
    ) -> None:
        super().__init__()
        noise, self.options = start(channels, height, width, init, seed)
        check_count("cell", cell, maximum=SIDE)
        self.cell = cell
        self.values = nn.Parameter(noise)

    @classmethod
    def for_size(
        cls, width: int, height: int, *, seed: int = 0, channels: int = 4, cell: int = 8, **_: object
    ) -> Latent:
        """A latent for pictures of ``width`` x ``height`` pixels.

        Raises:
            ValueError: for a side that is no multiple of the cell.
        """
        view = Canvas(width, height, cell, "latent").view
        return cls(channels, view.height, view.width, seed=seed, cell=cell)

    @property
    def kind(self) -> str:
        """ "latent"."""
        return "latent"

    @property
    def canvas(self) -> Canvas:
        """Of its own size."""
        height, width = self.values.shape[-2:]
        return Canvas(width * self.cell, height * self.cell, self.cell, "latent")

    def config(self) -> Config:
        """Channels, size, init and seed; the cell where it is not 8."""
        return {**self.options, **({} if self.cell == 8 else {"cell": self.cell})}

    def render(self, view: View) -> Tensor:
        """The latent at the view's size, (1, channels, height, width) of its window, in latent cells."""
        return resample(self.values, view)
