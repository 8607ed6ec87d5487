"""Train the model of the solid world: a text encoder and a UNet, on latents of the demo model's autoencoder.

As the second stage of `msd_core.demo.train`, on any device. Pictures, captions and noise depend on the seed and a
step's number alone; on the CPU a training that was stopped goes on from its folder as if it had not been. On CUDA the
two networks are captured as graphs: launching their kernels one by one takes ten times as long as running them.

    python -m msd_core.demo.solids.train FOLDER [--device cuda]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from ...atomic import write_whole
from ...schedule import sd15_schedule
from ...training import TrainingStep, step_generator, training_steps, update_average
from ..autoencoder import Autoencoder
from ..model import LATENT_SCALE, load_demo_model
from ..scenes import SIDE
from ..train_autoencoder import normalise_latents, run
from ..train_denoiser import denoiser_loss, trained_networks
from .model import SOLID_MODEL_PATH, SolidModel, tokenize
from .world import draw, random_camera, random_scene, random_view

BLOCK = 128
"""Scenes that are drawn and encoded together."""


@dataclass(frozen=True)
class SolidSettings:
    """Settings of a training; the defaults are those of the project's own file.

    Args:
        seed: all that is random follows from it.
        device: that it runs on.
        scenes: pictures that are drawn, once.
        steps, batch, lr, decay_fraction: the rate falls to zero over the last share of the steps.
        dropout: share of captions replaced by the empty one.
        min_snr: levels count min(SNR, min_snr)/SNR.
        ema: rate of the average of the weights that becomes the model.
        save_every: steps between two saves.
    """

    seed: int = 0
    device: str = "cpu"
    scenes: int = 17_792
    steps: int = 11_750
    batch: int = 128
    lr: float = 1e-3
    decay_fraction: float = 0.3
    dropout: float = 0.1
    min_snr: float = 5.0
    ema: float = 0.999
    save_every: int = 500


def pictures_of(seed: int, block: int, count: int, device: str) -> tuple[Tensor, list[str]]:
    """Pictures (count, 3, SIDE, SIDE) of block number ``block``, and their captions."""
    generator = step_generator(seed, block)
    scenes = [random_scene(generator) for _ in range(count)]
    cameras = [random_camera(SIDE, generator) for _ in range(count)]
    captions = [s.caption(random_view(c, generator)) for s, c in zip(scenes, cameras, strict=True)]
    return draw(scenes, cameras, device), captions


@torch.no_grad()
def latent_data(autoencoder: Autoencoder, settings: SolidSettings, cache: Path) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, 4, h, w), half precision, and word numbers (N, L); kept in ``cache``."""
    if cache.exists():
        saved = load_file(cache)
        return saved["latents"], saved["tokens"]
    latents, tokens = [], []
    for block in tqdm(range(-(-settings.scenes // BLOCK)), desc="scenes", mininterval=2.0):
        pictures, captions = pictures_of(settings.seed + 3, block, BLOCK, settings.device)
        latents.append((autoencoder.encode(2 * pictures - 1) * LATENT_SCALE).half().cpu())
        tokens.append(tokenize(captions))
    data = {"latents": torch.cat(latents), "tokens": torch.cat(tokens)}
    write_whole(cache, save(data))
    return data["latents"], data["tokens"]


def denoiser_steps(model: SolidModel, settings: SolidSettings, folder: Path) -> Iterator[TrainingStep]:
    """Train the networks of ``model``, in place; at the end they are the averages of theirs."""
    latents, tokens = (t.to(settings.device) for t in latent_data(model.autoencoder, settings, folder / "latents.st"))
    networks = trained_networks(model)
    average = copy.deepcopy(networks).requires_grad_(False)
    if settings.device.startswith("cuda"):
        _capture(networks, settings)
    levels = len(sd15_schedule().alphas_cumprod)
    empty = tokenize([""]).to(settings.device)

    def loss_at(step: int) -> Tensor:
        generator = step_generator(settings.seed + 4, step)
        rows = torch.randint(len(latents), (settings.batch,), generator=generator).to(settings.device)
        t = torch.randint(levels, (settings.batch,), generator=generator)
        noise = torch.randn(settings.batch, *latents.shape[1:], generator=generator).to(settings.device)
        dropped = torch.rand(settings.batch, 1, generator=generator) < settings.dropout
        spoken = torch.where(dropped.to(settings.device), empty, tokens[rows])
        with _half(settings):
            t = t.to(settings.device)
            return denoiser_loss(networks, latents[rows].float(), spoken, t, noise, min_snr=settings.min_snr)

    yield from training_steps(
        networks,
        loss_at,
        folder / "denoiser.pt",
        steps=settings.steps,
        lr=settings.lr,
        decay_fraction=settings.decay_fraction,
        save_every=settings.save_every,
        after_step=lambda step: update_average(average, networks, step, settings.ema),
        extra=average,
    )
    networks.load_state_dict(average.state_dict())


def _half(settings: SolidSettings) -> torch.autocast:
    return torch.autocast(settings.device.partition(":")[0], dtype=torch.bfloat16, cache_enabled=False)


def _capture(networks: torch.nn.ModuleDict, settings: SolidSettings) -> None:
    """Make CUDA graphs of the networks in training, in place, for batches of the settings' size."""
    tokens = tokenize([""] * settings.batch).to(settings.device)
    x = torch.zeros(settings.batch, 4, SIDE // 8, SIDE // 8, device=settings.device)
    t = torch.zeros(settings.batch, dtype=torch.long, device=settings.device)
    with _half(settings):
        context = networks["text"](tokens).detach().requires_grad_()
        for name, inputs in (("text", (tokens,)), ("unet", (x, t, context))):
            torch.cuda.make_graphed_callables(networks[name], inputs, allow_unused_input=True)


def train(settings: SolidSettings, folder: Path) -> Path:
    """Train in ``folder``, resuming what is there; returns the finished model's file."""
    folder.mkdir(parents=True, exist_ok=True)
    model = SolidModel.random(settings.seed)
    assert isinstance(model, SolidModel)  # noqa: S101 - a class method
    model.autoencoder.load_state_dict(load_demo_model().autoencoder.state_dict())
    model.to(settings.device)
    pictures = torch.cat([pictures_of(settings.seed + 5, block, BLOCK, settings.device)[0] for block in range(4)])
    normalise_latents(model.autoencoder, pictures)
    model.autoencoder.requires_grad_(False)
    run(denoiser_steps(model, settings, folder), "denoiser", settings.steps)
    path = folder / SOLID_MODEL_PATH.name
    model.cpu().eval().save(path)
    return path


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description="Train the model of the solid world.")
    parser.add_argument("folder", type=Path, help="of the training's state and of the finished model")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--steps", type=int, default=SolidSettings.steps, help="of the denoiser")
    parser.add_argument("--scenes", type=int, default=SolidSettings.scenes, help="that it sees")
    arguments = parser.parse_args()
    began = time.monotonic()
    settings = SolidSettings(device=arguments.device, steps=arguments.steps, scenes=arguments.scenes)
    print(f"trained: {train(settings, arguments.folder)}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
