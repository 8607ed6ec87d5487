"""Mean-Shift Distillation without a host: densities, denoisers, samplers, estimators.

Everything speaks one coordinate system, z = y + sigma n, and one function type, ``denoiser(z, sigma) -> E[y | z]``.
"""

from __future__ import annotations

from .bandwidth import BANDWIDTH_SCHEDULES, bandwidth_schedule, check_bandwidths, stop_below
from .denoiser import Denoiser, cost, eps, expand_sigma, score, sigma_range
from .densities import GaussianMixture, IdealDenoiser
from .guidance import GuidedDenoiser
from .info import Info, measure
from .inversion import Trajectory, ddim_invert
from .mean_shift import ESTIMATORS, mean_shift, product_sigmas
from .parametrization import EpsDenoiser, FlowDenoiser, VDenoiser
from .product import ProductDenoiser, product_denoiser
from .sampling import SOLVERS, ddim_sample, ddim_steps, heun_sample, heun_steps
from .schedule import SIGMA_SCHEDULES, DiscreteSchedule, sd15_schedule, sigma_schedule

__all__ = [
    "BANDWIDTH_SCHEDULES",
    "ESTIMATORS",
    "SIGMA_SCHEDULES",
    "SOLVERS",
    "Denoiser",
    "DiscreteSchedule",
    "EpsDenoiser",
    "FlowDenoiser",
    "GaussianMixture",
    "GuidedDenoiser",
    "IdealDenoiser",
    "Info",
    "ProductDenoiser",
    "Trajectory",
    "VDenoiser",
    "bandwidth_schedule",
    "check_bandwidths",
    "cost",
    "ddim_invert",
    "ddim_sample",
    "ddim_steps",
    "eps",
    "expand_sigma",
    "heun_sample",
    "heun_steps",
    "mean_shift",
    "measure",
    "product_denoiser",
    "product_sigmas",
    "score",
    "sd15_schedule",
    "sigma_range",
    "sigma_schedule",
    "stop_below",
]
