"""Mean-Shift Distillation without a host: denoisers, samplers, estimators, methods, generators, and the loop.

Everything speaks one coordinate system, z = y + sigma n, and one function type, ``denoiser(z, sigma) -> E[y | z]``.
Public names are imported from their files when they are first asked for.
"""

from __future__ import annotations

from typing import Any

from .lazy import lazy_package

_FILES = {
    "bandwidth": (
        "BANDWIDTHS Bandwidths Cosine Exponential Karras Linear Listed Piecewise bandwidth_schedule check_bandwidths"
    ),
    "denoiser": "Denoiser cost differentiable eps expand_sigma score sigma_range with_levels",
    "densities": "GaussianMixture IdealDenoiser",
    "distil": "distil run",
    "distillation": "METHODS MSD SDI SDS Method",
    "finite": "NonFiniteError",
    "generators": (
        "GENERATORS Batch Canvas Generator Latent NeuralImage Pixels Points View generator_for_size load_generator "
        "make_generator save_generator"
    ),
    "guidance": "Guided GuidedDenoiser guide guided",
    "info": "Info measure",
    "inversion": "INVERSIONS AncestralStep ExplicitStep Trajectory ddim_invert invert",
    "mean_shift": "ESTIMATORS Estimator mean_shift product_sigmas",
    "mean_shift.exact": "Exact",
    "mean_shift.naive": "Naive",
    "mean_shift.one_step": "OneStep",
    "mean_shift.split": "Split",
    "model": "MODELS Model load_model",
    "optimize": "ByView optimize start",
    "optimizers": "OptimizerConfig",
    "parametrization": "EpsDenoiser FlowDenoiser VDenoiser",
    "preset": "Preset preset_of",
    "product": "ProductDenoiser product_denoiser",
    "pull": "ImagePull LatentPull Masked Pull",
    "randomness": "GivenNoise Rng draw_normal draw_uniform seeded",
    "sampling": "SOLVERS ddim_sample ddim_steps heun_steps",
    "schedule": "SIGMA_SCHEDULES DiscreteSchedule sd15_schedule sigma_schedule",
    "settings": "check_settings setting settings_of settings_table",
    "state": "State load_state save_state",
}

__all__ = [*lazy_package(__name__, _FILES), "register_estimator", "register_generator", "register_method"]  # pyright: ignore[reportUnsupportedDunderAll]


def register_method(name: str, method: type) -> None:
    """Add a distillation method, a frozen dataclass as `distillation.base` says: to the command line and the nodes.

    Raises:
        ValueError: the name is taken.
    """
    from .distillation import METHODS

    METHODS.register(name, method)


def register_estimator(name: str, estimator: type) -> None:
    """Add an estimator of the mean shift, a frozen dataclass as `mean_shift.base` says.

    Raises:
        ValueError: the name is taken.
    """
    from .mean_shift import ESTIMATORS

    ESTIMATORS.register(name, estimator)


def register_generator(name: str, generator: Any) -> None:  # noqa: ANN401 - a class, or what stands for one
    """Add a kind of generator, as `generators.base` says; its ``kind`` must be ``name``.

    Raises:
        ValueError: the name is taken.
    """
    from .generators import GENERATORS

    GENERATORS.register(name, generator)
