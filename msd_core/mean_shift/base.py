"""What an estimator of the mean shift is, and what most of them share.

    (x', info) = estimator(x, denoiser, bandwidth, rng),   x' = E[y] under p(y) N(y; x, bandwidth^2)

x has shape (B, *). An estimator is a frozen dataclass of its own options and a pure function of its arguments; all
samples of all rows are walked as one batch; nothing is differentiated, and what a model returns is passed on as it is:
a NaN from it is in the result.

`Walking` holds the options of the estimators that walk a list of noise levels, `Centred` those of the estimators whose
kernel may be centred on the DDIM inversion of x instead of x itself (Mean-Shift Distillation, section 4.3). Both are
abstract: they hold options and say what they mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, at_least_float32, check_denoiser, data_std, sigma_range
from ..guidance import with_cfg
from ..info import Info, measure
from ..inversion import Trajectory, ddim_invert
from ..randomness import Rng, draw_normal
from ..sampling import SOLVERS, Step, check_sigmas, solver_step
from ..settings import check_settings, setting
from ..validation import as_finite, check_instance, check_number, check_positive, check_same_shape
from .levels import product_sigmas

CENTRES = ("x", "inversion")


class Estimator(Protocol):
    """An estimator of the mean shift. Where it evaluates several rows per row of x it says so in ``samples``."""

    def __call__(self, x: Tensor, denoiser: Denoiser, bandwidth: float, rng: Rng | None) -> tuple[Tensor, Info]:
        """x' of x's shape (B, *), and the `Info` of m = x' - x.

        ``Info.sigma`` is the highest level at which the model was asked.
        """
        ...


@dataclass(frozen=True)
class Task:
    """A mean shift to estimate, its arguments checked: what an estimator's ``estimate`` is given.

    Attributes:
        x: the point, (B, *), at least float32, detached.
        denoiser: counts what it is asked.
        bandwidth: lambda.
        rng: where noise comes from.
        centre: the kernel's centre (B, *) at a noise level.
    """

    x: Tensor
    denoiser: RowCounter
    bandwidth: float
    rng: Rng | None
    centre: Callable[[float], Tensor]

    @property
    def sigma_max(self) -> float:
        """The highest level that the model was made for."""
        return sigma_range(self.denoiser)[1]

    @property
    def data_std(self) -> float:
        """The standard deviation of the model's data."""
        return data_std(self.denoiser)


@dataclass(frozen=True, kw_only=True)
class Checked(ABC):
    """An estimator whose arguments are checked, whose evaluations are counted, and whose result is measured."""

    def __post_init__(self) -> None:
        check_settings(self)

    @abstractmethod
    def estimate(self, task: Task) -> tuple[Tensor, float]:
        """x' (B, *), and the highest level at which the model was asked."""

    @torch.no_grad()
    def __call__(self, x: Tensor, denoiser: Denoiser, bandwidth: float, rng: Rng | None = None) -> tuple[Tensor, Info]:
        """x' of ``x`` (B, *) under the kernel of standard deviation ``bandwidth``, and the `Info` of m = x' - x.

        Raises:
            ValueError: for an argument out of range, or noise that is needed and not there.
        """
        x, bandwidth = check_point(x, bandwidth)
        check_denoiser(denoiser)
        return self.measured(Task(x, RowCounter(denoiser), bandwidth, rng, lambda _: x))

    def measured(self, task: Task, spent: int = 0) -> tuple[Tensor, Info]:
        """`estimate` and its `Info`, ``spent`` evaluations included."""
        target, sigma = self.estimate(task)
        return target, measure(target - task.x, task.denoiser.rows + spent, sigma=sigma, bandwidth=task.bandwidth)


def check_point(x: Tensor, bandwidth: float) -> tuple[Tensor, float]:
    """``x`` detached and at least float32, and ``bandwidth`` as a number; refuses what is neither."""
    x = as_finite("x", x)
    if isinstance(bandwidth, Tensor) and bandwidth.numel() != 1:
        raise ValueError(f"bandwidth: got shape {tuple(bandwidth.shape)}; allowed is one number. Loop over bandwidths.")
    one: Any = bandwidth.reshape(()) if isinstance(bandwidth, Tensor) else bandwidth
    check_positive("bandwidth", one)
    check_number("bandwidth", one, "Its square has to be a number.", low=1e-150, high=1e150)
    return at_least_float32(x.detach()), float(bandwidth)


def sigmas_setting() -> Any:  # noqa: ANN401 - a field
    """The field ``sigmas`` of an estimator that needs a list of noise levels."""
    return setting(
        None, "the levels themselves, falling to 0, instead of steps", kind=float, length=-1, optional=True, hidden=True
    )


def levels_setting(default: int) -> Any:  # noqa: ANN401 - a field
    """The field ``steps`` of an estimator that chooses its noise levels."""
    text = "noise levels of one draw: the evaluations of one mean shift"
    return setting(default, text, low=1, usual=(1, 1000), flag="solver_steps")


