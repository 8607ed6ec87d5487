"""Re-sampling that is put right at every level by an offset kept from the inversion.

    z_i = down(z_{i+1}) + o_i,   o_i = z*_i - down(z*_{i+1})          z* the states of the inversion

With the denoiser that the offsets were made with, each step ends at z*_i, whatever cfg is: the picture comes back to
rounding. With another prompt what the prompts share is kept, and their difference acts.

`down` is DDIM's step with a share eta of an ancestral sampler's noise left out (Song et al. 2021, Eqs. 12 and 16): the
offset stands for that noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from ..denoiser import Denoiser
from .base import ddim_down

if TYPE_CHECKING:
    from .trajectory import Trajectory


def added_deviation(eta: float, sigma: float, sigma_next: float) -> float:
    """Standard deviation of the noise of a step down from ``sigma`` to ``sigma_next``: all of z's if eta is 1."""
    return eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)


def quiet_down(z: Tensor, denoised: Tensor, sigma: float, sigma_next: float, eta: float) -> Tensor:
    """The step above without its noise, from ``z`` (B, *) at ``sigma`` > 0 to ``sigma_next`` >= 0."""
    kept = math.sqrt(max(0.0, sigma_next**2 - added_deviation(eta, sigma, sigma_next) ** 2))
    return ddim_down(z, denoised, sigma, kept)


def descend_by_offsets(trajectory: Trajectory, denoiser: Denoiser, top: int, eta: float = 0.0) -> Iterator[Tensor]:
    """Yield the state (B, *) after each step down from level number ``top``, put right by ``kept["offset"]``."""
    levels, z = trajectory.sigmas.tolist(), trajectory.states[top]
    for i in range(top - 1, -1, -1):
        quiet = quiet_down(z, denoiser(z, levels[i + 1]), levels[i + 1], levels[i], eta)
        z = quiet + trajectory.kept["offset"][i]
        yield z
