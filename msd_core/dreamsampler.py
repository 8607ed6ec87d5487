"""Sampling and distillation as one solver with three switches (Kim et al. 2024, DreamSampler; in our coordinates).

    y, eps = inner(z, sigma)                        what the picture should be, and the noise that z has
    z'     = y + sigma' (a eps + sqrt(1 - a^2) xi)  renoised to the next level

                    levels        a, the noise kept            inner
    DDIM            descending    1                            y = D, eps = (z - D) / sigma
    edit            descending    1                            `Edited`
    inpainting      descending    sigma / sqrt(1 + sigma^2)    `Denoised` of a `PosteriorDenoiser`
    SDS             random        0                            y <- y - eta (y - D), z is not looked at

**A jump counts by the step.** A correction of y that leaves eps as it was adds up with the number of steps. So `Edited`
has its strength per `PER_STEPS` steps: the authors' gamma, and the same edit at any number of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .denoiser import (
    Denoiser,
    Sigma,
    ask,
    at_least_float32,
    check_denoiser,
    checked_parts,
    cost,
    eps,
    expand_sigma,
    parts_cost,
)
from .guidance import guided
from .randomness import Rng, draw_normal
from .sampling import check_sigmas
from .validation import as_finite, as_floating, check_callable, check_count, check_number

PER_STEPS = 200
"""Steps of the authors' code, in which their strengths are given."""

Inner = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""``(z (B, *), sigma > 0) -> (y, eps)``, both (B, *)."""


@dataclass(frozen=True)
class Denoised:
    """y = D(z; sigma), and the noise that it leaves: of any denoiser, DDIM; of a `PosteriorDenoiser`, inpainting."""

    denoiser: Denoiser

    def __post_init__(self) -> None:
        check_denoiser(self.denoiser)

    def __call__(self, z: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        z = as_floating("z", z)
        y = ask(self.denoiser, z, sigma)
        return y, eps(z, sigma, y)

    @property
    def rows(self) -> int:
        """Network rows a row of z."""
        return cost(self.denoiser)


@dataclass(frozen=True)
class Edited:
    """A step towards the prompt, with the noise of the unconditional model.

        y = D_uncond + w (D_cond - D_uncond),   w = gamma / (1 + sigma^2) PER_STEPS / steps,   eps = eps_uncond

    (DreamSampler's released editing: distillation with the weight gamma / (1 + sigma^2), solved in closed form.) w is
    small above sigma = 2, which is why the layout stays. The state to begin with is an unconditional inversion.

    Args:
        denoiser: a guided one; its own scale plays no part.
        strength: gamma, the authors' 0.2.
        steps: of the whole walk.

    Raises:
        ValueError: for an unguided denoiser, or a number out of range.
    """

    denoiser: Denoiser
    strength: float = 0.2
    steps: int = PER_STEPS

    def __post_init__(self) -> None:
        guided(self.denoiser, "editing")
        check_number("strength", self.strength, "Usual are 0.1 to 1; 0 changes nothing.", low=0)
        check_count("steps", self.steps)

    def __call__(self, z: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        z = as_floating("z", z)
        cond, uncond = checked_parts(guided(self.denoiser, "editing").parts(z, sigma), z)
        weight = self.strength / (1 + sigma**2) * PER_STEPS / self.steps
        return uncond + weight * (cond - uncond), eps(z, sigma, uncond)

    @property
    def rows(self) -> int:
        """Network rows a row of z."""
        return parts_cost(self.denoiser)


def unit_share(sigma: float) -> float:
    """sigma / sqrt(1 + sigma^2): the share of noise that DreamSampler's inpainting keeps."""
    return sigma / math.hypot(1.0, sigma)


def dream_steps(
    z: Tensor,
    inner: Inner,
    sigmas: Tensor,
    *,
    kept: float | Callable[[float], float] = 1.0,
    rng: Rng | None = None,
    temperature: float = 1.0,
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield ``(sigma_next, z, y)`` after each step of the solver above.

    Args:
        z: the state at ``sigmas[0]``, (B, *); half precision is promoted to float32.
        inner: ``(z, sigma) -> (y, eps)``.
        sigmas: strictly decreasing levels, (steps + 1,); the last may be 0.
        kept: a in [0, 1], or a function from the level to it, such as `unit_share`.
        rng: of the fresh noise; needed where a < 1.
        temperature: scale of the fresh noise, in [0, 1]; that of the noise in ``z`` is the caller's. With both scaled
            the ends of a Gaussian are its mean + temperature times as much (Kingma & Dhariwal 2018, Glow, § 5).

    Raises:
        ValueError: at the call for wrong arguments; from a step without ``rng`` where it is needed.
    """
    z, levels = as_finite("z", z), check_sigmas(sigmas)
    check_temperature(temperature)
    check_callable("inner", inner, "a function (z, sigma) -> (y, eps)")
    if not callable(kept):
        check_number("kept", kept, "1 keeps the noise, 0 draws all of it anew.", low=0, high=1)
    return _steps(at_least_float32(z), inner, levels, kept, rng, temperature)


def check_temperature(temperature: float) -> None:
    """Refuse what is no scale of noise in [0, 1]."""
    check_number("temperature", temperature, "1 samples, 0 adds no noise: the likeliest picture.", low=0, high=1)


def dream_sample(z: Tensor, inner: Inner, sigmas: Tensor, **options: Any) -> Tensor:  # noqa: ANN401 - of `dream_steps`
    """The end of the walk from ``z``, at ``sigmas[-1]``. Arguments as in `dream_steps`."""
    return deque(dream_steps(z, inner, sigmas, **options), maxlen=1)[0][1]


def _steps(
    z: Tensor,
    inner: Inner,
    levels: list[float],
    kept: float | Callable[[float], float],
    rng: Rng | None,
    temperature: float,
) -> Iterator[tuple[float, Tensor, Tensor]]:
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        y, noise = inner(z, sigma)
        z = renoised(y, noise, sigma_next, kept(sigma) if callable(kept) else kept, rng, temperature)
        yield sigma_next, z, y


def renoised(y: Tensor, noise: Tensor, sigma: Sigma, kept: float, rng: Rng | None, temperature: float = 1.0) -> Tensor:
    """y + sigma (a noise + sqrt(1 - a^2) xi), a = ``kept``; nothing is drawn for a = 1 or sigma = 0.

    ``temperature`` scales xi; at 0 nothing is drawn either.

    Raises:
        ValueError: a < 1 without ``rng``.
    """
    level = expand_sigma(sigma, y)
    if kept < 1 and bool((level > 0).any()):
        noise = kept * noise
        if temperature > 0:
            noise = noise + temperature * math.sqrt(1 - kept**2) * draw_normal(y, rng)[0]
    return y + level * noise
