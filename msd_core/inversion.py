"""DDIM inversion: the noise that a picture would have come from, and the whole way there.

The probability-flow ODE is walked upwards with the explicit step, evaluated where the step starts (Song et al. 2021,
section 4.3):

    z_{i+1} = z_i + (sigma_{i+1} - sigma_i) eps(z_i; sigma_i).

At sigma_0 = 0 eps is 0/0, so the first step asks the model at the first non-zero level:
z_1 = x + sigma_1 eps(x; sigma_1).
Re-sampling with DDIM on the same levels returns x up to an error of first order in the step.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoiser, RowCounter, at_least_float32, eps
from .sampling import check_sigmas
from .validation import check_floating


@dataclass(frozen=True, eq=False)
class Trajectory:
    """States of an inversion, from x upwards.

    Attributes:
        sigmas: the levels, ascending, shape (N,), float32 or float64.
        states: the state at each level, shape (N, B, *); ``states[0]`` is x.
        evaluations: network rows that it took.
    """

    sigmas: Tensor
    states: Tensor
    evaluations: int = 0

    def __repr__(self) -> str:
        low, high = float(self.sigmas[0]), float(self.sigmas[-1])
        return f"Trajectory({len(self.sigmas)} levels from {low:g} to {high:g}, states {tuple(self.states.shape[1:])})"

    def at(self, sigma: float) -> Tensor:
        """The state (B, *) at ``sigma``, linear between levels: the Euler polygon itself.

        Raises:
            ValueError: outside the levels of the trajectory.
        """
        levels = self.sigmas.tolist()
        if not levels[0] <= sigma <= levels[-1]:
            raise ValueError(
                f"sigma: got {sigma}; allowed is {levels[0]:g} to {levels[-1]:g}, the levels of this trajectory. "
                "Invert with a schedule that reaches it."
            )
        i = max(bisect_left(levels, sigma), 1)
        weight = (sigma - levels[i - 1]) / (levels[i] - levels[i - 1])
        return torch.lerp(self.states[i - 1], self.states[i], weight)


@torch.no_grad()
def ddim_invert(x: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Trajectory:
    """Invert ``x`` by explicit DDIM steps and return every state; no gradient is recorded.

    Args:
        x: the state at the lowest level, shape (B, *): a clean picture if that level is 0, as it should be.
        denoiser: ``(z, sigma) -> E[y | z]``; guidance above cfg 1-2 makes the inversion inaccurate.
        sigmas: strictly increasing or strictly decreasing levels, shape (N,), N >= 2.

    Returns:
        The `Trajectory`; ``N - 1`` evaluations per row.

    Raises:
        ValueError: for other ``sigmas`` or an ``x`` without batch dimension.
    """
    check_floating("x", x)
    if sigmas.ndim == 1 and sigmas.numel() > 1 and sigmas[0] < sigmas[-1]:
        sigmas = sigmas.flip(0)
    levels = check_sigmas(sigmas)[::-1]
    counted = RowCounter(denoiser)
    z = at_least_float32(x)
    states = [z]
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        asked = sigma if sigma > 0 else sigma_next
        z = z + (sigma_next - sigma) * eps(z, asked, counted(z, asked))
        states.append(z)
    return Trajectory(sigmas.flip(0), torch.stack(states), counted.rows)
