"""What a pipeline's scheduler says of its network: what that predicts, and the levels that it knows.

    scheduler                       network                          levels
    with discrete levels (DDIM,     epsilon or v                     its alphas_cumprod
    Euler, DPM-Solver, UniPC, ...)
    EDMEuler, EDMDPMSolver-         EDM's F or its v; sigma_data     sigma_min to sigma_max, spaced as it spaces them
    Multistep                       is s
    FlowMatch..., or with           the flow's velocity              shifted as it shifts them
    use_flow_sigmas

Playground 2.5 comes with the second kind (F, s = .5), and so does CosXL (v, s = 1). What a scheduler does beyond that,
its steps, their number and their order, plays no part here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch

from ..echo import shown
from ..parametrization import EDM_SIGNS, EDMDenoiser, EpsDenoiser, FlowDenoiser, Network, VDenoiser
from ..schedule import DiscreteSchedule
from .families import StableDiffusion

AsDenoiser: TypeAlias = Callable[[Network], "EpsDenoiser | VDenoiser | FlowDenoiser | EDMDenoiser"]
"""A network to its denoiser."""
DISCRETE: dict[str, type[EpsDenoiser] | type[VDenoiser]] = {"epsilon": EpsDenoiser, "v_prediction": VDenoiser}
"""By the library's prediction_type."""
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
TERMINAL = 4.9e-8
"""Least share of a picture that is left at the end of a chain, for one that ends in noise alone: a level of 4,500 in
place of infinity, as the host has it."""


class Parametrization:
    """How the network of a pipeline becomes a denoiser: made once for a scheduler, and again when that is exchanged."""

    def __init__(self, family: StableDiffusion) -> None:
        self.family = family
        self._config, self._made = None, None

    def __call__(self) -> AsDenoiser:
        """By the scheduler that the pipeline has now.

        Raises:
            ValueError: as `parametrized`.
        """
        config = self.family.pipe.scheduler.config
        if self._made is None or self._config is not config:
            self._config, self._made = config, parametrized(self.family)
        return self._made


def parametrized(family: StableDiffusion) -> AsDenoiser:
    """What makes a denoiser of the network, as the scheduler's configuration describes it.

    Raises:
        ValueError: for a scheduler, or a prediction_type of it, that the table above has not.
    """
    scheduler = family.pipe.scheduler
    if family.flows:
        return _flow(family)
    if any(base.__name__ in EDM for base in type(scheduler).__mro__):
        return _edm(family)
    return _discrete(family)


def _discrete(family: StableDiffusion) -> AsDenoiser:
    scheduler, prediction = family.pipe.scheduler, _prediction(family)
    continuous = scheduler.config.get("timestep_type") == "continuous" and prediction == "v_prediction"
    if not hasattr(scheduler, "alphas_cumprod") or prediction not in DISCRETE or continuous:
        raise _refused(family)
    return partial(DISCRETE[prediction], schedule=_schedule(scheduler))


def _edm(family: StableDiffusion) -> AsDenoiser:
    config, prediction = family.pipe.scheduler.config, _prediction(family)
    if prediction not in EDM_SIGNS:
        raise _refused(family)
    rho = math.inf if config.get("sigma_schedule") == "exponential" else config.rho
    levels = {"sigma_min": config.sigma_min, "sigma_max": config.sigma_max, "rho": rho}
    return partial(EDMDenoiser, data_std=config.sigma_data, prediction=prediction, **levels)


def _flow(family: StableDiffusion) -> AsDenoiser:
    scheduler = family.pipe.scheduler
    named = any(base.__name__.startswith("FlowMatch") for base in type(scheduler).__mro__)
    if not (named or scheduler.config.get("use_flow_sigmas")) or scheduler.config.get("invert_sigmas"):
        raise _refused(family)
    return partial(FlowDenoiser, shift=getattr(family, "shift", 1.0))


def _prediction(family: StableDiffusion) -> str:
    return str(family.pipe.scheduler.config.get("prediction_type", "epsilon"))


def _refused(family: StableDiffusion) -> ValueError:
    scheduler = family.pipe.scheduler
    said = {name: scheduler.config.get(name) for name in ("prediction_type", "timestep_type", "invert_sigmas")}
    got = ", ".join(f"{name} {shown(value)}" for name, value in said.items() if value)
    allowed = (
        "FlowMatchEulerDiscreteScheduler and its like, or one with use_flow_sigmas, with t from 1 for noise to 0"
        if family.flows
        else f"those with discrete levels (alphas_cumprod; timestep_type 'discrete'), {' and '.join(EDM)}, with the "
        f"prediction_type {' or '.join(map(repr, DISCRETE))}"
    )
    return ValueError(
        f"scheduler: got a {type(scheduler).__name__}{f' with {got}' if got else ''} for a "
        f"{type(family.pipe).__name__}; allowed are {allowed}. Give the pipeline the scheduler that its weights were "
        "published with."
    )


def _schedule(scheduler: Any) -> DiscreteSchedule:  # noqa: ANN401 - the library's
    """The noise levels of a scheduler, ascending; the last one finite, whatever the scheduler itself puts there."""
    alphas = scheduler.alphas_cumprod.to("cpu", torch.float64, copy=True)
    if alphas[-1] == 0 or scheduler.config.get("rescale_betas_zero_snr"):
        alphas[-1] = min(TERMINAL, float(alphas[-2]) / 2)
    return DiscreteSchedule(alphas)
