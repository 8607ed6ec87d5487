"""Mean-Shift Distillation: descend to a mode of the model's density, smoothed less and less.

    gradient = x - x',   x' = E[y] under p(y) N(y; x, lambda_k^2)

(Mean-Shift Distillation, Alg. 2; x' from Eqs. 8-15.) -gradient is the mean-shift vector m(x), which points up the
gradient of p * N(0, lambda^2) and is zero at its modes; lambda_k falls with the iteration k. Which estimator of x' is
used, and how, is passed on to `mean_shift`.

With ``centre="inversion"`` the kernel is centred at each noise level on the state of the DDIM inversion of x (section
4.3), which is computed afresh in each iteration, and only up to the level at which the estimator starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..bandwidth import check_bandwidths
from ..denoiser import Denoiser, sigma_range
from ..info import Info
from ..inversion import Trajectory, ddim_invert
from ..mean_shift import DEFAULT_STEPS, ESTIMATORS, default_sigmas, mean_shift
from ..sampling import SOLVERS
from ..validation import check_choice, check_count
from .sdi import with_cfg

CENTRES = ("x", "inversion")


@dataclass(frozen=True, eq=False)
class MSD:
    """The settings of Mean-Shift Distillation.

    Args:
        bandwidths: lambda_k for every iteration, strictly decreasing, shape (steps,); see `bandwidth_schedule`.
        estimator: of x': "naive", "split", "exact" or "one-step". sigmas: noise levels that the estimator walks,
        descending to 0; None chooses them by lambda. solver_steps: number of levels chosen, in place of ``sigmas``; 32
        if neither is given. samples, antithetic, interval, truncation, solver: as in `mean_shift`. centre: of the
        kernel: "x", or "inversion" (estimators "naive", "split" and "one-step"). inversion_cfg: guidance scale of that
        inversion, by ``denoiser.with_cfg``; None inverts with the denoiser itself.

    Raises:
        ValueError: for bandwidths that do not decrease, an unknown name, or options at odds with each other.
    """

    bandwidths: Tensor
    estimator: str = "exact"
    sigmas: Tensor | None = None
    solver_steps: int | None = None
    samples: int = 1
    antithetic: bool = False
    centre: str = "x"
    interval: tuple[float, float] | None = None
    truncation: float | None = None
    solver: str = "ddim"
    inversion_cfg: float | None = None

    def __post_init__(self) -> None:
        check_bandwidths(self.bandwidths)
        check_choice("estimator", self.estimator, ESTIMATORS)
        check_choice("solver", self.solver, SOLVERS)
        check_choice("centre", self.centre, CENTRES)
        check_count("samples", self.samples)
        if self.solver_steps is not None:
            check_count("solver_steps", self.solver_steps)
        if self.sigmas is not None and self.solver_steps is not None:
            raise ValueError(
                f"solver_steps: got {self.solver_steps} together with sigmas; allowed is one of the two. Leave one out."
            )
        if self.centre == "x" and self.inversion_cfg is not None:
            raise ValueError(
                f"inversion_cfg: got {self.inversion_cfg} with centre 'x', where nothing is inverted; allowed is None. "
                "Set centre='inversion', or leave it out."
            )
        if self.centre == "inversion" and self.estimator == "exact":
            raise ValueError(
                "centre: got 'inversion' with the estimator 'exact', whose product density has one centre; allowed is "
                "'x'. Set centre='x', or change the estimator."
            )

    def bandwidth(self, step: int) -> float | None:
        """lambda at iteration ``step``."""
        return float(self.bandwidths[step])

    @torch.no_grad()
    def __call__(
        self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Info]:
        """x - x' (B, *) and the `Info` of m(x), whose evaluations include the inversion's.

        Raises:
            ValueError: if ``steps`` is not the number of bandwidths, or an option is one that `mean_shift` refuses.
        """
        if len(self.bandwidths) != steps:
            raise ValueError(
                f"bandwidths: got {len(self.bandwidths)} of them for {steps} steps; allowed is one a step. "
                f"Make bandwidth_schedule(..., steps={steps})."
            )
        bandwidth = float(self.bandwidths[step])
        sigmas = self._sigmas(bandwidth, denoiser)
        centre = self._invert(x, denoiser, sigmas, bandwidth) if self.centre == "inversion" else None
        target, info = mean_shift(
            x,
            denoiser,
            bandwidth,
            estimator=self.estimator,
            sigmas=sigmas,
            samples=self.samples,
            antithetic=self.antithetic,
            generator=generator,
            centre=centre,
            interval=self.interval,
            truncation=self.truncation,
            solver=self.solver,
        )
        spent = 0 if centre is None else centre.evaluations
        return x - target, replace(info, evaluations=info.evaluations + spent)

    def _sigmas(self, bandwidth: float, denoiser: Denoiser) -> Tensor:
        """The levels that the estimator walks."""
        if self.sigmas is not None:
            return self.sigmas
        steps = self.solver_steps or DEFAULT_STEPS
        return default_sigmas(self.estimator, bandwidth, steps, sigma_range(denoiser)[1])

    def _invert(self, x: Tensor, denoiser: Denoiser, sigmas: Tensor, bandwidth: float) -> Trajectory:
        """The inversion of ``x`` up to the highest level at which the estimator needs a centre."""
        if self.estimator == "one-step":
            sigmas = torch.cat([sigmas.new_tensor([bandwidth]), sigmas[sigmas < bandwidth]])
        elif self.truncation is not None:
            sigmas = sigmas[sigmas <= self.truncation * bandwidth]
        return ddim_invert(x, with_cfg(denoiser, self.inversion_cfg), sigmas)
