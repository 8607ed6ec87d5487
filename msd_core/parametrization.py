"""What networks predict, turned into denoisers: the only place where epsilon, v, flow and EDM's networks differ.

A network sees its own coordinates; a denoiser speaks z = y + sigma n.

    epsilon   x = z / sqrt(1 + sigma^2)   D = z - sigma eps                                       (Ho et al. 2020)
    v         x = z / sqrt(1 + sigma^2)   D = z / (1 + sigma^2) - v sigma / sqrt(1 + sigma^2)     (Salimans & Ho 2022)
    flow      x = z / (1 + sigma)         D = x - t u with t = sigma / (1 + sigma), u = n - y     (Lipman et al. 2023)
    EDM       x = z / r                   D = s^2 z / r^2 +- s sigma F / r, r = sqrt(sigma^2 + s^2)
                                                              (Karras et al. 2022, Eq. 7, Table 1; - where F is a v)

Networks are called as ``network(x, t)`` with t of shape (B,), float32: the fractional step of the `DiscreteSchedule`
for epsilon and v, the time in [0, 1] for flow, log(sigma) / 4 for EDM. What they return may be in any precision; the
coefficients are applied in that of z, or in float32 if z is in half precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from .denoiser import Sigma, at_least_float32, checked, expand_sigma
from .echo import shown
from .schedule import DiscreteSchedule
from .validation import as_floating, check_callable, check_choice, check_number, check_positive

Network: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def _predicted(network: Network, x: Tensor, t: Tensor) -> Tensor:
    """``network(x, t)``, refused where it is no floating-point tensor of x's shape."""
    return checked("network", network(x, t), x)


def _check_network(network: object) -> None:
    check_callable("network", network, "a network, a callable (x, t) -> prediction")


def _check_schedule(schedule: object) -> None:
    if not hasattr(schedule, "timestep"):
        raise ValueError(f"schedule: got {shown(schedule)}; allowed is a DiscreteSchedule. Pass sd15_schedule().")


@dataclass(frozen=True)
class EpsDenoiser:
    """The denoiser of a network that predicts the noise n; equation above.

    Args:
        network: ``(x (B, *), t (B,)) -> eps (B, *)``.
        schedule: its noise levels. Below ``sigma_min`` and above ``sigma_max`` the network is told the nearest step.
        data_std: standard deviation of the data that it was trained on, in units of z (see `denoiser`).
    """

    network: Network
    schedule: DiscreteSchedule
    data_std: float = 1.0

    def __post_init__(self) -> None:
        _check_network(self.network)
        _check_schedule(self.schedule)
        check_positive("data_std", self.data_std)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        z = at_least_float32(as_floating("z", z))
        level = expand_sigma(sigma, z)
        predicted = _predicted(self.network, z / (1 + level**2).sqrt(), self.schedule.timestep(level.flatten()))
        return z - level * predicted.to(z.dtype)

    @property
    def sigma_min(self) -> float:
        """The lowest trained level."""
        return self.schedule.sigma_min

    @property
    def sigma_max(self) -> float:
        """The highest trained level."""
        return self.schedule.sigma_max

    def percent_to_sigma(self, percent: float) -> float:
        """Progress of sampling in [0, 1] to a level of the schedule: 0 is all noise, 1 none."""
        return self.schedule.percent_to_sigma(percent)


@dataclass(frozen=True)
class VDenoiser:
    """The denoiser of a network that predicts the velocity v = (n - sigma y) / sqrt(1 + sigma^2); equation above.

    Args:
        network: ``(x (B, *), t (B,)) -> v (B, *)``.
        schedule: its noise levels. Below ``sigma_min`` and above ``sigma_max`` the network is told the nearest step.
        data_std: standard deviation of the data that it was trained on, in units of z (see `denoiser`).
    """

    network: Network
    schedule: DiscreteSchedule
    data_std: float = 1.0

    def __post_init__(self) -> None:
        _check_network(self.network)
        _check_schedule(self.schedule)
        check_positive("data_std", self.data_std)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        z = at_least_float32(as_floating("z", z))
        level = expand_sigma(sigma, z)
        root = (1 + level**2).sqrt()
        predicted = _predicted(self.network, z / root, self.schedule.timestep(level.flatten()))
        return z / root**2 - level / root * predicted.to(z.dtype)

    @property
    def sigma_min(self) -> float:
        """The lowest trained level."""
        return self.schedule.sigma_min

    @property
    def sigma_max(self) -> float:
        """The highest trained level."""
        return self.schedule.sigma_max

    def percent_to_sigma(self, percent: float) -> float:
        """Progress of sampling in [0, 1] to a level of the schedule: 0 is all noise, 1 none."""
        return self.schedule.percent_to_sigma(percent)


