"""What a distillation method is: a function from x to a descent gradient on x.

    (gradient, info) = method(x, denoiser, step=k, steps=K, rng=rng)

x is a picture or latent (B, *), already detached; the gradient has its shape, and the loop sends it through the chain
rule to the generator's parameters. A method is a frozen dataclass of its settings, all plain values with defaults, and
a pure function of its arguments: all randomness comes from ``rng``, nothing is remembered between calls, nothing is
differentiated. What it knows of the model it asks the denoiser: the levels of its chain (`denoiser.level_at`), both
parts of its guidance (`guidance.guided`).

A method may also have ``bandwidth(step, steps)``, the kernel's lambda; ``samples``, the rows it evaluates per row of x;
and the class attributes ``label``, its name in menus, ``recommended``, the settings of a run that suit it, and
``needs``, what must go with the denoiser: a source picture, another prompt (`companions`).
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from torch import Tensor

from ..bandwidth import check_step
from ..denoiser import Denoiser
from ..echo import shown
from ..info import Info
from ..randomness import Rng
from ..settings import setting
from ..validation import check_choice, is_number


class Method(Protocol):
    """A distillation method."""

    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        """Descent gradient on ``x`` (B, *), of x's shape, at iteration ``step`` of ``steps``; and its `Info`."""
        ...


def bandwidth_of(method: Method, step: int, steps: int) -> float | None:
    """The kernel's bandwidth lambda at iteration ``step`` of ``steps``; None for a method without kernel."""
    bandwidth = getattr(method, "bandwidth", None)
    return None if bandwidth is None else float(bandwidth(step, steps))


def needs_of(method: Method) -> tuple[str, ...]:
    """What must go with the denoiser for this method (`companions.NEEDS`)."""
    return tuple(getattr(method, "needs", ()))


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
    check_step(step, steps)
    u = step / max(steps - 1, 1)
    return t_max + (t_min - t_max) * (math.sqrt(u) if anneal == "sqrt" else u)


def t_min_setting(default: float = 0.02) -> Any:  # noqa: ANN401 - a field
    """The field ``t_min`` of a method that moves between two noise levels."""
    return setting(
        default, "lowest noise, as a fraction of the model's chain; near 0 gives the finest detail", above=0, high=1
    )


def t_max_setting(default: float = 0.98) -> Any:  # noqa: ANN401 - a field
    """The field ``t_max`` of a method that moves between two noise levels."""
    return setting(
        default, "highest noise, as a fraction of the model's chain; lower keeps more of the picture", above=0, high=1
    )


def check_times(t_min: float, t_max: float) -> None:
    """Refuse time fractions other than 0 < t_min <= t_max <= 1."""
    numbers = is_number(t_min) and is_number(t_max)
    if not numbers or not 0 < t_min <= t_max <= 1:
        raise ValueError(
            f"t_min, t_max: got {shown(t_min)}, {shown(t_max)}; allowed is 0 < t_min <= t_max <= 1, fractions of "
            "the chain. The usual range is 0.02 to 0.98."
        )
