"""Train the demo model from scratch: the autoencoder, then the text encoder and the denoiser.

Everything is drawn by :mod:`.scenes`, nothing is downloaded. A step's pictures, noise and captions depend only on the
seed and the step's number, so that a training stopped at any time goes on from its folder as if it had not been
stopped.

    msd train-demo --out FOLDER
"""

from __future__ import annotations

from pathlib import Path

from ..training import step_generator
from .model import DEMO_MODEL_PATH, DemoModel
from .recorded import record_settings
from .scenes import draw, random_scene
from .train_autoencoder import normalise_latents, round_trip_psnr, train_autoencoder
from .train_denoiser import denoiser_loss, denoiser_steps, scene_latents, train_denoiser, trained_networks
from .train_settings import TrainSettings

__all__ = [
    "TrainSettings",
    "denoiser_loss",
    "denoiser_steps",
    "normalise_latents",
    "round_trip_psnr",
    "scene_latents",
    "train",
    "train_autoencoder",
    "train_denoiser",
    "trained_networks",
]


def train(settings: TrainSettings, folder: Path) -> Path:
    """Run both stages in ``folder``, resuming what is there; returns the finished model's file.

    Raises:
        ValueError: the folder holds a training of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record_settings(settings, folder)
    model = DemoModel.random(settings.seed)
    train_autoencoder(model.autoencoder, settings, folder)
    generator = step_generator(settings.seed + 4, 0)
    normalise_latents(model.autoencoder, draw([random_scene(generator) for _ in range(512)], settings.side, generator))
    train_denoiser(model, settings, folder)
    path = folder / DEMO_MODEL_PATH.name
    model.save(path)
    return path