@dataclass(frozen=True)
class FlowDenoiser:
    """The denoiser of a rectified-flow network that predicts u = n - y; equation above.

    Args:
        network: ``(x (B, *), t (B,)) -> u (B, *)`` with t in [0, 1].
        t_min, t_max: the times it is used at; they bound ``sigma_min`` and ``sigma_max``, since sigma -> infinity as
            t -> 1. The denoiser itself accepts any sigma.
        shift: what the levels of its chain are multiplied by: t becomes shift t / (1 + (shift - 1) t), more of the
            chain at high noise for more pixels (Esser et al. 2024, Eq. 23, its m^1/2 being the shift).
        data_std: standard deviation of the data that it was trained on, in units of z (see `denoiser`).
    """

    network: Network
    t_min: float = 0.001
    t_max: float = 0.999
    shift: float = 1.0
    data_std: float = 1.0

    def __post_init__(self) -> None:
        _check_network(self.network)
        check_number("t_min", self.t_min, "The usual one is 0.001.", low=0, high=1)
        check_number("t_max", self.t_max, "The usual one is 0.999.", low=0, high=1)
        if not 0 < self.t_min < self.t_max < 1:
            raise ValueError(
                f"t_min, t_max: got {self.t_min}, {self.t_max}; allowed is 0 < t_min < t_max < 1. Move them."
            )
        check_positive("shift", self.shift)
        check_positive("data_std", self.data_std)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        z = at_least_float32(as_floating("z", z))
        level = expand_sigma(sigma, z)
        x, t = z / (1 + level), level / (1 + level)
        return x - t * _predicted(self.network, x, t.flatten().float()).to(z.dtype)

    @property
    def sigma_min(self) -> float:
        """The level at ``t_min``."""
        return self.shift * self.t_min / (1 - self.t_min)

    @property
    def sigma_max(self) -> float:
        """The level at ``t_max``."""
        return self.shift * self.t_max / (1 - self.t_max)

    def percent_to_sigma(self, percent: float) -> float:
        """Progress of sampling in [0, 1] to a level, t = 1 - percent between ``t_min`` and ``t_max``, shifted."""
        t = min(max(1 - percent, self.t_min), self.t_max)
        return self.shift * t / (1 - t)


EDM_SIGNS = {"epsilon": 1.0, "v_prediction": -1.0}
"""Sign of F, by what it is: a noise, as in the paper, or a v."""


@dataclass(frozen=True)
class EDMDenoiser:
    """The denoiser of a network in EDM's preconditioning; equation above.

    With s = 1 and "v_prediction" it is `VDenoiser`, but for what the network is told of the level.

    Args:
        network: ``(x (B, *), t (B,)) -> F (B, *)`` with t = log(sigma) / 4.
        sigma_min, sigma_max: its levels. Outside of them the network is told the nearest.
        data_std: s, the standard deviation of the data that it was trained on, in units of z.
        prediction: what F is, one of `EDM_SIGNS`.
        rho: the levels of its chain are equally spaced in sigma^(1/rho) (Karras et al. 2022, Eq. 5); infinite: in log
            sigma.
    """

    network: Network
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    data_std: float = 0.5
    prediction: str = "epsilon"
    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_network(self.network)
        for name in ("sigma_min", "sigma_max", "data_std"):
            check_positive(name, getattr(self, name))
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min: got {self.sigma_min} with sigma_max {self.sigma_max}; allowed is less. Swap the two."
            )
        check_choice("prediction", self.prediction, EDM_SIGNS)
        if not isinstance(self.rho, float) or self.rho != math.inf:
            check_positive("rho", self.rho)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        z = at_least_float32(as_floating("z", z))
        level, s = expand_sigma(sigma, z), self.data_std
        root = (level**2 + s**2).sqrt()
        t = level.flatten().float().clamp(self.sigma_min, self.sigma_max).log() / 4
        predicted = _predicted(self.network, z / root, t)
        return (s / root) ** 2 * z + EDM_SIGNS[self.prediction] * s * level / root * predicted.to(z.dtype)

    def percent_to_sigma(self, percent: float) -> float:
        """Progress of sampling in [0, 1] to a level of the chain: 0 is ``sigma_max``, 1 ``sigma_min``.

        Raises:
            ValueError: outside [0, 1].
        """
        check_number("percent", percent, "0 is all noise, 1 none.", low=0, high=1)
        if self.rho == math.inf:
            found = self.sigma_max ** (1 - percent) * self.sigma_min**percent
        else:
            high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
            found = (high + percent * (low - high)) ** self.rho
        return min(max(found, self.sigma_min), self.sigma_max)
