"""A named density of the plane: Gaussian mixtures by class, samples, and the extent of its pictures.

To add one: write its file with a function that returns a `Density`, and enter it in `DENSITIES` of this package. A
mixture of one's own needs no file: `Density("mine", {"all": GaussianMixture(...)})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...densities import GaussianMixture
from ...validation import check_choice

Extent = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Density:
    """A density with classes, each a Gaussian mixture of the plane, all of equal weight.

    Args:
        name: for files and titles.
        classes: class name to mixture; at least one.
        extent: (xmin, xmax, ymin, ymax) of pictures.

    Raises:
        ValueError: if there is no class, or a mixture is not two-dimensional.
    """

    name: str
    classes: Mapping[str, GaussianMixture]
    extent: Extent = (-1.5, 1.5, -1.5, 1.5)

    def __post_init__(self) -> None:
        dimensions = {mixture.means.shape[1] for mixture in self.classes.values()}
        if dimensions != {2}:
            raise ValueError(
                f"classes: got {len(self.classes)} with dimensions {sorted(dimensions)}; allowed is at least one "
                "mixture, all of dimension 2. Use GaussianMixture itself for other dimensions."
            )

    @property
    def mixture(self) -> GaussianMixture:
        """All classes together, each with the same weight."""
        return self.of(None)

    def of(self, cls: str | None) -> GaussianMixture:
        """The mixture of class ``cls``; of all classes together for None.

        Raises:
            ValueError: for a class that is not there.
        """
        if cls is not None:
            check_choice("cls", cls, self.classes)
            return self.classes[cls]
        mixtures = list(self.classes.values())
        if len(mixtures) == 1:
            return mixtures[0]
        weights = torch.cat([mixture.weights.double() / len(mixtures) for mixture in mixtures])
        means = torch.cat([mixture.means.double() for mixture in mixtures])
        return GaussianMixture(weights, means, torch.cat([mixture.covariances.double() for mixture in mixtures]))

    def sample(self, n: int, *, rng: torch.Generator, cls: str | None = None) -> Tensor:
        """``n`` independent points of a class, or of all: (n, 2), float32."""
        return self.of(cls).sample(n, rng=rng).float()
