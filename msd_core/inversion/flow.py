"""Flow models' own time, for the methods that are written in it.

The state is x_t = (1 - t) z with t = sigma/(1 + sigma), its velocity u = n - y = (1 + sigma) eps - z, and the path of
the ODE dx_t/dt = u is the probability-flow ODE of the rest of the core with time and state rescaled. Hence in exact
arithmetic, for any model at all,

- Euler's step in t **is** DDIM's (both are linear in y and n at the start), so "explicit", "implicit" and "renoise" are
  the same inversions as in a flow model's coordinates;
- steps that ask the model between the levels, or carry a velocity along, are others than in sigma: "rf-solver" and
  "fireflow" take half of the step in t, "rf-inversion" pulls along straight lines in t. They are walked in t here.

t = 1 is sigma = infinity, where nothing of the picture is left: a trajectory must end below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..denoiser import Denoiser, eps
from ..validation import as_levels


def time_of(sigma: float) -> float:
    """t = sigma/(1 + sigma)."""
    return sigma / (1 + sigma)


def level_of(t: float) -> float:
    """sigma = t/(1 - t)."""
    return t / (1 - t)


def flow_sigmas(times: Sequence[float] | Tensor) -> Tensor:
    """Levels sigma of a flow model's ``times``: shape (N,), float64, in the same order.

    Raises:
        ValueError: a time outside of [0, 1), or none at all.
    """
    levels = as_levels("times", times, "Pass a flow model's times.").tolist()
    for i, t in enumerate(levels):
        if not 0 <= t < 1:
            raise ValueError(
                f"times: entry {i} is {t}; allowed is from 0 to below 1, since at t = 1 nothing of the picture is left "
                "(sigma is infinite). Begin at 0.999, or lower."
            )
    return torch.tensor([level_of(t) for t in levels], dtype=torch.float64)


def velocity(denoiser: Denoiser, state: Tensor, t: float, instead: float = 0.0) -> Tensor:
    """u (B, *) at the ``state`` x_t (B, *); where t = 0, eps = 0/0 is asked at the time ``instead``."""
    z = state / (1 - t)
    asked = level_of(t if t > 0 else instead)
    return (1 + level_of(t)) * eps(z, asked, denoiser(z, asked)) - z
