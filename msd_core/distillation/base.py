"""What a distillation method is: a function from x to a descent gradient on x.

    (gradient, info) = method(x, denoiser, step=k, steps=K, generator=rng)

x is a picture or latent (B, *), already detached; the gradient has its shape, and the loop sends it through the chain
rule to the generator's parameters. A method is a frozen dataclass of its settings and a pure function of its arguments:
all randomness comes from ``rng``, nothing is remembered between calls, nothing is differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeAlias, Union

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..info import Info
from ..schedule import DiscreteSchedule
from ..validation import check_choice

Levels: TypeAlias = Union[DiscreteSchedule, Callable[[float], float]]  # noqa: UP007 - evaluated at run time
"""Noise levels of a chain: a `DiscreteSchedule`, or its ``percent_to_sigma`` alone (0 = all noise, 1 = none)."""


class Method(Protocol):
    """A distillation method."""

    def __call__(
        self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Info]:
        """Descent gradient on ``x`` (B, *), of x's shape, at iteration ``step`` of ``steps``; and its `Info`."""
        ...

    def bandwidth(self, step: int) -> float | None:
        """The kernel's bandwidth lambda at iteration ``step``; None for a method without kernel."""
        ...


def level(levels: Levels, t: float) -> float:
    """Noise level at the fraction ``t`` of the chain: 0 is no noise, 1 all noise."""
    percent_to_sigma = levels.percent_to_sigma if isinstance(levels, DiscreteSchedule) else levels
    return float(percent_to_sigma(1 - t))


ANNEALINGS = ("none", "linear", "sqrt")


def annealed_t(anneal: str, t_min: float, t_max: float, step: int, steps: int) -> float:
    """Time fraction at iteration ``step``: from ``t_max`` down to ``t_min``, linear in u = step/(steps-1) or sqrt(u).

    Raises:
        ValueError: for an annealing other than "linear" or "sqrt".
    """
    check_choice("anneal", anneal, ANNEALINGS[1:])
    u = step / max(steps - 1, 1)
    return t_max + (t_min - t_max) * (math.sqrt(u) if anneal == "sqrt" else u)


def check_times(t_min: float, t_max: float) -> None:
    """Refuse time fractions other than 0 < t_min <= t_max <= 1."""
    if not 0 < t_min <= t_max <= 1:
        raise ValueError(
            f"t_min, t_max: got {t_min}, {t_max}; allowed is 0 < t_min <= t_max <= 1, fractions of the chain. "
            "The usual range is 0.02 to 0.98."
        )


def draw_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise like ``x``, drawn where ``generator`` lives: the same numbers on every device."""
    return torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
