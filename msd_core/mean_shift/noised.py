"""Noised estimator: the model is asked where it was trained, at x with noise.

    x' = mean over n of D(x + a lambda n; lambda sqrt(c + a^2)),   n ~ N(0, I)

D(x; lambda), the `one_step` estimator, is exact for an exact D and without variance; a learned D has seen data plus
noise of level lambda, and a smooth x lies off that. Noise of a share a of lambda brings it back, and the level says how
much there is. c = 1 takes x itself as an observation of level lambda, as the mean shift does: then x' is the mean under
the kernel of bandwidth lambda sqrt(1 + a^2), averaged over N(x, a^2 lambda^2). c = 0 takes x as clean: the denoised
guess of SDS at the one level a lambda.

Neither the noise nor the level goes above the model's sigma_max; where both are there, x counts as clean.

With ``fixed`` noise every step of a run draws the same n: the steps then follow one function, and do not jitter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..randomness import draw_normal, fixed_normal
from ..settings import setting
from .base import Checked, Task, average, scatter


@dataclass(frozen=True, kw_only=True)
class Noised(Checked):
    """The denoised guess at x with a share of noise, which the model knows better than a smooth x.

    Raises:
        ValueError: for a value out of range, no noise at all, or several draws of fixed noise.
    """

    noise_share: float = setting(1.0, "a: noise that is added, in units of λ", low=0, usual=(0, 4), expert=True)
    observed: bool = setting(
        True, "x counts as an observation of level λ, as in the mean shift; off: as clean, as in SDS", expert=True
    )
    samples: int = setting(1, "draws averaged for one mean shift, evaluated as one batch", low=1, usual=(1, 256))
    fixed: bool = setting(False, "the same noise at every step of a run", expert=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.noise_share and not self.observed:
            raise ValueError(
                f"noise_share: got {self.noise_share} with x counted as clean; allowed is more than 0. Raise it."
            )
        if self.fixed and self.samples > 1:
            raise ValueError(f"samples: got {self.samples} with fixed noise; allowed is 1. Leave one of them out.")

    def estimate(self, task: Task) -> tuple[Tensor, float]:
        """x' (B, *), averaged over the samples; one evaluation per row of x and draw."""
        drawn = fixed_normal(task.x, task.rng)[None] if self.fixed else draw_normal(task.x, task.rng, self.samples)
        shares = (self.noise_share, math.hypot(self.noise_share, float(self.observed)))
        noise, level = (min(task.bandwidth * share, task.sigma_max) for share in shares)
        z = scatter(task.x, noise, drawn)
        return average(task.denoiser(z, level), drawn), level
