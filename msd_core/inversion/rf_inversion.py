"""RF-Inversion: a flow model's ODE with a pull, upwards to a drawn noise and downwards to the picture.

    up     dx_t/dt = u + gamma ((n - x_t)/(1 - t) - u)          n ~ N(0, I), drawn once
    down   dx_t/dt = u + eta   ((x_t - x)/t - u)                eta acts from the top for the share ``pulled`` of steps

(Rout et al. 2024, in the coordinates of `flow`; Euler in t.) gamma > 0 ends at something more like noise than the
model's own path does; eta is what brings the picture back, and how much of an edit is held back. gamma = 0 and eta = 0
are explicit DDIM. Not exact, unless eta = 1 throughout: then it is the picture, whatever the model says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..denoiser import Denoiser, RowCounter
from ..randomness import Rng, draw_normal
from ..settings import check_settings, setting
from .base import Rise
from .flow import time_of, velocity

if TYPE_CHECKING:
    from .trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class RFInversion:
    """The walk above; one evaluation a step.

    Raises:
        ValueError: for a value out of range.
    """

    sampler: ClassVar[str] = "rf-inversion"

    gamma: float = setting(0.5, "pull towards drawn noise on the way up; 0 is the model's own path", low=0, high=1)
    eta: float = setting(0.9, "pull towards the picture on the way down; higher keeps more of it", low=0, high=1)
    pulled: float = setting(0.25, "share of the steps down, from the noisiest, on which eta acts", low=0, high=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first.

        Raises:
            ValueError: gamma is above 0, and there is no ``rng``.
        """
        noise = draw_normal(x, rng)[0] if self.gamma else x
        times = [time_of(level) for level in levels]
        state = (1 - times[0]) * x
        for t, t_next in zip(times, times[1:], strict=False):
            slope = velocity(denoiser, state, t, instead=t_next)
            pull = (noise - state) / (1 - t)
            state = state + (t_next - t) * (slope + self.gamma * (pull - slope))
            yield Rise(state / (1 - t_next))

    def descend(self, trajectory: Trajectory, denoiser: Denoiser, top: int) -> Iterator[Tensor]:
        """Yield the state (B, *) after each step down from level number ``top``."""
        times = [time_of(level) for level in trajectory.sigmas.tolist()]
        x, state = (1 - times[0]) * trajectory.states[0], (1 - times[top]) * trajectory.states[top]
        for i in range(top - 1, -1, -1):
            slope = velocity(denoiser, state, times[i + 1])
            if top - 1 - i < self.pulled * top:
                away = (state - x) / (times[i + 1] - times[0])
                slope = slope + self.eta * (away - slope)
            state = state + (times[i] - times[i + 1]) * slope
            yield state / (1 - times[i])
