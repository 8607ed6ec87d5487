"""Train the demo model from scratch: autoencoder, denoiser with its text encoder, and the autoencoder once more.

Everything is drawn by :mod:`.scenes`, nothing is downloaded. A step's pictures, noise and captions depend only on the
seed and the step's number, so that a training stopped at any time goes on from its folder as if it had not been
stopped.

Objective of the second stage: |eps_theta(sqrt(ᾱ) x + sqrt(1 - ᾱ) n; t, c) - n|² (Ho et al. 2020, Eq. 14), t uniform,
the caption c replaced by the empty one in a tenth of the cases for classifier-free guidance (Ho & Salimans 2022). With
``dream`` below infinity, n is replaced by DREAM's noise (:mod:`msd_core.research.dream`, imported only then); the model
that ships is without.

    msd train-demo --out FOLDER
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
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
from .recorded import record_settings
from .scenes import caption, draw, random_scene
from .text import tokenize


@dataclass(frozen=True)
class TrainSettings:
    """What a training run is made of; the defaults are those of the model that ships."""

    seed: int = 0
    side: int = 64
    autoencoder_steps: int = 4_000
    autoencoder_batch: int = 16
    autoencoder_lr: float = 2e-3
    kl_weight: float = 1e-4
    sharpen_steps: int = 3_000
    sharpen_lr: float = 1e-3
    sharpen_kl_weight: float = 2e-5
    sharpen_weight: float = 5.0
    scenes: int = 32_768
    steps: int = 2_600
    batch: int = 128
    lr: float = 1e-3
    decay_fraction: float = 0.3
    dropout: float = 0.1
    ema: float = 0.999
    dream: float = math.inf
    faithful_steps: int = 1_600
    faithful_lr: float = 7e-4
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.dream != math.inf:
            from ..research.dream import check_dream

            check_dream(self.dream)


def _run(walk: Iterator[TrainingStep], name: str, steps: int, report: Callable[[int], str] = lambda step: "") -> None:
    """Walk a training to its end behind a progress bar; ``report`` says more after each step that was saved."""
    smooth, note = None, ""
    with tqdm(total=steps, desc=name, mininterval=2.0) as bar:
        for step in walk:
            if bar.n == 0:
                bar.initial = bar.n = step.done - 1  # resumed
            smooth = step.loss if smooth is None else 0.98 * smooth + 0.02 * step.loss
            note = report(step.done) if step.saved else note
            bar.set_postfix_str(f"loss {smooth:.4f} {note}", refresh=False)
            bar.update()


def round_trip_psnr(autoencoder: Autoencoder, pictures: Tensor) -> float:
    """PSNR in dB, averaged over ``pictures`` (B, 3, H, W) in [0, 1], of encoding, decoding and clamping to [0, 1]."""
    with torch.no_grad():
        again = (autoencoder.decode(autoencoder.encode(2 * pictures - 1)) + 1).div(2).clamp(0, 1)
    return float(-10 * (again - pictures).square().mean(dim=(1, 2, 3)).log10().mean())


def _weights(pictures: Tensor, extra: float) -> Tensor:
    """Weight 1 on the ground and 1 + ``extra`` on the things and the two pixels around them: (B, 1, H, W)."""
    ground = pictures[:, :, :1, :1]
    things = ((pictures - ground).abs().amax(dim=1, keepdim=True) > 0.02).float()
    return 1 + extra * nn.functional.max_pool2d(things, 5, stride=1, padding=2)


def train_autoencoder(autoencoder: Autoencoder, settings: TrainSettings, folder: Path) -> None:
    """First stage: squared error plus a small KL term (Rombach et al. 2022, § 3.1), no adversarial or perceptual loss.

    It has two parts: all pixels alike, then (``sharpen_*``) with most weight on the things, whose outlines are few
    pixels and decide what shape one sees.
    """
    held_out_generator = step_generator(settings.seed + 1, 0)
    held_out = draw([random_scene(held_out_generator) for _ in range(64)], settings.side, held_out_generator)

    def loss_at(step: int, seed: int, kl_weight: float, extra: float) -> Tensor:
        generator = step_generator(seed, step)
        scenes = [random_scene(generator) for _ in range(settings.autoencoder_batch)]
        pictures = 2 * draw(scenes, settings.side, generator) - 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mean, log_variance = (m.float() for m in autoencoder.moments(pictures))
            latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
            again = autoencoder.decode(latent).float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
        weights = _weights(pictures, extra)
        return (weights * (again - pictures).square()).mean() / weights.mean() + kl_weight * kl

    s = settings
    parts = (
        ("autoencoder", s.autoencoder_steps, s.autoencoder_lr, s.seed, s.kl_weight, 0.0),
        ("sharpen", s.sharpen_steps, s.sharpen_lr, s.seed + 5, s.sharpen_kl_weight, s.sharpen_weight),
    )
    for name, steps, lr, seed, kl_weight, extra in parts:
        walk = training_steps(
            autoencoder,
            partial(loss_at, seed=seed, kl_weight=kl_weight, extra=extra),
            folder / f"{name}.pt",
            steps=steps,
            lr=lr,
            decay_fraction=0.5,
            save_every=s.save_every,
        )
        _run(walk, name, steps, lambda step: f"PSNR {round_trip_psnr(autoencoder, held_out):.2f} dB")


@torch.no_grad()
def normalise_latents(autoencoder: Autoencoder, pictures: Tensor) -> None:
    """Give every latent channel mean 0 and standard deviation 1/LATENT_SCALE, by folding an affine map into the 1×1
    convolutions.

    The scaled latents then have unit variance under Stable Diffusion's own factor, which readers of its checkpoints
    assume.
    """
    latents = torch.cat([autoencoder.encode(2 * p - 1) for p in pictures.split(64)])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)) * LATENT_SCALE
    quant, post = autoencoder.quant_conv, autoencoder.post_quant_conv
    channels = len(mean)
    assert quant.bias is not None and post.bias is not None  # noqa: S101 - for the type checker
    quant.bias[:channels].sub_(mean).div_(std)
    quant.weight[:channels].div_(std[:, None, None, None])
    quant.bias[channels:].sub_(2 * std.log())
    post.bias.add_((post.weight[:, :, 0, 0] * mean).sum(dim=1))
    post.weight.mul_(std[None, :, None, None])


@torch.no_grad()
def latent_data(autoencoder: Autoencoder, settings: TrainSettings, cache: Path) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, 4, h, w) and word numbers (N, L) of the scenes of the second stage; kept in ``cache``."""
    if cache.exists():
        saved = load_file(cache)
        return saved["latents"], saved["tokens"]
    blocks = tqdm(range(0, settings.scenes, 128), desc="scenes", mininterval=2.0)
    latents, tokens = zip(*(scene_latents(autoencoder, settings, first) for first in blocks), strict=True)
    data = {"latents": torch.cat(latents), "tokens": torch.cat(tokens)}
    write_whole(cache, save(data))
    return data["latents"], data["tokens"]


