"""Mean-Shift Distillation: descend to a mode of the model's density, smoothed less and less.

    gradient = x - x',   x' = E[y] under p(y) N(y; x, lambda_k^2)

(Mean-Shift Distillation, Alg. 2; x' from Eqs. 8-15.) -gradient is the mean-shift vector m(x), which points up the
gradient of p * N(0, lambda^2) and is zero at its modes; lambda_k falls with the iteration k. How x' is estimated is the
estimator's own affair (`mean_shift`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..bandwidth import BANDWIDTHS, Bandwidths, Exponential, as_bandwidths, bandwidth_at
from ..denoiser import Denoiser
from ..info import Info
from ..mean_shift import ESTIMATORS, Estimator
from ..mean_shift.exact import Exact
from ..randomness import Rng
from ..settings import setting
from ..validation import as_finite


@dataclass(frozen=True)
class MSD:
    """Mean-Shift Distillation: towards the mean of the model's own samples near x, under a kernel whose λ falls.

    ``bandwidths`` may also be given by a name, or as a sequence or 1-D tensor of lambda_k, one a step; ``estimator``
    by its name.

    Raises:
        ValueError: for bandwidths that do not decrease, or an unknown name.
    """

    label: ClassVar[str] = "Mean-Shift Distill"
    recommended: ClassVar[Mapping[str, object]] = {"steps": 20, "inner_steps": 15}
    """Targets cost evaluations, updates towards them none: docs/frontier.md has what this buys."""

    bandwidths: Bandwidths = setting(
        Exponential(),
        "how λ, the standard deviation of the kernel, falls",
        flag="bandwidth_schedule",
        family=BANDWIDTHS,
    )
    estimator: Estimator = setting(
        Exact(),
        "of the mean shift. exact: draws from the product density; split: the paper's; one-step: a single evaluation; "
        "naive: Eq. 12, unstable",
        family=ESTIMATORS,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidths", as_bandwidths(self.bandwidths))
        object.__setattr__(self, "estimator", ESTIMATORS.made("estimator", self.estimator))

    @property
    def samples(self) -> int:
        """Rows that the estimator evaluates as one batch, per row of x."""
        return int(getattr(self.estimator, "samples", 1))

    def bandwidth(self, step: int, steps: int) -> float:
        """lambda at iteration ``step`` of ``steps``."""
        return bandwidth_at(self.bandwidths, step, steps)

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """x - x' (B, *) and the `Info` of m(x), whose evaluations include an inversion's.

        Raises:
            ValueError: if the bandwidths are listed and not as many as ``steps``, or an option is one that the
                estimator refuses.
        """
        x = as_finite("x", x)
        target, info = self.estimator(x, denoiser, self.bandwidth(step, steps), rng)
        return x - target, info
