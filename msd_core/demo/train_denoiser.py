"""Second stage of the demo model's training: text encoder and UNet, on latents of drawn scenes.

    w(t) |eps_theta(sqrt(ᾱ) x + sqrt(1 - ᾱ) n; t, c) - n|²,  w = min(SNR, gamma)/SNR,  SNR = ᾱ/(1 - ᾱ)

(Ho et al. 2020, Eq. 14; weights of Hang et al. 2023), t uniform, the caption c replaced by the empty one in a tenth of
the cases for classifier-free guidance (Ho & Salimans 2022). With ``dream`` below infinity, n is replaced by DREAM's
noise (:mod:`msd_core.research.dream`, imported only then); the model that ships is without.

The latents are encoded once and drawn from a pool; new scenes keep joining it while the training runs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from ..atomic import write_whole
from ..schedule import sd15_schedule
from ..training import TrainingStep, step_generator, training_steps, update_average
from .autoencoder import Autoencoder
from .model import LATENT_SCALE, DemoModel
from .scenes import caption, draw, random_scene
from .text import tokenize
from .train_autoencoder import run
from .train_settings import TrainSettings

BLOCK = 64
"""Scenes that are drawn and encoded together."""


@torch.no_grad()
def latent_data(autoencoder: Autoencoder, settings: TrainSettings, cache: Path) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, 4, h, w) and word numbers (N, L) that the second stage begins with; kept in ``cache``."""
    if cache.exists():
        saved = load_file(cache)
        return saved["latents"], saved["tokens"]
    blocks = tqdm(range(0, settings.scenes, BLOCK), desc="scenes", mininterval=2.0)
    made = (scene_latents(autoencoder, settings, first, BLOCK, settings.shares) for first in blocks)
    latents, tokens = zip(*made, strict=True)
    data = {"latents": torch.cat(latents), "tokens": torch.cat(tokens)}
    write_whole(cache, save(data))
    return data["latents"], data["tokens"]