@dataclass(frozen=True, kw_only=True)
class Walking(Checked):
    """The options of an estimator that walks N samples down a list of noise levels.

    Raises:
        ValueError: for a value out of range.
    """

    solver: str = setting(
        "ddim", "of the sampling ODE: heun is of second order, at twice the evaluations", choices=SOLVERS, expert=True
    )
    steps: int = levels_setting(8)
    samples: int = setting(1, "draws averaged for one mean shift, evaluated as one batch", low=1, usual=(1, 256))
    antithetic: bool = setting(False, "draw the noise in pairs of opposite sign; samples must be even", expert=True)
    sigmas: tuple[float, ...] | None = sigmas_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.antithetic and self.samples % 2:
            raise ValueError(f"samples: got {self.samples} with antithetic; allowed is an even number. Draw one more.")
        check_levels(self.sigmas)

    def highest(self, bandwidth: float, sigma_max: float) -> float:
        """Cap on the levels that are chosen, for a model that knows none above ``sigma_max``."""
        return sigma_max

    def levels(self, bandwidth: float, sigma_max: float, data_std: float = 1.0) -> list[float]:
        """The levels to walk, descending to 0: those given, or `product_sigmas` below `highest`."""
        if self.sigmas is not None:
            return list(self.sigmas)
        top = self.highest(bandwidth, sigma_max)
        return product_sigmas(bandwidth, self.steps, data_std=data_std, sigma_max=top).tolist()

    def step(self) -> Step:
        """One step of the solver."""
        return solver_step(self.solver)

    def noise(self, task: Task) -> Tensor:
        """Standard normal noise (N, B, *) of the samples; with ``antithetic`` the second half is minus the first."""
        drawn = draw_normal(task.x, task.rng, self.samples // 2 if self.antithetic else self.samples)
        return torch.cat([drawn, -drawn]) if self.antithetic else drawn


def check_levels(sigmas: tuple[float, ...] | None) -> None:
    """Refuse levels that do not fall strictly to 0."""
    if sigmas is None:
        return
    levels = check_sigmas(torch.tensor(sigmas, dtype=torch.float64))
    if levels[-1] != 0:
        raise ValueError(f"sigmas: the last entry is {levels[-1]}; allowed is 0, where x' lives. Append a 0.")


def scatter(around: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """The starts ``around + sigma noise`` of all walks: (N B, *), sample by sample."""
    return (around + sigma * noise).flatten(0, 1)


def repeat(rows: Tensor, noise: Tensor) -> Tensor:
    """``rows`` (B, *) once a sample: (N B, *), in the order of `scatter`."""
    return rows.repeat(noise.shape[0], *(1,) * (rows.ndim - 1))


def average(y: Tensor, noise: Tensor) -> Tensor:
    """The mean over samples of the walks' ends (N B, *): (B, *)."""
    return y.unflatten(0, noise.shape[:2]).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class Centred(Checked):
    """The options of an estimator whose kernel may be centred on the inversion of x.

    Raises:
        ValueError: for a value out of range, or ``inversion_cfg`` where nothing is inverted.
    """

    centre: str = setting(
        "x", "of the kernel: x, or its DDIM inversion at each level (inversion)", choices=CENTRES, expert=True
    )
    inversion_cfg: float | None = setting(
        None,
        "guidance scale of the inversion; none inverts with the run's own",
        kind=float,
        optional=True,
        expert=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.centre == "x" and self.inversion_cfg is not None:
            raise ValueError(
                f"inversion_cfg: got {self.inversion_cfg} with centre 'x', where nothing is inverted; allowed is None. "
                "Set centre='inversion', or leave it out."
            )

    @abstractmethod
    def centre_levels(self, bandwidth: float, sigma_max: float, data_std: float = 1.0) -> list[float]:
        """The levels, descending to 0, at which a centre is needed."""

    @torch.no_grad()
    def __call__(
        self,
        x: Tensor,
        denoiser: Denoiser,
        bandwidth: float,
        rng: Rng | None = None,
        *,
        centre: Trajectory | None = None,
    ) -> tuple[Tensor, Info]:
        """As `Checked`; ``centre``, an inversion of x, is used instead of making one."""
        x, bandwidth = check_point(x, bandwidth)
        check_denoiser(denoiser)
        spent = 0
        if centre is not None:
            check_instance("centre", centre, Trajectory, "a Trajectory. Pass ddim_invert(x, denoiser, sigmas)")
            check_same_shape("centre", centre.states[0], "x", x)
        elif self.centre == "inversion":
            levels = self.centre_levels(bandwidth, sigma_range(denoiser)[1], data_std(denoiser))
            walk = torch.tensor(levels, dtype=torch.float64)
            centre = ddim_invert(x, with_cfg(denoiser, self.inversion_cfg), walk)
            spent = centre.evaluations
        at = (lambda _: x) if centre is None else (lambda sigma: centre.at(sigma).to(x))
        return self.measured(Task(x, RowCounter(denoiser), bandwidth, rng, at), spent)
