"""The learned denoiser of the two-dimensional studies (Karras et al. 2024): network, training, guidance."""

from __future__ import annotations

from .guided import smaller, unconditional
from .network import ToyDenoiser, ToyNetwork
from .settings import ToySettings
from .train import Training, train_steps

__all__ = [
    "ToyDenoiser",
    "ToyNetwork",
    "ToySettings",
    "Training",
    "smaller",
    "train_steps",
    "unconditional",
]
