"""What a distillation method is: a function from x to a descent gradient on x.

    (gradient, info) = method(x, denoiser, step=k, steps=K, rng=rng)

x is a picture or latent (B, *), already detached; the gradient has its shape, and the loop sends it through the chain
rule to the generator's parameters. A method is a frozen dataclass of its settings, all plain values with defaults, and
a pure function of its arguments: all randomness comes from ``rng``, nothing is remembered between calls, nothing is
differentiated. What it knows of the model it asks the denoiser: the levels of its chain (`denoiser.level_at`), both
parts of its guidance (`guidance.guided`).

A method may also have ``bandwidth(step, steps)``, the kernel's lambda; ``samples``, the rows it evaluates per row of x;
and the class attributes ``label``, its name in menus, and ``recommended``, the settings of a run that suit it.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from ..denoiser import Denoiser, level_at
from ..info import Info
from ..randomness import Rng, draw_uniform
from ..settings import setting
from ..validation import check_choice


class Method(Protocol):
    """A distillation method."""

    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """Descent gradient on ``x`` (B, *), of x's shape, at iteration ``step`` of ``steps``; and its `Info`."""
        ...


def bandwidth_of(method: Method, step: int, steps: int) -> float | None:
    """The kernel's bandwidth lambda at iteration ``step`` of ``steps``; None for a method without kernel."""
    bandwidth = getattr(method, "bandwidth", None)
    return None if bandwidth is None else float(bandwidth(step, steps))


def samples_of(method: Method) -> int:
    """Rows that the method evaluates as one batch, per row of x."""
    return int(getattr(method, "samples", 1))


ANNEALINGS = ("none", "linear", "sqrt")


def annealed_t(anneal: str, t_min: float, t_max: float, step: int, steps: int) -> float:
    """Time fraction at iteration ``step``: from ``t_max`` down to ``t_min``, linear in u = step/(steps-1) or sqrt(u).

    Raises:
        ValueError: for an annealing other than "linear" or "sqrt".
    """
    check_choice("anneal", anneal, ANNEALINGS[1:])
    u = step / max(steps - 1, 1)
    return t_max + (t_min - t_max) * (math.sqrt(u) if anneal == "sqrt" else u)


class Leveled(Protocol):
    """The settings of a method that draws its noise levels, or lets them fall."""

    @property
    def anneal(self) -> str: ...
    @property
    def t_min(self) -> float: ...
    @property
    def t_max(self) -> float: ...
    @property
    def samples(self) -> int: ...


def draw_levels(method: Leveled, x: Tensor, denoiser: Denoiser, step: int, steps: int, rng: Rng) -> Tensor:
    """A noise level for every draw of every row of ``x`` (B, *): (samples B,), drawn, or annealed on the chain."""
    if method.anneal == "none":
        u = draw_uniform(x.shape[0], rng, method.samples)
        times = (method.t_min + (method.t_max - method.t_min) * u).flatten().tolist()
    else:
        t = annealed_t(method.anneal, method.t_min, method.t_max, step, steps)
        times = [t] * (x.shape[0] * method.samples)
    return torch.tensor([level_at(denoiser, t) for t in times], dtype=x.dtype, device=x.device)


def t_min_setting() -> Any:  # noqa: ANN401 - a field
    """The field ``t_min`` of a method that moves between two noise levels."""
    return setting(
        0.02, "lowest noise, as a fraction of the model's chain; near 0 gives the finest detail", above=0, high=1
    )


def t_max_setting() -> Any:  # noqa: ANN401 - a field
    """The field ``t_max`` of a method that moves between two noise levels."""
    return setting(
        0.98, "highest noise, as a fraction of the model's chain; lower keeps more of the picture", above=0, high=1
    )


def check_times(t_min: float, t_max: float) -> None:
    """Refuse time fractions other than 0 < t_min <= t_max <= 1."""
    numbers = all(isinstance(t, (int, float)) for t in (t_min, t_max))
    if not numbers or not 0 < t_min <= t_max <= 1:
        raise ValueError(
            f"t_min, t_max: got {t_min!r}, {t_max!r}; allowed is 0 < t_min <= t_max <= 1, fractions of the chain. "
            "The usual range is 0.02 to 0.98."
        )
