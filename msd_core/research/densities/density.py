"""A named density of the plane: Gaussian mixtures by class, samples, and the extent of its pictures.

To add one: write its file with a function that returns a `Density`, and enter it in `DENSITIES` of this package. A
mixture of one's own needs no file: `Density("mine", {"all": GaussianMixture(...)})`, kept as JSON by `save_density`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...densities import GaussianMixture
from ...validation import check_choice, check_count

Extent = tuple[float, float, float, float]
FORMAT = "msd-density"


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

    def sample(self, n: int, *, generator: torch.Generator, cls: str | None = None) -> Tensor:
        """``n`` independent points of a class, or of all: (n, 2), float32."""
        return self.of(cls).sample(n, generator=generator).float()

    def labelled_sample(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` points of all classes, (n, 2), float32, and the index of each one's class, (n,)."""
        check_count("n", n)
        labels = torch.randint(len(self.classes), (n,), generator=generator)
        points = torch.empty(n, 2)
        for index, mixture in enumerate(self.classes.values()):
            rows = labels == index
            if bool(rows.any()):
                points[rows] = mixture.sample(int(rows.sum()), generator=generator).float()
        return points, labels


def save_density(density: Density, path: str | Path) -> None:
    """Write ``density`` as JSON: format, name, extent, and weights, means and covariances of each class."""
    classes = {
        name: {key: getattr(mixture, key).tolist() for key in ("weights", "means", "covariances")}
        for name, mixture in density.classes.items()
    }
    content = {"format": FORMAT, "name": density.name, "extent": list(density.extent), "classes": classes}
    Path(path).write_text(json.dumps(content) + "\n", encoding="utf-8")


def load_density(path: str | Path) -> Density:
    """The density that `save_density`, or a hand, wrote to ``path``; float64.

    Raises:
        ValueError: if the file is missing, is not such JSON, or holds no valid mixtures.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        classes = {name: _mixture(entry) for name, entry in content["classes"].items()}
        xmin, xmax, ymin, ymax = map(float, content["extent"])
        return Density(str(content["name"]), classes, (xmin, xmax, ymin, ymax))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"path: cannot read {str(path)!r} ({error}); allowed is JSON with format {FORMAT!r}, name, extent, and "
            "classes with weights, means and covariances, as save_density writes it. Correct the file."
        ) from error


def _mixture(entry: Mapping[str, Any]) -> GaussianMixture:
    return GaussianMixture(*(torch.tensor(entry[k], dtype=torch.float64) for k in ("weights", "means", "covariances")))
