"""The defaults of a run, all in one place: a frozen preset for each method, shared by the command line and the nodes.

A preset holds numbers and names only, so that it can be shown, changed with ``dataclasses.replace`` and written as
JSON; ``method`` turns it into the method itself. ``pull`` is one of `PULLS`: "latent" is the paper's, x through the
encoder; "image" pulls the picture itself, towards the decoded target (see `optimize`). What the other values mean is
said where they are used: in `MSD`, `SDS`, `SDI`, `bandwidth_schedule` and `OptimizerConfig`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .bandwidth import bandwidth_schedule
from .distillation import MSD, SDI, SDS, Levels, Method
from .optimizers import OptimizerConfig
from .validation import check_choice

PULLS = ("image", "latent")


@dataclass(frozen=True)
class Preset(ABC):
    """What every method has.

    Raises:
        ValueError: ``pull`` is not one of `PULLS`.
    """

    steps: int = 120
    cfg: float = 3.0
    optimizer: str = "adam"
    lr: float = 1e-2
    pull: str = "image"

    def __post_init__(self) -> None:
        check_choice("pull", self.pull, PULLS)

    @abstractmethod
    def method(self, levels: Levels) -> Method:
        """The method, on the model's noise ``levels``."""

    def planned_steps(self) -> int:
        """Steps that the run will do."""
        return self.steps

    def optimizer_config(self) -> OptimizerConfig:
        """The optimiser."""
        return OptimizerConfig(self.optimizer, self.lr)


@dataclass(frozen=True)
class MSDPreset(Preset):
    """Mean-Shift Distillation: the bandwidth falls from ``bandwidth_start`` to ``bandwidth_end`` over ``steps``."""

    bandwidth_schedule: str = "exponential"
    bandwidth_start: float = 8.0
    bandwidth_end: float = 0.7
    bandwidth_points: Sequence[tuple[float, float]] | None = None
    min_bandwidth: float = 0.0
    lr_coupling: float | None = None
    estimator: str = "exact"
    solver: str = "ddim"
    solver_steps: int = 8
    samples: int = 1
    antithetic: bool = False
    centre: str = "x"
    interval: tuple[float, float] | None = None
    truncation: float | None = None
    inversion_cfg: float | None = None

    def bandwidths(self) -> Tensor:
        """The bandwidth of every step, (steps,).

        Raises:
            ValueError: they do not decrease, or an end of the schedule is not positive.
        """
        ends = self.bandwidth_start, self.bandwidth_end
        try:
            return bandwidth_schedule(self.bandwidth_schedule, *ends, self.steps, points=self.bandwidth_points)
        except ValueError as error:
            raise ValueError(f"bandwidth schedule, {error}") from error

    def planned_steps(self) -> int:
        """Steps that the run will do: those with a bandwidth of at least ``min_bandwidth``."""
        return int((self.bandwidths() >= self.min_bandwidth).sum())

    def optimizer_config(self) -> OptimizerConfig:
        """The optimiser, its learning rate coupled to the bandwidth if ``lr_coupling`` is set."""
        return OptimizerConfig(self.optimizer, self.lr, lr_coupling=self.lr_coupling)

    def method(self, levels: Levels) -> MSD:
        """The method; the model's noise ``levels`` are not needed."""
        return MSD(
            self.bandwidths(),
            estimator=self.estimator,
            solver=self.solver,
            solver_steps=self.solver_steps,
            samples=self.samples,
            antithetic=self.antithetic,
            centre=self.centre,
            interval=self.interval,
            truncation=self.truncation,
            inversion_cfg=self.inversion_cfg,
        )


@dataclass(frozen=True)
class SDSPreset(Preset):
    """Score Distillation Sampling."""

    steps: int = 400
    weighting: str = "sigma"
    anneal: str = "none"
    t_min: float = 0.02
    t_max: float = 0.98

    def method(self, levels: Levels) -> SDS:
        """The method, on the model's noise ``levels``."""
        return SDS(levels, weighting=self.weighting, t_min=self.t_min, t_max=self.t_max, anneal=self.anneal)


@dataclass(frozen=True)
class SDIPreset(Preset):
    """Score Distillation via Inversion."""

    anneal: str = "linear"
    t_min: float = 0.02
    t_max: float = 0.98
    inversion_steps: int = 10
    inversion_cfg: float = -7.5
    eta: float = 0.3

    def method(self, levels: Levels) -> SDI:
        """The method, on the model's noise ``levels``."""
        return SDI(
            levels,
            t_min=self.t_min,
            t_max=self.t_max,
            anneal=self.anneal,
            inversion_steps=self.inversion_steps,
            inversion_cfg=self.inversion_cfg,
            eta=self.eta,
        )


PRESETS: dict[str, Preset] = {"msd": MSDPreset(), "sds": SDSPreset(), "sdi": SDIPreset()}
"""Name of the method to its defaults; the names are those of `METHODS`."""