@torch.no_grad()
def scene_latents(
    autoencoder: Autoencoder, settings: TrainSettings, first: int, count: int = 128
) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, 4, h, w) and word numbers (N, L) of the ``count`` scenes that start at number ``first``."""
    generator = step_generator(settings.seed + 2, first)
    scenes = [random_scene(generator) for _ in range(count)]
    spoken = torch.rand(len(scenes), generator=generator) < 0.5
    tokens = tokenize([caption(s, say_medium=bool(m)) for s, m in zip(scenes, spoken, strict=True)])
    pictures = draw(scenes, settings.side, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return autoencoder.encode(2 * pictures - 1).float() * LATENT_SCALE, tokens


def trained_networks(model: DemoModel) -> nn.ModuleDict:
    """What the second stage trains, "text" and "unet"; the very networks of ``model``, not copies."""
    return nn.ModuleDict({"text": model.text, "unet": model.unet})


def denoiser_loss(
    networks: nn.ModuleDict, latents: Tensor, tokens: Tensor, t: Tensor, noise: Tensor, dream: float = math.inf
) -> Tensor:
    """Objective of the second stage, the module's equation: mean () over rows.

    Args:
        networks: see `trained_networks`.
        latents, tokens: x (B, 4, h, w), scaled, and the captions' word numbers (B, L).
        t, noise: steps (B,), 0 .. 999, and n (B, 4, h, w), standard normal.
        dream: DREAM's exponent.
    """
    alpha_bar = sd15_schedule().alphas_cumprod.float()[t][:, None, None, None]
    context = networks["text"](tokens)

    def predict(noise: Tensor) -> Tensor:
        noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        return networks["unet"](noisy, t, context)

    if dream != math.inf:
        from ..research.dream import rectified_noise

        noise = rectified_noise(noise, lambda: predict(noise), (1 - alpha_bar).sqrt().flatten(), dream)
    return (predict(noise) - noise).square().mean()


def denoiser_steps(
    networks: nn.ModuleDict, average: nn.Module, data: tuple[Tensor, Tensor], settings: TrainSettings, checkpoint: Path
) -> Iterator[TrainingStep]:
    """Train ``networks`` on ``data``, latents and tokens, in place; ``average`` becomes the average of their weights.

    A step's rows, levels, noises and dropped captions do not depend on ``settings.dream``.
    """
    latents, tokens = data
    empty, levels = tokenize([""]), len(sd15_schedule().alphas_cumprod)

    def loss_at(step: int) -> Tensor:
        generator = step_generator(settings.seed + 3, step)
        rows = torch.randint(len(latents), (settings.batch,), generator=generator)
        t = torch.randint(levels, (settings.batch,), generator=generator)
        noise = torch.randn((settings.batch, *latents.shape[1:]), generator=generator)
        dropped = torch.rand(settings.batch, 1, generator=generator) < settings.dropout
        spoken = torch.where(dropped, empty, tokens[rows])
        return denoiser_loss(networks, latents[rows], spoken, t, noise, settings.dream)

    return training_steps(
        networks,
        loss_at,
        checkpoint,
        steps=settings.steps,
        lr=settings.lr,
        decay_fraction=settings.decay_fraction,
        save_every=settings.save_every,
        after_step=lambda step: update_average(average, networks, step, settings.ema),
        extra=average,
    )


def train_denoiser(model: DemoModel, settings: TrainSettings, folder: Path) -> None:
    """Second stage; ``model`` ends with the exponential moving average of the weights."""
    data = latent_data(model.autoencoder, settings, folder / "latents.safetensors")
    networks = trained_networks(model)
    average = copy.deepcopy(networks).requires_grad_(False)
    _run(denoiser_steps(networks, average, data, settings, folder / "denoiser.pt"), "denoiser", settings.steps)
    networks.load_state_dict(average.state_dict())


def disturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] as they look on their way in a distillation: off-colour, blotchy and noisy.

    Each is blended, by a random share, with two smooth fields of random colours, and noise of random strength is added.
    """
    batch, channels, height, width = pictures.shape
    fields = torch.zeros_like(pictures)
    for cells in (2, 8):
        coarse = 2 * torch.rand(batch, channels, cells, cells, generator=generator) - 1
        fields += 0.7 * nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    share = torch.rand(batch, 1, 1, 1, generator=generator)
    strength = 0.3 * torch.rand(batch, 1, 1, 1, generator=generator) ** 2
    noise = strength * torch.randn(pictures.shape, generator=generator)
    return (torch.lerp(pictures, fields, share) + noise).clamp(-1, 1)


