"""How good a set of points is against a known density, and how good an estimate of a gradient is against a known one.

`nll` and `modes_reached` compare points with the density itself, `precision_recall` and `mmd` with samples of it, and
`gradient_error` and `efficiency` (Mean-Shift Distillation, Eq. 17) compare draws of an estimator with the true vector.
Needs scipy, which the extra ``science`` brings; everything else is torch.
"""

from __future__ import annotations

from .gradient import GradientError, angle, efficiency, fit_scale, gradient_error
from .likelihood import nll
from .mmd import mmd
from .modes import distance_to_nearest, modes_reached
from .precision_recall import covered, precision_recall, radii
from .sliced import sliced_wasserstein

__all__ = [
    "GradientError",
    "angle",
    "covered",
    "distance_to_nearest",
    "efficiency",
    "fit_scale",
    "gradient_error",
    "mmd",
    "modes_reached",
    "nll",
    "precision_recall",
    "radii",
    "sliced_wasserstein",
]
