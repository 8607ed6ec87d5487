"""A picture as a model's own latent: no encoder in the loop, hence the fastest, and as free as pixels."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Config, Generator, Space
from .grid import resample, start


class Latent(Generator):
    """A model's latent (1, channels, height, width), in the units in which the model's denoiser works.

    Args:
        channels: 4 for Stable Diffusion 1.5 and SDXL, 16 for Stable Diffusion 3 and Flux.
        height, width: of the grid, in latent cells.
        init: "noise", N(0, 1), the spread of a picture's latent; "flat", zeros.
        seed: of the noise.

    Raises:
        ValueError: for a size below 1 or an unknown ``init``.
    """

    def __init__(self, channels: int, height: int, width: int, *, init: str = "noise", seed: int = 0) -> None:
        super().__init__()
        noise, self.options = start(channels, height, width, init, seed)
        self.values = nn.Parameter(noise)

    @property
    def kind(self) -> str:
        """ "latent"."""
        return "latent"

    @property
    def space(self) -> Space:
        """ "latent"."""
        return "latent"

    def config(self) -> Config:
        """Channels, size, init and seed."""
        return dict(self.options)

    def render(self, height: int, width: int) -> Tensor:
        """The latent at the size asked for, (1, channels, height, width), in latent cells."""
        return resample(self.values, height, width)
