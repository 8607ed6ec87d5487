"""A picture as a plain grid of RGB pixels: no prior at all, the reference for every other image generator."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Canvas, Config, Generator, View
from .grid import resample, start


class Pixels(Generator):
    """RGB pixels (1, 3, height, width), not clamped: values leave [0, 1] if the optimisation drives them there.

    Args:
        height, width: of the grid, in pixels.
        init: "flat", mid-grey 0.5; "noise", N(0.5, 0.1^2).
        seed: of the noise.

    Raises:
        ValueError: for a size out of range, or an unknown ``init``.
    """

    universal = windows = independent = True

    def __init__(self, height: int, width: int, *, init: str = "flat", seed: int = 0) -> None:
        super().__init__()
        noise, self.options = start(3, height, width, init, seed)
        self.values = nn.Parameter(noise.mul_(0.1).add_(0.5))

    @classmethod
    def for_size(cls, width: int, height: int, *, seed: int = 0, **_: object) -> Pixels:
        """Pixels of ``width`` x ``height``; "flat", so that the seed decides nothing."""
        return cls(height, width, seed=seed)

    @property
    def kind(self) -> str:
        """ "pixels"."""
        return "pixels"

    @property
    def canvas(self) -> Canvas:
        """Of its own size."""
        height, width = self.values.shape[-2:]
        return Canvas(width, height)

    def config(self) -> Config:
        """Size, init and seed."""
        return {key: value for key, value in self.options.items() if key != "channels"}

    def render(self, view: View) -> Tensor:
        """The pixels at the view's size, (1, 3, height, width) of its window."""
        return resample(self.values, view)
