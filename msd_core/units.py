"""A model's own units: what the numbers of a mean shift are multiples of, so that they carry from model to model.

Measure the latent in another unit, y -> c y. Then D(c z; c sigma) = c D(z; sigma), and a run whose lambda is c lambda
is the same run. So lambda is a multiple of the data's standard deviation s per coordinate; steps, updates, levels of a
walk and guidance have no unit.

How many coordinates d there are matters for what lambda merges, not for what it blurs. Of two pictures mu_1, mu_2, each
of variance v per coordinate, the density smoothed by lambda has one mode where (Behboodian 1970)

    lambda^2 >= |mu_1 - mu_2|^2 / 4 - v,   and |mu_1 - mu_2|^2 is of the size of 2 s^2 d:

the first lambda, which chooses the layout, is a multiple of s sqrt(d), a part of the length of a latent. (Noise hides
as much of a picture at two sizes if its levels have the ratio of the sides: the shift of levels by resolution of Esser
et al. 2024.) The last lambda, which decides what is blurred within a cell, is a multiple of s alone. Above its highest
level the model has been shown nothing, and the kernel bounds nothing: the first lambda ends there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .denoiser import data_std, sigma_range
from .model import Model, check_model
from .validation import check_count, check_number, check_positive

OCTAVE = 2.0
"""By what lambda falls at least: a picture of few coordinates would otherwise begin below where it ends."""


@dataclass(frozen=True)
class Units:
    """The units of a model at a size.

    Attributes:
        data_std: s, the standard deviation of the model's latents per coordinate, in units of x.
        coordinates: d, numbers that a latent has: channels times cells.
        sigma_max: the highest level that the model was made for; infinity if it has none.

    Raises:
        ValueError: for one that is not positive.
    """

    data_std: float
    coordinates: int
    sigma_max: float = math.inf

    def __post_init__(self) -> None:
        check_positive("data_std", self.data_std)
        check_count("coordinates", self.coordinates)
        check_number("sigma_max", self.sigma_max, "Infinity is no limit.", low=1e-6, infinite=True)

    def first(self, share: float, last: float) -> float:
        """The bandwidth that is ``share`` of the length of a latent, s sqrt(d): up to sigma_max, an octave above
        ``last``.
        """
        return min(max(share * self.data_std * math.sqrt(self.coordinates), OCTAVE * last), self.sigma_max)

    def last(self, share: float) -> float:
        """The bandwidth that is ``share`` of the data's standard deviation, s."""
        return share * self.data_std


def units_of(model: Model, width: int, height: int) -> Units:
    """The units of ``model`` for pictures of ``width`` x ``height`` pixels.

    Raises:
        ValueError: for no model, or a side that is no whole number of pixels.
    """
    check_model(model)
    for name, side in (("width", width), ("height", height)):
        check_count(name, side)
    denoiser = model.denoiser("", "", 1.0)
    cells = -(-width // model.cell) * -(-height // model.cell)
    return Units(data_std(denoiser), model.channels * cells, sigma_range(denoiser)[1])
