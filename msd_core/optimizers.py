"""Optimisers of a generator's parameters psi, as pure functions: (parameters, gradients, state) -> (parameters, state).

With g the descent gradient on x and J = dx/dpsi, the parameters' gradient is J^T g.

    adam   psi <- psi - lr_k mhat/(sqrt(vhat) + eps)      Kingma & Ba 2015, Alg. 1; the paper's choice, lr = 10^-2
    gd     psi <- psi - lr_k |g|^2/|J^T g|^2 J^T g        gradient descent with Polyak's step length

Adam moves every parameter by about lr a step, whatever the size of g: a mean shift that shrinks with its bandwidth is
blown up to full steps, and in the end the picture is destroyed. "gd" keeps the scale: along g, x moves by
<g, dx>/|g| = -lr |g| to first order, so that with J = I and lr = 1 it is the mean-shift iteration x <- x' itself.
A neural image cannot draw all of g, yet has to reach |g|^2 with what it can: use lr = .03 to .3 there, the less the
noisier g is. Measured, 150 steps towards a picture of 64 px with a Fourier image, g clean / with noise of std .3: Adam
42 / 33 dB; gd .3 30 / 14, .1 28 / 25, .03 27 / 26.

The coupling lr_k = lr min(1, lambda_k/lambda_ref) is the other remedy: a rate that falls with the bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from .denoiser import at_least_float32
from .echo import shown
from .validation import check_choice, check_positive, check_same_shape, is_number

Named: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class OptimizerConfig:
    """Which optimiser, and its settings.

    Args:
        name: one of `OPTIMIZERS`.
        lr: learning rate; for "adam" in units of the parameters, for "gd" the fraction of g that x moves by.
        betas: decay rates of Adam's two means, each in [0, 1).
        eps: added to Adam's denominator.
        lr_coupling: lambda_ref: below this bandwidth the rate is proportional to lambda; None couples nothing.

    Raises:
        ValueError: for an unknown name or a value out of range.
    """

    name: str = "adam"
    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-15
    lr_coupling: float | None = None

    def __post_init__(self) -> None:
        check_choice("name", self.name, OPTIMIZERS)
        check_positive("lr", self.lr)
        check_positive("eps", self.eps)
        pair = isinstance(self.betas, (tuple, list)) and len(self.betas) == 2 and all(map(is_number, self.betas))
        if not pair or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"betas: got {shown(self.betas)}; allowed are two numbers in [0, 1). Usual are (0.9, 0.99)."
            )
        if self.lr_coupling is not None:
            check_positive("lr_coupling", self.lr_coupling)

    def rate(self, bandwidth: float | None) -> float:
        """lr_k at bandwidth lambda_k; ``lr`` itself without coupling.

        Raises:
            ValueError: with coupling, for a method that has no bandwidth.
        """
        if self.lr_coupling is None:
            return self.lr
        if bandwidth is not None:
            check_positive("bandwidth", bandwidth)
        else:
            raise ValueError(
                f"lr_coupling: got {self.lr_coupling} for a method without bandwidth; allowed is None "
                "there. Leave it out."
            )
        return self.lr * min(1.0, bandwidth / self.lr_coupling)


@dataclass(frozen=True)
class Update:
    """What one update may use beside parameters, gradients and state: the count from 1, lr_k, and |g|^2."""

    count: int
    rate: float
    norm2: float


def square_sum(tensors: Iterable[Tensor]) -> float:
    """Sum of the squares of all their numbers, in float64 where the device has it."""
    parts = [(t.double() if t.device.type in ("cpu", "cuda") else t.float()).square().sum() for t in tensors]
    return sum(torch.stack(parts).tolist()) if parts else 0.0  # one wait for the device


def _adam(
    config: OptimizerConfig, update: Update, parameters: Named, gradients: Named, state: Named
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    first, second = config.betas
    new, means = {}, {}
    for name, given in gradients.items():
        gradient = at_least_float32(given)
        mean = state.get(f"{name}.mean", torch.zeros_like(gradient)) * first + gradient * (1 - first)
        square = state.get(f"{name}.square", torch.zeros_like(gradient)) * second + gradient**2 * (1 - second)
        scale = (square / (1 - second**update.count)).sqrt() + config.eps
        new[name] = (parameters[name] - update.rate * (mean / (1 - first**update.count)) / scale).to(given)
        means |= {f"{name}.mean": mean, f"{name}.square": square}
    return new, means


def _gradient_descent(
    config: OptimizerConfig, update: Update, parameters: Named, gradients: Named, state: Named
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    norm2 = square_sum(gradients.values())
    length = update.rate * update.norm2 / norm2 if norm2 > 0 else 0.0
    return {name: parameters[name] - length * gradient for name, gradient in gradients.items()}, {}


_STEPS: dict[str, Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]] = {
    "adam": _adam,
    "gd": _gradient_descent,
}
OPTIMIZERS = tuple(_STEPS)


@torch.no_grad()
def apply_update(
    config: OptimizerConfig, update: Update, parameters: Named, gradients: Named, state: Named
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """New parameters and new state; nothing is changed in place. A zero gradient moves nothing.

    Args:
        config: the optimiser and its settings.
        update: count, rate and |g|^2 of this step.
        parameters, gradients: by name; only those with a gradient are returned.
        state: what the last update returned; empty before the first.
    """
    return _STEPS[config.name](config, update, parameters, gradients, state)


@torch.no_grad()
def follow(state: Named, rows: Named) -> dict[str, Tensor]:
    """``state`` after rows of parameters have moved. One that begins anew has mean 0, and the others' mean square.

    A square of 0 would make the first step of a row many times as long as every other.

    Args:
        state: what `apply_update` returned.
        rows: by the parameter's name, the number of the row that each was before; -1 for one that begins anew.
    """
    new = dict(state)
    for name, source in rows.items():
        if f"{name}.mean" not in state:
            continue
        anew = source < 0
        for kind in ("mean", "square"):
            moved = state[f"{name}.{kind}"][source.clamp(min=0)]
            moved[anew] = moved[~anew].mean(dim=0) if kind == "square" and not anew.all() else 0.0
            new[f"{name}.{kind}"] = moved
    return new


def check_memory(name: str, parameters: Named, state: Named) -> None:
    """Refuse a ``state`` that `apply_update` cannot have returned for these parameters.

    Raises:
        ValueError: for an unknown optimiser, or an entry that is missing, unknown or of another shape.
    """
    if not state and not name:  # before the first iteration
        return
    check_choice("optimizer", name, OPTIMIZERS)
    kinds = ("mean", "square") if name == "adam" else ()
    moved = {key.rpartition(".")[0] for key in state}
    if set(state) != {f"{parameter}.{kind}" for parameter in moved for kind in kinds}:
        raise ValueError(f"optimizer_state: its entries are not those of {name!r}. Start a new run.")
    for parameter in moved:
        if parameter not in parameters:
            raise ValueError(f"optimizer_state: got {parameter!r}, which is no parameter. Start a new run.")
        for kind in kinds:
            check_same_shape("optimizer_state", state[f"{parameter}.{kind}"], parameter, parameters[parameter])
