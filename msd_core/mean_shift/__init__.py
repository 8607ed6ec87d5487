"""The mean shift of a point under a density that is known by its denoiser.

    x' = E[y] under p(y) N(y; x, lambda^2) / Z,   m(x) = x' - x = lambda^2 grad log (p * N(0, lambda^2))(x)

(Mean-Shift Distillation, Eqs. 4-8). Four estimators of x', one a file: `naive` (Eq. 12), `split` (Eq. 15), `exact`
(draws from the product density through its own denoiser) and `one_step` (D(x; lambda)).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, at_least_float32, sigma_range
from ..info import Info, measure
from ..inversion import Trajectory
from ..sampling import check_sigmas, solver_step
from ..validation import check_choice, check_count, check_floating, check_positive, check_same_shape
from .exact import exact
from .levels import product_sigmas
from .naive import naive
from .one_step import one_step
from .problem import Problem
from .split import split

_ESTIMATORS: dict[str, Callable[[Problem, Denoiser], Tensor]] = {
    "naive": naive,
    "split": split,
    "exact": exact,
    "one-step": one_step,
}
ESTIMATORS = tuple(_ESTIMATORS)
DEFAULT_STEPS = 32


@torch.no_grad()
def mean_shift(
    x: Tensor,
    denoiser: Denoiser,
    bandwidth: float,
    *,
    estimator: str = "exact",
    sigmas: Tensor | None = None,
    steps: int | None = None,
    samples: int = 1,
    antithetic: bool = False,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    centre: Trajectory | None = None,
    interval: tuple[float, float] | None = None,
    truncation: float | None = None,
    solver: str = "ddim",
) -> tuple[Tensor, Info]:
    """Estimate x' = E[y] under ``p(y) N(y; x, bandwidth^2)``, where ``denoiser`` is the denoiser of p (Eq. 8).

    All samples of all rows are walked as one batch. Nothing is differentiated, and what a model returns is passed on
    as it is: a NaN from it, or from the unstable naive estimator, is in the result.

    Args:
        x: points (B, *); half precision is promoted to float32.
        denoiser: ``(z, sigma) -> E[y | z]``.
        bandwidth: standard deviation lambda > 0 of the kernel, in units of x.
        estimator: one of `ESTIMATORS`.
        sigmas: noise levels to walk, strictly decreasing to 0; default `product_sigmas`, below the model's
            ``sigma_max``. Not used by "one-step".
        steps: number of steps of the default levels, in place of ``sigmas``; 32 if neither is given.
        samples: draws N that are averaged. "one-step", and "split" with ``truncation``, draw nothing: they evaluate
            once, whatever N.
        antithetic: draw N/2 noises and use each with both signs.
        generator: source of the noise; it or ``noise`` is required where noise is drawn.
        noise: the noise itself, shape (N, *x.shape), or (N/2, *x.shape) with ``antithetic``; x's shape if that is 1.
        centre: inversion of x whose state at each level is the kernel's centre there, instead of x (section 4.3). For
            "naive" and "split"; for "one-step" the model is asked at its state at level lambda.
        interval: levels (low, high) outside which the kernel does not act; "naive" and "split" only (section 4.3).
        truncation: c > 0, "split" only: start at the largest level <= c lambda, at the centre. With 2, x' changes by
            less than the estimator's own bias, and the steps above are saved.
        solver: one of `SOLVERS`.

    Returns:
        x' of x's shape, and the `Info` of m = x' - x. Its ``sigma`` is the highest level at which the model was asked.

    Raises:
        ValueError: for an argument out of range, or one that the estimator does not know.
    """
    check_floating("x", x)
    check_choice("estimator", estimator, ESTIMATORS)
    _check_options(estimator, bandwidth, centre, interval, truncation)
    bandwidth = float(bandwidth)
    x = at_least_float32(x.detach())
    if centre is not None:
        check_same_shape("centre", centre.states[0], "x", x)
    sigma_max = sigma_range(denoiser)[1]
    if sigmas is None:
        steps = DEFAULT_STEPS if steps is None else steps
        sigmas = default_sigmas(estimator, bandwidth, steps, sigma_max)
    elif steps is not None:
        raise ValueError(f"steps: got {steps} together with sigmas; allowed is one of the two. Leave one out.")
    levels = _levels(sigmas, bandwidth, truncation)
    drawn = None
    if estimator != "one-step" and truncation is None:
        drawn = _noise(x, samples, antithetic, generator, noise)
    problem = Problem(
        x=x,
        bandwidth=bandwidth,
        levels=levels,
        noise=drawn,
        step=solver_step(solver),
        centre=(lambda _: x) if centre is None else (lambda sigma: centre.at(sigma).to(x)),
        interval=(0.0, math.inf) if interval is None else interval,
    )
    counted = RowCounter(denoiser)
    target = _ESTIMATORS[estimator](problem, counted)
    sigma = {"one-step": bandwidth, "exact": min(bandwidth, sigma_max)}.get(estimator, levels[0])
    return target, measure(target - x, counted.rows, sigma=sigma, bandwidth=bandwidth)


def _check_options(
    estimator: str,
    bandwidth: float,
    centre: Trajectory | None,
    interval: tuple[float, float] | None,
    truncation: float | None,
) -> None:
    """Refuse a bad bandwidth, and options out of range or unknown to the estimator."""
    if isinstance(bandwidth, Tensor) and bandwidth.numel() != 1:
        raise ValueError(f"bandwidth: got shape {tuple(bandwidth.shape)}; allowed is one number. Loop over bandwidths.")
    check_positive("bandwidth", bandwidth)
    users = {"centre": ("naive", "split", "one-step"), "interval": ("naive", "split"), "truncation": ("split",)}
    for name, value in (("centre", centre), ("interval", interval), ("truncation", truncation)):
        if value is not None and estimator not in users[name]:
            raise ValueError(
                f"{name}: got {value!r} with the estimator {estimator!r}; allowed with {', '.join(users[name])}. "
                "Leave it out or change the estimator."
            )
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError(f"interval: got {interval}; allowed is (low, high) with 0 <= low < high, in noise levels.")
    if truncation is not None:
        check_positive("truncation", truncation)


def default_sigmas(estimator: str, bandwidth: float, steps: int, sigma_max: float) -> Tensor:
    """`product_sigmas`, capped so that the model is asked at no level above its ``sigma_max``.

    The product denoiser asks it at level (1/sigma^2 + 1/lambda^2)^(-1/2), which is below lambda for every sigma. The
    naive estimator starts at 3 lambda, from where its explicit steps are stable if there are 16 or more.
    """
    if estimator == "naive":
        sigma_max = min(sigma_max, 3 * bandwidth)
    elif estimator == "exact":
        sigma_max = math.inf if bandwidth <= sigma_max else sigma_max / math.sqrt(1 - (sigma_max / bandwidth) ** 2)
    return product_sigmas(bandwidth, steps, sigma_max=sigma_max)


def _levels(sigmas: Tensor, bandwidth: float, truncation: float | None) -> list[float]:
    """The levels to walk, checked to end in 0, without those above ``truncation * bandwidth``."""
    levels = check_sigmas(sigmas)
    if levels[-1] != 0:
        raise ValueError(f"sigmas: the last entry is {levels[-1]}; allowed is 0, where x' lives. Append a 0.")
    if truncation is not None:
        levels = [level for level in levels if level <= truncation * bandwidth]
        if len(levels) < 2:
            raise ValueError(
                f"truncation: got {truncation} with bandwidth {bandwidth}; no non-zero level of sigmas is below their "
                f"product, and the lowest is {float(sigmas[-2]):g}. Use a larger truncation or lower levels."
            )
    return levels


def _noise(
    x: Tensor, samples: int, antithetic: bool, generator: torch.Generator | None, noise: Tensor | None
) -> Tensor:
    """Standard normal noise (N, B, *), given or drawn; with ``antithetic`` the second half is minus the first."""
    check_count("samples", samples)
    if antithetic and samples % 2:
        raise ValueError(f"samples: got {samples} with antithetic; allowed is an even number. Draw one more.")
    shape = (samples // 2 if antithetic else samples, *x.shape)
    if noise is not None:
        if tuple(noise.shape) != shape and (shape[0] != 1 or noise.shape != x.shape):
            raise ValueError(f"noise: got shape {tuple(noise.shape)}; allowed is {shape}, one a draw. Reshape it.")
        drawn = noise.to(x).reshape(shape)
    elif generator is not None:
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
    else:
        raise ValueError(
            "generator: got None, and no noise; allowed is a torch.Generator, since this estimator draws noise. "
            "Pass generator=torch.Generator().manual_seed(0)."
        )
    return torch.cat([drawn, -drawn]) if antithetic else drawn