def train_faithful(autoencoder: Autoencoder, settings: TrainSettings, folder: Path) -> None:
    """Third stage: the autoencoder learns pictures that are not scenes, without moving the latents of those that are.

    An encoder that only ever saw clean scenes maps very different pictures to one latent, and a distillation through it
    ends at any of them. The decoder keeps reading the latents that the denoiser was trained on.
    """
    before = copy.deepcopy(autoencoder).requires_grad_(False)

    def loss_at(step: int) -> Tensor:
        generator = step_generator(settings.seed + 6, step)
        scenes = [random_scene(generator) for _ in range(settings.autoencoder_batch)]
        clean, other = (2 * draw(scenes, settings.side, generator) - 1).chunk(2)
        other = disturb(other, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            kept = before.encode(clean).float()
            now, code = (z.float() for z in autoencoder.encode(torch.cat([clean, other])).chunk(2))
            read = kept + 0.05 / LATENT_SCALE * torch.randn(kept.shape, generator=generator)
            again, again_other = autoencoder.decode(torch.cat([read, code])).float().chunk(2)
        weights = _weights(clean, settings.sharpen_weight)
        same_picture = (weights * (again - clean).square()).mean() / weights.mean()
        same_latent = ((now - kept) * LATENT_SCALE).square().mean()
        return same_picture + same_latent + 0.5 * (again_other - other).square().mean()

    held_out_generator = step_generator(settings.seed + 1, 0)
    held_out = draw([random_scene(held_out_generator) for _ in range(64)], settings.side, held_out_generator)
    disturbed = (disturb(2 * held_out - 1, held_out_generator) + 1) / 2

    def report(step: int) -> str:
        return f"PSNR {round_trip_psnr(autoencoder, held_out):.2f}, {round_trip_psnr(autoencoder, disturbed):.2f} dB"

    walk = training_steps(
        autoencoder,
        loss_at,
        folder / "faithful.pt",
        steps=settings.faithful_steps,
        lr=settings.faithful_lr,
        decay_fraction=0.5,
        save_every=settings.save_every,
    )
    _run(walk, "faithful", settings.faithful_steps, report)


def train(settings: TrainSettings, folder: Path) -> Path:
    """Run all stages in ``folder``, resuming what is there; returns the finished model's file.

    Raises:
        ValueError: the folder holds a training of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record_settings(settings, folder)
    model = DemoModel.random(settings.seed)
    train_autoencoder(model.autoencoder, settings, folder)
    generator = step_generator(settings.seed + 4, 0)
    normalise_latents(model.autoencoder, draw([random_scene(generator) for _ in range(1024)], settings.side, generator))
    train_denoiser(model, settings, folder)
    train_faithful(model.autoencoder, settings, folder)
    path = folder / "demo_model.safetensors"
    model.save(path)
    return path
