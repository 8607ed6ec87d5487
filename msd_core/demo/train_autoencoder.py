"""First stage of the demo model's training: the autoencoder.

Squared error, more of it at edges, plus a small KL term (Rombach et al. 2022, § 3.1); no adversarial or perceptual
loss. Five pictures of six are scenes. The sixth is something else, patches of random colours or a disturbed scene,
so that the encoder tells apart what no caption describes: a distillation through an encoder that only ever saw clean
scenes ends at any of the pictures that share a latent.

Most steps see crops of half the side, which costs a quarter; the last ones see whole pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..training import TrainingStep, step_generator, training_steps
from .autoencoder import Autoencoder
from .model import LATENT_SCALE
from .scenes import draw, random_scene
from .train_settings import TrainSettings


def run(walk: Iterator[TrainingStep], name: str, steps: int, report: Callable[[int], str] = lambda step: "") -> None:
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


@torch.no_grad()
def round_trip_psnr(autoencoder: Autoencoder, pictures: Tensor) -> float:
    """PSNR in dB, averaged over ``pictures`` (B, 3, H, W) in [0, 1], of encoding, decoding and clamping to [0, 1]."""
    parts = pictures.split(16)
    again = torch.cat([(autoencoder.decode(autoencoder.encode(2 * p - 1)) + 1).div(2).clamp(0, 1) for p in parts])
    return float(-10 * (again - pictures).square().mean(dim=(1, 2, 3)).log10().mean())


def patches(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Pictures (count, 3, side, side) in [0, 1] of 1, 4, 16 or 64 plain patches of independent random colours."""
    rows = []
    for _ in range(count):
        cells = 2 ** int(torch.randint(4, (), generator=generator))
        colours = torch.rand(1, 3, cells, cells, generator=generator)
        rows.append(F.interpolate(colours, (side, side), mode="nearest"))
    return torch.cat(rows)


def disturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] as they look on their way in a distillation: off-colour, blotchy and noisy.

    Each is blended, by a random share, with two smooth fields of random colours, and noise of random strength is added.
    """
    batch, channels, height, width = pictures.shape
    fields = torch.full_like(pictures, -0.2)
    for cells in (2, 8):
        coarse = torch.rand(batch, channels, cells, cells, generator=generator)
        fields += 0.7 * F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    share = torch.rand(batch, 1, 1, 1, generator=generator)
    strength = 0.15 * torch.rand(batch, 1, 1, 1, generator=generator) ** 2
    noise = strength * torch.randn(pictures.shape, generator=generator)
    return (torch.lerp(pictures, fields, share) + noise).clamp(0, 1)


def edge_weights(pictures: Tensor, extra: float) -> Tensor:
    """Weight 1 on even ground, up to 1 + ``extra`` within two pixels of an edge: (B, 1, H, W), for (B, 3, H, W)."""
    across = F.pad((pictures[..., :, 1:] - pictures[..., :, :-1]).abs().amax(dim=1, keepdim=True), (0, 1, 0, 0))
    down = F.pad((pictures[..., 1:, :] - pictures[..., :-1, :]).abs().amax(dim=1, keepdim=True), (0, 0, 0, 1))
    return 1 + extra * F.max_pool2d((5 * torch.maximum(across, down)).clamp(max=1.0), 5, stride=1, padding=2)


def crops(pictures: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """One square of ``side`` pixels out of each of ``pictures`` (B, 3, H, W).

    A place is drawn as if squares could leave the picture, and moved inside, so that many squares lie at an edge: what
    is there would hardly ever be seen whole otherwise.
    """

    def starts(length: int) -> list[int]:
        places = torch.randint(length + side + 1, (len(pictures),), generator=generator) - side
        return places.clamp(0, length - side).tolist()

    top, left = starts(pictures.shape[-2]), starts(pictures.shape[-1])
    return torch.stack([p[:, y : y + side, x : x + side] for p, y, x in zip(pictures, top, left, strict=True)])


def training_pictures(count: int, side: int, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """Pictures (count, 3, side, side) in [0, 1] of one step: scenes, and a sixth that is something else.

    Fewer than six pictures have one such among them, by chance patches or a disturbed scene.
    """
    scenes = crops(draw([random_scene(generator) for _ in range(count)], settings.side, generator), side, generator)
    other = max(1, count // 6)
    strange = torch.cat([patches(other, side, generator), disturb(scenes[-other:], generator)])
    return torch.cat([scenes[:-other], strange[torch.randperm(2 * other, generator=generator)[:other]]])


def autoencoder_loss(
    autoencoder: Autoencoder, pictures: Tensor, generator: torch.Generator, kl_weight: float, edge_weight: float
) -> Tensor:
    """The module's objective, () for ``pictures`` (B, 3, H, W) in [0, 1], mean over pixels and over latent values."""
    target = 2 * pictures - 1
    with torch.autocast(pictures.device.type, dtype=torch.bfloat16):
        mean, log_variance = (m.float() for m in autoencoder.moments(target))
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        latent = mean + (0.5 * log_variance).exp() * noise
        again = autoencoder.decode(latent).float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    weights = edge_weights(pictures, edge_weight)
    return (weights * (again - target).square()).mean() / weights.mean() + kl_weight * kl


def train_autoencoder(autoencoder: Autoencoder, settings: TrainSettings, folder: Path) -> None:
    """First stage, in place; its state is ``folder``/autoencoder.pt."""
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on a CPU
    held_out = step_generator(settings.seed + 1, 0)
    scenes = draw([random_scene(held_out) for _ in range(48)], settings.side, held_out)
    strange = patches(48, settings.side, held_out)

    def loss_at(step: int) -> Tensor:
        generator = step_generator(settings.seed, step)
        whole = step >= settings.autoencoder_steps
        count, side = (
            (settings.whole_batch, settings.side) if whole else (settings.autoencoder_batch, settings.side // 2)
        )
        pictures = training_pictures(count, side, settings, generator)
        return autoencoder_loss(autoencoder, pictures, generator, settings.kl_weight, settings.edge_weight)

    def report(step: int) -> str:
        return f"PSNR {round_trip_psnr(autoencoder, scenes):.2f}, {round_trip_psnr(autoencoder, strange):.2f} dB"

    steps = settings.autoencoder_steps + settings.whole_steps
    walk = training_steps(
        autoencoder,
        loss_at,
        folder / "autoencoder.pt",
        steps=steps,
        lr=settings.autoencoder_lr,
        decay_fraction=0.7,
        save_every=settings.save_every,
    )
    run(walk, "autoencoder", steps, report)


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
