"""Densities whose denoiser is known exactly: the ground truth of the tests. Named ones are in `research.densities`."""

from __future__ import annotations

from .conditioned import conditioned
from .ideal import IdealDenoiser
from .mixture import GaussianMixture

__all__ = ["GaussianMixture", "IdealDenoiser", "conditioned"]
