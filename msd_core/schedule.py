"""Noise levels: the discrete schedule of Stable Diffusion, and ways to walk down from it.

A network trained on T discrete steps with cumulative products alpha_bar knows the levels
sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t). `DiscreteSchedule` converts between t and sigma (linear in log sigma);
`sigma_schedule` lists the levels of a sampler under the names ComfyUI uses, with ComfyUI's values.

    karras             (smax^(1/rho) + u (smin^(1/rho) - smax^(1/rho)))^rho, rho = 7     (Karras et al. 2022, Eq. 5)
    exponential        log-linear from smax to smin
    normal             t equally spaced from T-1 to 0, both included
    sgm_uniform        t equally spaced from T-1 to 0, the last one left out
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .denoiser import as_level
from .echo import shown
from .validation import MOST_STEPS, as_levels, check_choice, check_count, check_number, check_positive


@dataclass(frozen=True, eq=False)
class DiscreteSchedule:
    """The T noise levels of a network trained on discrete steps.

    Args:
        alphas_cumprod: alpha_bar_t for t = 0 .. T-1, shape (T,), strictly decreasing inside (0, 1).

    Raises:
        ValueError: if it is not such a tensor.
    """

    alphas_cumprod: Tensor

    def __post_init__(self) -> None:
        a = as_levels("alphas_cumprod", self.alphas_cumprod, "Pass torch.cumprod(1 - betas, 0).")
        object.__setattr__(self, "alphas_cumprod", a)
        ok = a.numel() > 1 and bool((a[1:] < a[:-1]).all())
        if not ok or not 0 < float(a[-1]) < float(a[0]) < 1:
            raise ValueError(
                f"alphas_cumprod: got {shown(a)}; allowed is a 1-D tensor that falls strictly inside (0, 1). "
                "Pass torch.cumprod(1 - betas, 0)."
            )

    @cached_property
    def sigmas(self) -> Tensor:
        """sqrt((1 - alpha_bar) / alpha_bar), ascending, shape (T,), float32."""
        a = self.alphas_cumprod.double()
        return ((1 - a) / a).sqrt().float()

    @cached_property
    def _kept(self) -> dict[torch.device, Tensor]:
        return {}

    def _log_sigmas(self, device: torch.device) -> Tensor:
        """log sigma on ``device``, kept there: an evaluation waits for no copy."""
        if device not in self._kept:
            self._kept[device] = self.sigmas.log().to(device)
        return self._kept[device]

    @property
    def sigma_min(self) -> float:
        """The lowest trained level."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest trained level."""
        return float(self.sigmas[-1])

    def timestep(self, sigma: float | Tensor) -> Tensor:
        """Fractional step t in [0, T-1] of ``sigma`` (any shape, > 0): linear in log sigma, float32.

        Levels outside the trained range get the nearest end, as in the host: the network knows nothing nearer.
        """
        sigma = as_level(sigma)
        logs = self._log_sigmas(sigma.device)
        log_sigma = sigma.float().log().clamp(logs[0], logs[-1])
        high = torch.searchsorted(logs, log_sigma).clamp(1, len(logs) - 1)
        weight = (log_sigma - logs[high - 1]) / (logs[high] - logs[high - 1])
        return high - 1 + weight

    def sigma(self, t: float | Tensor) -> Tensor:
        """Level of the fractional step ``t`` in [0, T-1] (any shape; clamped), linear in log sigma, float32."""
        t = as_level(t, "t", low=-math.inf)
        logs = self._log_sigmas(t.device)
        t = t.float().clamp(0, len(logs) - 1)
        low = t.floor().long()
        return torch.lerp(logs[low], logs[(low + 1).clamp(max=len(logs) - 1)], t.frac()).exp()

    def percent_to_sigma(self, percent: float) -> float:
        """Level at a fraction of the chain: 0 is sigma_max, 1 is sigma_min; t = (1 - percent)(T - 1).

        Raises:
            ValueError: outside [0, 1].
        """
        check_number("percent", percent, "0 is all noise, 1 none.", low=0, high=1)
        return float(self.sigma((1 - percent) * (len(self.sigmas) - 1)))


