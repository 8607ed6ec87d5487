"""Mean-Shift Distillation without a host: densities, denoisers, samplers, estimators.

Everything speaks one coordinate system, z = y + sigma n, and one function type, ``denoiser(z, sigma) -> E[y | z]``.
"""

from __future__ import annotations

from .bandwidth import BANDWIDTH_SCHEDULES, bandwidth_schedule, check_bandwidths, stop_below
from .denoiser import Denoiser, cost, eps, expand_sigma, score, sigma_range
from .guidance import GuidedDenoiser
from .info import Info
from .product import ProductDenoiser, product_denoiser
from .schedule import SIGMA_SCHEDULES, DiscreteSchedule, sd15_schedule, sigma_schedule

__all__ = [
    "BANDWIDTH_SCHEDULES",
    "SIGMA_SCHEDULES",
    "Denoiser",
    "DiscreteSchedule",
    "GuidedDenoiser",
    "Info",
    "ProductDenoiser",
    "bandwidth_schedule",
    "check_bandwidths",
    "cost",
    "eps",
    "expand_sigma",
    "product_denoiser",
    "score",
    "sd15_schedule",
    "sigma_range",
    "sigma_schedule",
    "stop_below",
]
