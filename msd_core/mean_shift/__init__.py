"""The mean shift of a point under a density that is known by its denoiser.

    x' = E[y] under p(y) N(y; x, lambda^2) / Z,   m(x) = x' - x = lambda^2 grad log (p * N(0, lambda^2))(x)

(Mean-Shift Distillation, Eqs. 4-8). Estimators of x', one a file, each owning its options: `naive` (Eq. 12), `split`
(Eq. 15), `exact` (draws from the product density through its own denoiser), `one_step` (D(x; lambda)) and `noised`
(D where x has noise). `base` says what one is. To add one: write its file, and enter it in `ESTIMATORS`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..denoiser import Denoiser
from ..echo import shown
from ..info import Info
from ..inversion import Trajectory
from ..randomness import GivenNoise, Rng
from ..registry import Registry
from ..sampling import check_sigmas
from ..settings import settings_of
from .base import CENTRES, Centred, Estimator
from .levels import product_sigmas

ESTIMATORS = Registry(
    "estimator",
    __name__,
    {
        "naive": "naive:Naive",
        "split": "split:Split",
        "exact": "exact:Exact",
        "one-step": "one_step:OneStep",
        "noised": "noised:Noised",
    },
)
"""Name to the class of an estimator."""

DEFAULT_STEPS = 32

__all__ = ["CENTRES", "DEFAULT_STEPS", "ESTIMATORS", "Estimator", "mean_shift", "product_sigmas"]


def mean_shift(
    x: Tensor,
    denoiser: Denoiser,
    bandwidth: float,
    *,
    estimator: str | Estimator = "exact",
    sigmas: Tensor | None = None,
    steps: int | None = None,
    rng: Rng | None = None,
    noise: Tensor | None = None,
    centre: Trajectory | None = None,
    **options: Any,  # noqa: ANN401 - the estimator's own
) -> tuple[Tensor, Info]:
    """Estimate x' = E[y] under ``p(y) N(y; x, bandwidth^2)``, where ``denoiser`` is the denoiser of p (Eq. 8).

    Args:
        x: points (B, *); half precision is promoted to float32.
        denoiser: ``(z, sigma) -> E[y | z]``.
        bandwidth: standard deviation lambda > 0 of the kernel, in units of x.
        estimator: one of `ESTIMATORS` by name, or such an estimator with its options.
        sigmas: noise levels to walk, strictly decreasing to 0, shape (steps + 1,); default `product_sigmas`, below the
            model's ``sigma_max``.
        steps: number of steps of the default levels, in place of ``sigmas``; 32 if neither is given.
        rng: source of the noise; it or ``noise`` is required where noise is drawn.
        noise: the noise itself, shape (N, *x.shape), or (N/2, *x.shape) with ``antithetic``; x's shape if that is 1.
        centre: inversion of x whose state at each level is the kernel's centre there, instead of x (section 4.3).
        options: further ones of an estimator given by name: ``samples``, ``truncation``, ...; see its class.

    Returns:
        x' of x's shape, and the `Info` of m = x' - x. Its ``sigma`` is the highest level at which the model was asked.

    Raises:
        ValueError: for an argument out of range, or one that the estimator does not know.
    """
    if isinstance(estimator, str):
        chosen: Estimator = _named(estimator, sigmas, steps, options)
    elif sigmas is not None or steps is not None or options:
        given = {"sigmas": sigmas, "steps": steps, **options}
        names = ", ".join(name for name, value in given.items() if value is not None)
        raise ValueError(f"{names}: got beside {shown(estimator)}, which holds its own options. Set them there.")
    else:
        chosen = ESTIMATORS.made("estimator", estimator)
    source = rng if noise is None else GivenNoise(noise)
    if centre is None:
        return chosen(x, denoiser, bandwidth, source)
    if not isinstance(chosen, Centred):
        raise ValueError(
            f"centre: got {shown(centre)} with the estimator {ESTIMATORS.name_of(chosen)!r}; allowed with "
            f"{_centred()}. Leave it out or change the estimator."
        )
    return chosen(x, denoiser, bandwidth, source, centre=centre)


def _named(name: str, sigmas: Tensor | None, steps: int | None, options: dict[str, Any]) -> Estimator:
    """The estimator called ``name``; options that are None are left out."""
    kind = ESTIMATORS.find("estimator", name)
    if sigmas is not None and steps is not None:
        raise ValueError(f"steps: got {shown(steps)} together with sigmas; allowed is one of the two. Leave one out.")
    known = settings_of(kind)
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if key not in known:
            users = ", ".join(other for other, cls in ESTIMATORS.items() if key in settings_of(cls))
            raise ValueError(
                f"{key}: got {shown(value)} with the estimator {name!r}; allowed with {users or 'none'}. Leave it out "
                "or change the estimator."
            )
    if sigmas is not None and "sigmas" in known:
        given["sigmas"] = tuple(check_sigmas(sigmas))
    elif "steps" in known:
        given["steps"] = DEFAULT_STEPS if steps is None else steps
    return kind(**given)


def _centred() -> str:
    return ", ".join(name for name, kind in ESTIMATORS.items() if issubclass(kind, Centred))
