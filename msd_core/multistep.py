"""DPM-Solver++(2M): a second-order sampler that asks the model once a step, and uses the answer of the step before.

With s = -log sigma, h = s' - s and r = (the step before's h) / h,

    z' = (sigma'/sigma) z + (1 - sigma'/sigma) ((1 + 1/2r) D - 1/2r D_before)

(Lu et al. 2022, Alg. 2, in the coordinates z = x + sigma n.) The first step, and the one to sigma' = 0, are DDIM's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from .denoiser import Denoiser, ask, at_least_float32, check_denoiser
from .sampling import check_sigmas
from .validation import as_finite


def dpmpp_2m_weight(before: float | None, sigma: float, sigma_next: float) -> float:
    """1/2r of the step from ``sigma`` to ``sigma_next``, after one from ``before``; 0 where the step is DDIM's."""
    if before is None or sigma_next == 0:
        return 0.0
    return math.log(sigma / sigma_next) / (2 * math.log(before / sigma))


def dpmpp_2m_steps(
    z: Tensor, denoiser: Denoiser, sigmas: Tensor, before: tuple[float, Tensor] | None = None
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield ``(sigma_next, z, denoised)`` after each step, of one evaluation; arguments and errors of `ddim_steps`.

    ``before``: the level above, and what the denoiser said there, where the walk begins within a longer one.
    """
    z, levels = as_finite("z", z), check_sigmas(sigmas)
    check_denoiser(denoiser)
    return _steps(at_least_float32(z), denoiser, levels, *(before or (None, None)))


def _steps(
    z: Tensor, denoiser: Denoiser, levels: list[float], before: float | None, last: Tensor | None
) -> Iterator[tuple[float, Tensor, Tensor]]:
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        denoised = ask(denoiser, z, sigma)
        weight = dpmpp_2m_weight(before, sigma, sigma_next)
        guess = denoised if last is None else denoised + weight * (denoised - last)
        z = guess + (z - guess) * (sigma_next / sigma)
        before, last = sigma, denoised
        yield sigma_next, z, denoised