@torch.no_grad()
def scene_latents(
    autoencoder: Autoencoder,
    settings: TrainSettings,
    first: int,
    count: int = 128,
    shares: Sequence[float] = TrainSettings.later_shares,
) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, 4, h, w) and word numbers (N, L) of the ``count`` scenes that start at number ``first``, with
    one, two and three things in ``shares``.
    """
    generator = step_generator(settings.seed + 2, first)
    scenes = [random_scene(generator, shares=shares) for _ in range(count)]
    spoken = (torch.rand(len(scenes), 2, generator=generator) < torch.tensor([0.5, 0.2])).tolist()
    tokens = tokenize([caption(s, say_medium=m, say_flat=f) for s, (m, f) in zip(scenes, spoken, strict=True)])
    pictures = draw(scenes, settings.side, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return autoencoder.encode(2 * pictures - 1).float().contiguous() * LATENT_SCALE, tokens


def trained_networks(model: DemoModel) -> nn.ModuleDict:
    """What the second stage trains, "text" and "unet"; the very networks of ``model``, not copies."""
    return nn.ModuleDict({"text": model.text, "unet": model.unet})


def denoiser_loss(
    networks: nn.ModuleDict,
    latents: Tensor,
    tokens: Tensor,
    t: Tensor,
    noise: Tensor,
    dream: float = math.inf,
    min_snr: float = math.inf,
) -> Tensor:
    """Objective of the second stage, the module's equation: mean () over rows.

    Args:
        networks: see `trained_networks`.
        latents, tokens: x (B, 4, h, w), scaled, and the captions' word numbers (B, L).
        t, noise: steps (B,), 0 .. 999, and n (B, 4, h, w), standard normal.
        dream: DREAM's exponent.
        min_snr: gamma; infinity weighs all levels alike.
    """
    alpha_bar = sd15_schedule().alphas_cumprod.float().to(t.device)[t][:, None, None, None]
    context = networks["text"](tokens)

    def predict(noise: Tensor) -> Tensor:
        noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        return networks["unet"](noisy, t, context).float()

    if dream != math.inf:
        from ..research.dream import rectified_noise

        noise = rectified_noise(noise, lambda: predict(noise), (1 - alpha_bar).sqrt().flatten(), dream)
    snr = alpha_bar / (1 - alpha_bar)
    return (snr.clamp(max=min_snr) / snr * (predict(noise) - noise).square()).mean()


class Pool(nn.Module):
    """Latents and word numbers to draw from, ``capacity`` at most, and how many have ever joined; all in its state."""

    latents: Tensor
    tokens: Tensor
    joined: Tensor

    def __init__(self, latents: Tensor, tokens: Tensor, capacity: int) -> None:
        super().__init__()
        self.register_buffer("latents", latents.new_zeros(capacity, *latents.shape[1:], dtype=torch.float16))
        self.register_buffer("tokens", tokens.new_zeros(capacity, tokens.shape[1]))
        self.register_buffer("joined", torch.tensor(0))
        self.join(latents, tokens)

    def join(self, latents: Tensor, tokens: Tensor) -> None:
        """Take in new rows, in the places of the oldest once the pool is full."""
        places = (int(self.joined) + torch.arange(len(latents))) % len(self.latents)
        self.latents[places], self.tokens[places] = latents.half(), tokens
        self.joined += len(latents)

    def __len__(self) -> int:
        return min(int(self.joined), len(self.latents))


def denoiser_steps(
    networks: nn.ModuleDict,
    average: nn.Module,
    data: tuple[Tensor, Tensor],
    settings: TrainSettings,
    checkpoint: Path,
    autoencoder: Autoencoder | None = None,
) -> Iterator[TrainingStep]:
    """Train ``networks`` on ``data``, latents and tokens, in place; ``average`` becomes the average of their weights.

    With an ``autoencoder`` new scenes join the data. A step's rows, levels, noises and dropped captions do not depend
    on ``settings.dream``.
    """
    grows = autoencoder is not None and settings.refresh > 0
    pool = Pool(*data, capacity=settings.pool if grows else len(data[0]))
    empty, levels = tokenize([""]), len(sd15_schedule().alphas_cumprod)

    def loss_at(step: int) -> Tensor:
        if autoencoder is not None and grows and (step + 1) % settings.refresh == 0:
            pool.join(*scene_latents(autoencoder, settings, int(pool.joined), BLOCK, settings.later_shares))
        generator = step_generator(settings.seed + 3, step)
        rows = torch.randint(len(pool), (settings.batch,), generator=generator)
        t = torch.randint(levels, (settings.batch,), generator=generator)
        latents, tokens = pool.latents[rows].float(), pool.tokens[rows]
        noise = torch.randn(latents.shape, generator=generator)
        dropped = torch.rand(settings.batch, 1, generator=generator) < settings.dropout
        spoken = torch.where(dropped, empty, tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return denoiser_loss(networks, latents, spoken, t, noise, settings.dream, settings.min_snr)

    return training_steps(
        networks,
        loss_at,
        checkpoint,
        steps=settings.steps,
        lr=settings.lr,
        decay_fraction=settings.decay_fraction,
        save_every=settings.save_every,
        after_step=lambda step: update_average(average, networks, step, settings.ema),
        extra=nn.ModuleDict({"average": average, "pool": pool}) if grows else average,
    )


def train_denoiser(model: DemoModel, settings: TrainSettings, folder: Path) -> None:
    """Second stage; ``model`` ends with the exponential moving average of the weights."""
    data = latent_data(model.autoencoder, settings, folder / "latents.safetensors")
    networks = trained_networks(model)
    average = copy.deepcopy(networks).requires_grad_(False)
    walk = denoiser_steps(networks, average, data, settings, folder / "denoiser.pt", model.autoencoder)
    run(walk, "denoiser", settings.steps)
    networks.load_state_dict(average.state_dict())
