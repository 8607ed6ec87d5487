"""What one estimate or one gradient cost, and how large it was.

The norm of the mean-shift vector is the convergence measure: m(x) is zero exactly at the stationary points of the
smoothed density (Mean-Shift Distillation, Eqs. 4-6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .validation import as_floating


@dataclass(frozen=True)
class Info:
    """Figures about one gradient on x.

    Attributes:
        evaluations: rows sent through the network (batch rows x network rows per row of z, see `denoiser.cost`).
        norm: L2 norm of the vector per sample, averaged over the batch; in units of x.
        rms: ``norm / sqrt(dimensions)``; in units of x, comparable between picture sizes.
        sigma: the noise level at which the model was (first) asked, if there is one.
        bandwidth: the standard deviation lambda of the kernel, if there is one.
    """

    evaluations: int
    norm: float
    rms: float
    sigma: float | None = None
    bandwidth: float | None = None


def measure(vector: Tensor, evaluations: int, *, sigma: float | None = None, bandwidth: float | None = None) -> Info:
    """Make the `Info` of ``vector`` (B, *): its mean L2 norm per sample and that norm per root dimension."""
    vector = as_floating("vector", vector)
    rows = vector.detach().flatten(1) if vector.ndim > 1 else vector.detach()[:, None]
    norm = float(rows.norm(dim=1).mean())
    return Info(evaluations, norm, norm / math.sqrt(rows.shape[1]), sigma, bandwidth)
