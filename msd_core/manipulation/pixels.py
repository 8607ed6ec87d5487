"""The density of pictures that agree with a measurement of their pixels, as a denoiser of latents.

A measurement of pixels is not linear in a latent. So each evaluation goes out and back: with D the denoised latent,

    p = dec D,   p* = argmin_q |b - A q|^2 / s^2 + |q - p|^2 / r^2,   y = D + enc p* - enc p

(DreamSampler's inner problem; the difference of the two encodings lets the autoencoder's own error cancel), r =
`SPREAD` sigma / sqrt(d^2 + sigma^2), for latents of the deviation d.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import (
    Denoiser,
    Sigma,
    Wrapped,
    ask,
    at_least_float32,
    check_denoiser,
    checked,
    data_std,
    expand_sigma,
)
from ..measurement import Observation
from ..model import Model
from ..posterior.proximal import Proximal
from ..validation import as_floating, check_callable, check_instance
from .result import decoded, encoded

SPREAD = 0.25
"""Standard deviation of a picture's pixels, in [0, 1]."""


@dataclass(frozen=True)
class PixelPosterior(Wrapped):
    """Denoiser of the latents whose pictures agree with ``observation``; guidance as of a `PosteriorDenoiser`.

    Args:
        denoiser: of the latents, ``(z (B, *), sigma) -> (B, *)``.
        observation: b, A and s, of pictures (B, 3, H, W) in [0, 1].
        encode: picture -> latent.
        decode: latent -> picture; what is outside of [0, 1] is cut off.
        step: the inner problem: its r, if not the one above, and its conjugate gradients.

    Raises:
        ValueError: for something of another kind; when called, for a b that does not fit the decoded picture.
    """

    differentiable: ClassVar[bool] = False

    denoiser: Denoiser
    observation: Observation
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    step: Proximal = Proximal()

    def __post_init__(self) -> None:
        check_denoiser(self.denoiser)
        check_instance(
            "observation", self.observation, Observation, "an Observation. Make one with observe(picture, A)"
        )
        check_callable("encode", self.encode, "a function from pictures to latents")
        check_callable("decode", self.decode, "a function from latents to pictures")

    @torch.no_grad()
    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z, b], approximately; without gradient."""
        z = at_least_float32(as_floating("z", z))
        level = expand_sigma(sigma, z)
        x = ask(self.denoiser, z, level.flatten())
        shown = self.decode(x).clamp(0, 1)
        error = self.step.error
        if error is None:
            error = SPREAD * level / (data_std(self.denoiser) ** 2 + level**2).sqrt()
        agreed = agreeing(shown, self.observation, error, self.step.steps)
        change = checked("encode", self.encode(agreed), z) - checked("encode", self.encode(shown), z)
        return x + change.to(x)


def pixel_posterior(denoiser: Denoiser, observation: Observation, model: Model, step: Proximal) -> PixelPosterior:
    """With the model's own encoder and decoder."""
    return PixelPosterior(denoiser, observation, partial(encoded, model), partial(decoded, model), step=step)


def agreeing(picture: Tensor, observation: Observation, error: float | Tensor, steps: int = 20) -> Tensor:
    """The picture (B, 3, H, W) nearest to ``picture`` and to the measurement.

    Args:
        picture: in [0, 1], as the result.
        observation: b, A and s.
        error: of ``picture``, r; a number, or (B, 1, 1, 1) below 1.
        steps: conjugate gradients at most.
    """
    if isinstance(error, Tensor):
        r = error.to(picture)
        step, level = Proximal(steps=steps), r / (1 - r**2).sqrt()  # of which r is sigma / sqrt(1 + sigma^2)
    else:
        step, level = Proximal(error, steps), picture.new_ones(len(picture), 1, 1, 1)
    return step(picture, level, lambda z, _: z, observation).clamp(0, 1)
