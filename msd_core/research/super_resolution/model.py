"""A small conditional diffusion model for super-resolution by 4.

The network is SR3's in small (Saharia et al. 2021): it predicts the noise of a noisy high-resolution picture, directly
or through the velocity, and is given the bicubic enlargement of the low-resolution one as further channels.
Both are cut into 2 × 2 blocks of pixels first, so that the demo model's UNet runs at half the side, where two CPU cores
can train it.

Conventions: pictures are (B, 3, S, S) in [0, 1] outside, x = 2·picture - 1 inside; z = x + sigma n as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...demo.unet import UNet
from ...denoiser import Sigma, expand_sigma
from ...parametrization import EpsDenoiser
from ...sampling import ddim_sample
from ...schedule import DiscreteSchedule, sd15_schedule, sigma_schedule
from ...validation import check_choice
from .pictures import FACTOR, enlarge

BLOCK = 2
"""Pixels a side of the blocks that the network works on."""
PREDICTIONS = ("noise", "velocity")


class SuperResolver(nn.Module):
    """Noise predictor of (x (B, 3, S, S) = z/sqrt(1 + sigma^2), t (B,), condition (B, 3, S, S)).

    Args:
        width: channels of the UNet, a multiple of 32.
        prediction: what the UNet puts out: "noise", as SR3's does, or "velocity" v = a n - s y, from which the noise
            is n = s x + a v with a = 1/sqrt(1 + sigma^2), s = sigma a (Salimans & Ho 2022). An error of v is not
            magnified by sigma in the denoised picture; an error of n is.

    Raises:
        ValueError: for another prediction.
    """

    def __init__(self, width: int = 64, prediction: str = "noise") -> None:
        super().__init__()
        check_choice("prediction", prediction, PREDICTIONS)
        self.prediction, self.schedule = prediction, sd15_schedule()
        self.unet = UNet(
            {
                "in_channels": 2 * 3 * BLOCK**2,
                "out_channels": 3 * BLOCK**2,
                "model_channels": width,
                "channel_mult": [1, 1],
                "num_res_blocks": [1, 1],
                "num_heads": 1,
                "context_dim": None,
            }
        )

    @classmethod
    def random(cls, seed: int, width: int = 64, prediction: str = "noise") -> SuperResolver:
        """Freshly initialised; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(width, prediction)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(torch.cat([x, condition], dim=1), BLOCK)
        predicted = F.pixel_shuffle(self.unet(blocks, t), BLOCK)
        if self.prediction == "noise":
            return predicted
        sigma = expand_sigma(self.schedule.sigma(t), x)
        return (sigma * x + predicted) / (1 + sigma**2).sqrt()


@dataclass(frozen=True, eq=False)
class SuperResolutionDenoiser:
    """(z (B, 3, S, S), sigma) -> denoised, of ``model`` given ``low`` (B, 3, S/4, S/4) in [0, 1].

    The denoised picture is clamped to [-1, 1], as SR3's sampler does.

    Raises:
        ValueError: when called with a z that does not fit ``low``.
    """

    model: SuperResolver
    low: Tensor
    schedule: DiscreteSchedule

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        rows, channels, height, width = self.low.shape
        if z.shape != (rows, channels, FACTOR * height, FACTOR * width):
            raise ValueError(
                f"z: got shape {tuple(z.shape)}; allowed is {(rows, channels, FACTOR * height, FACTOR * width)}, "
                f"{FACTOR} times the low-resolution pictures of shape {tuple(self.low.shape)}. Give one row for each."
            )
        condition = 2 * enlarge(self.low) - 1
        denoiser = EpsDenoiser(lambda x, t: self.model(x, t, condition), self.schedule)
        return denoiser(z, sigma).clamp(-1, 1)


@torch.no_grad()
def super_resolve(model: SuperResolver, low: Tensor, *, steps: int, rng: torch.Generator) -> Tensor:
    """DDIM samples (B, 3, S, S) in [0, 1] given ``low`` (B, 3, S/4, S/4): ``steps`` levels, the first at sigma_max."""
    schedule = sd15_schedule()
    sigmas = sigma_schedule("sgm_uniform", steps, schedule=schedule)
    rows, channels, height, width = low.shape
    noise = torch.randn(rows, channels, FACTOR * height, FACTOR * width, generator=rng)
    x = ddim_sample(noise * (1 + sigmas[0] ** 2).sqrt(), SuperResolutionDenoiser(model, low, schedule), sigmas)
    return ((x + 1) / 2).clamp(0, 1)
