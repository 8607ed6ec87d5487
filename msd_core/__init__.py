"""Mean-Shift Distillation without a host: densities, denoisers, samplers, estimators, generators, and the loop.

Everything speaks one coordinate system, z = y + sigma n, and one function type, ``denoiser(z, sigma) -> E[y | z]``.
"""

from __future__ import annotations

from .bandwidth import BANDWIDTH_SCHEDULES, bandwidth_schedule, check_bandwidths, stop_below
from .denoiser import Denoiser, cost, eps, expand_sigma, score, sigma_range
from .densities import GaussianMixture, IdealDenoiser
from .distillation import METHODS, MSD, SDI, SDS
from .generators import (
    GENERATORS,
    Generator,
    Latent,
    NeuralImage,
    Pixels,
    load_generator,
    make_generator,
    save_generator,
)
from .guidance import GuidedDenoiser
from .info import Info, measure
from .inversion import Trajectory, ddim_invert
from .mean_shift import ESTIMATORS, mean_shift, product_sigmas
from .optimize import NonFiniteError, OptimizerConfig, State, load_state, optimize, save_state
from .parametrization import EpsDenoiser, FlowDenoiser, VDenoiser
from .points import optimize_points
from .product import ProductDenoiser, product_denoiser
from .sampling import SOLVERS, ddim_sample, ddim_steps, heun_sample, heun_steps
from .schedule import SIGMA_SCHEDULES, DiscreteSchedule, sd15_schedule, sigma_schedule

__all__ = [
    "BANDWIDTH_SCHEDULES",
    "ESTIMATORS",
    "GENERATORS",
    "METHODS",
    "MSD",
    "SDI",
    "SDS",
    "SIGMA_SCHEDULES",
    "SOLVERS",
    "Denoiser",
    "DiscreteSchedule",
    "EpsDenoiser",
    "FlowDenoiser",
    "GaussianMixture",
    "Generator",
    "GuidedDenoiser",
    "IdealDenoiser",
    "Info",
    "Latent",
    "NeuralImage",
    "NonFiniteError",
    "OptimizerConfig",
    "Pixels",
    "ProductDenoiser",
    "State",
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
    "load_generator",
    "load_state",
    "make_generator",
    "mean_shift",
    "measure",
    "optimize",
    "optimize_points",
    "product_denoiser",
    "product_sigmas",
    "save_generator",
    "save_state",
    "score",
    "sd15_schedule",
    "sigma_range",
    "sigma_schedule",
    "stop_below",
]
