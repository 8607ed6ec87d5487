"""Walking the probability-flow ODE dz/dsigma = (z - D(z; sigma)) / sigma down a list of noise levels.

    ddim   z' = D + (z - D) sigma'/sigma                      Euler, order 1      (Song et al. 2021, Eq. 12, eta = 0)
    heun   z' = z + (sigma' - sigma)(d + d') / 2              order 2             (Karras et al. 2022, Alg. 1)
           with d = (z - D)/sigma, d' the same at the Euler step's end; the step to sigma' = 0 is DDIM's

A step is a function ``(z, denoiser, sigma, sigma_next) -> (z_next, denoised)``; a walk is a generator, so that
progress, previews and interruption belong to the caller. Gradients flow through; wrap a walk in `torch.no_grad` where
they are not wanted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser, ask, at_least_float32, check_denoiser, level_at
from .echo import shown
from .validation import MOST_STEPS, as_finite, as_levels, check_choice, check_count, is_number

Step = Callable[[Tensor, Denoiser, float, float], tuple[Tensor, Tensor]]


def ddim_step(z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    """One Euler (DDIM) step from ``sigma`` to ``sigma_next`` >= 0, up or down: ``(z_next, denoised)``."""
    denoised = ask(denoiser, z, sigma)
    return denoised + (z - denoised) * (sigma_next / sigma), denoised


def heun_step(z: Tensor, denoiser: Denoiser, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    """One Heun step from ``sigma`` to ``sigma_next``: ``(z_next, denoised)``; two evaluations, one if it ends at 0."""
    euler, denoised = ddim_step(z, denoiser, sigma, sigma_next)
    if sigma_next == 0:
        return euler, denoised
    slope = (z - denoised) / sigma
    slope_next = (euler - ask(denoiser, euler, sigma_next)) / sigma_next
    return z + (sigma_next - sigma) * (slope + slope_next) / 2, denoised


_STEPS: dict[str, Step] = {"ddim": ddim_step, "heun": heun_step}
SOLVERS = tuple(_STEPS)


def solver_step(name: str) -> Step:
    """The step function of the solver ``name``, one of `SOLVERS`.

    Raises:
        ValueError: for any other name.
    """
    check_choice("solver", name, SOLVERS)
    return _STEPS[name]


def as_sigmas(sigmas: Any) -> Tensor:  # noqa: ANN401 - a tensor, list or array
    """Noise levels as a tensor (N,), unchecked but for their type; a list becomes float64."""
    return as_levels("sigmas", sigmas, "Make one with sigma_schedule(name, steps, ...).")


def chain_levels(denoiser: Denoiser, steps: int, denoise: float = 1.0) -> Tensor:
    """The levels at equal parts of the denoiser's own chain, from all noise to 0, (steps + 1,), float64.

    Fewer where the chain has one level for several parts: a flow's, whose highest level is finite, at its noisy end.

    Args:
        denoiser: one with a chain (`level_at`).
        steps: parts.
        denoise: the fraction of the chain that they divide, from its clean end.

    Raises:
        ValueError: it has no chain, or a number is out of range.
    """
    check_count("steps", steps, maximum=MOST_STEPS)
    if not (is_number(denoise) and 0 < denoise <= 1):
        raise ValueError(
            f"denoise: got {shown(denoise)}; allowed is a number above 0 up to 1. 1 is the whole chain, 0.5 half of it."
        )
    levels = [*(level_at(denoiser, denoise * (1 - i / steps)) for i in range(steps)), 0.0]
    falling = [level for level, below in zip(levels, [*levels[1:], -1.0], strict=True) if level > below]
    return torch.tensor(falling, dtype=torch.float64)


def check_sigmas(sigmas: Tensor) -> list[float]:
    """The levels as numbers, after refusing anything but strictly decreasing, finite, non-negative ones.

    Raises:
        ValueError: naming the offending entry; at least two levels are needed.
    """
    sigmas = as_sigmas(sigmas)
    if sigmas.numel() < 2:
        raise ValueError(
            f"sigmas: got shape {tuple(sigmas.shape)}; allowed is a 1-D tensor of at least two noise levels. "
            "Make one with sigma_schedule(name, steps, ...)."
        )
    levels = sigmas.tolist()
    for i, level in enumerate(levels):
        if not (math.isfinite(level) and level >= 0):
            raise ValueError(f"sigmas: entry {i} is {level}; allowed are finite noise levels >= 0. Remove it.")
        if i and level >= levels[i - 1]:
            raise ValueError(
                f"sigmas: entry {i} is {level}, after {levels[i - 1]}; allowed are strictly decreasing noise levels. "
                "Flip the schedule or drop repeated levels."
            )
    return levels


def _walk(z: Tensor, denoiser: Denoiser, sigmas: Tensor, step: Step) -> Iterator[tuple[float, Tensor, Tensor]]:
    z, levels = as_finite("z", z), check_sigmas(sigmas)
    check_denoiser(denoiser)
    return _steps(at_least_float32(z), denoiser, levels, step)


def _steps(z: Tensor, denoiser: Denoiser, levels: list[float], step: Step) -> Iterator[tuple[float, Tensor, Tensor]]:
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        z, denoised = step(z, denoiser, sigma, sigma_next)
        yield sigma_next, z, denoised


def ddim_steps(z: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield ``(sigma_next, z, denoised)`` after each DDIM step; one evaluation a step.

    Args:
        z: the start at ``sigmas[0]``, shape (B, *); half precision is promoted to float32.
        denoiser: ``(z, sigma) -> E[y | z]``.
        sigmas: strictly decreasing noise levels, shape (steps + 1,); the last one may be 0.

    Raises:
        ValueError: at the call for other ``sigmas``, or a ``z`` without batch dimension or not finite; from a step for
            a denoiser's result of another shape.
    """
    return _walk(z, denoiser, sigmas, ddim_step)


def heun_steps(z: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Iterator[tuple[float, Tensor, Tensor]]:
    """As `ddim_steps`, with Heun's method: two evaluations a step, one in the step to 0."""
    return _walk(z, denoiser, sigmas, heun_step)


def ddim_sample(z: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Tensor:
    """The end of the DDIM walk from ``z``, at ``sigmas[-1]``: x0 if that is 0. Arguments as in `ddim_steps`."""
    return deque(ddim_steps(z, denoiser, sigmas), maxlen=1)[0][1]