def sd15_schedule() -> DiscreteSchedule:
    """Stable Diffusion 1.x: 1000 steps, sqrt(beta) linear from sqrt(.00085) to sqrt(.012) (Rombach et al. 2022)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return DiscreteSchedule(torch.cumprod(1 - betas, dim=0))


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Karras levels from ``sigma_max`` down to ``sigma_min``, then 0: shape (steps + 1,), float32."""
    _check_levels(steps, sigma_min, sigma_max)
    check_positive("rho", rho)
    u = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _end_in_zero((high + u * (low - high)) ** rho)


def exponential_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Log-linear levels from ``sigma_max`` down to ``sigma_min``, then 0: shape (steps + 1,), float32."""
    _check_levels(steps, sigma_min, sigma_max)
    return _end_in_zero(torch.linspace(math.log(sigma_max), math.log(sigma_min), steps, dtype=torch.float64).exp())


def _check_levels(steps: int, sigma_min: float, sigma_max: float) -> None:
    check_count("steps", steps, maximum=MOST_STEPS)
    check_positive("sigma_min", sigma_min)
    check_positive("sigma_max", sigma_max)
    if sigma_min >= sigma_max:
        raise ValueError(f"sigma_min: got {sigma_min} with sigma_max {sigma_max}; allowed is less. Swap the two.")


def _end_in_zero(levels: Tensor) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)]).float()


def _normal(schedule: DiscreteSchedule, steps: int) -> Tensor:
    return _end_in_zero(schedule.sigma(torch.linspace(len(schedule.sigmas) - 1, 0, steps, dtype=torch.float32)))


def _sgm_uniform(schedule: DiscreteSchedule, steps: int) -> Tensor:
    return _end_in_zero(
        schedule.sigma(torch.linspace(len(schedule.sigmas) - 1, 0, steps + 1, dtype=torch.float32)[:-1])
    )


_BY_RANGE: dict[str, Callable[[int, float, float], Tensor]] = {
    "karras": karras_sigmas,
    "exponential": exponential_sigmas,
}
_BY_TRAINED_LEVEL: dict[str, Callable[[DiscreteSchedule, int], Tensor]] = {
    "normal": _normal,
    "sgm_uniform": _sgm_uniform,
}
SIGMA_SCHEDULES = (*_BY_RANGE, *_BY_TRAINED_LEVEL)


def sigma_schedule(
    name: str,
    steps: int,
    *,
    schedule: DiscreteSchedule | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Tensor:
    """Noise levels of a sampler, descending and ending in 0: shape (steps + 1,), float32; equations above.

    Args:
        name: one of `SIGMA_SCHEDULES`.
        steps: number of steps.
        schedule: the model's levels; needed by the schedules that pick trained levels, and the source of the default
            ``sigma_min`` and ``sigma_max`` of the others.
        sigma_min, sigma_max: lowest non-zero and highest level, for "karras" and "exponential" only.

    Raises:
        ValueError: for an unknown name, missing or surplus arguments, or more steps than trained levels.
    """
    check_choice("name", name, SIGMA_SCHEDULES)
    check_count("steps", steps, maximum=MOST_STEPS)
    if schedule is not None and not isinstance(schedule, DiscreteSchedule):
        raise ValueError(f"schedule: got {shown(schedule)}; allowed is a DiscreteSchedule. Pass sd15_schedule().")
    if name in _BY_RANGE:
        low = sigma_min if sigma_min is not None or schedule is None else schedule.sigma_min
        high = sigma_max if sigma_max is not None or schedule is None else schedule.sigma_max
        if low is None or high is None:
            raise ValueError(
                f"sigma_min, sigma_max: got {shown(low)}, {shown(high)}; {name!r} needs both, or a schedule. Pass them."
            )
        return _BY_RANGE[name](steps, low, high)
    if schedule is None or sigma_min is not None or sigma_max is not None:
        raise ValueError(
            f"schedule: got {shown(schedule)} with sigma_min {shown(sigma_min)}, sigma_max {shown(sigma_max)}; "
            f"{name!r} picks trained levels: allowed is a DiscreteSchedule alone. Pass schedule=sd15_schedule()."
        )
    if steps > len(schedule.sigmas):
        allowed = f"allowed are at most {len(schedule.sigmas)}, the trained levels"
        raise ValueError(f"steps: got {steps}; {allowed}. Use fewer.")
    return _BY_TRAINED_LEVEL[name](schedule, steps)
