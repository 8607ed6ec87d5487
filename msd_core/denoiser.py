"""What a denoiser is.

Coordinates are variance-exploding throughout: z = y + sigma n with y ~ p and n ~ N(0, I). A denoiser is any callable
``(z, sigma) -> E[y | z]``; from it follow (Karras et al. 2022, Eqs. 3 and 4)

    eps(z; sigma)   = (z - D(z; sigma)) / sigma
    score(z; sigma) = (D(z; sigma) - z) / sigma^2.

z has shape (B, *). sigma is a number, a tensor of shape (), or one of shape (B,) with a level per row. A denoiser may
carry optional attributes, read through the functions below: ``cost`` (network rows per row of z, 1 if absent),
``sigma_min``, ``sigma_max`` (the range of levels it was trained on, 0 and infinity if absent), ``data_std`` (of y, in
units of z; 1 if absent, which is what a latent's scale is chosen for), ``percent_to_sigma`` (the levels of its chain;
`with_levels` adds them) and ``differentiable`` (whether autograd may go through it, yes if absent).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias, Union, cast

import torch
from torch import Tensor

from .echo import shown
from .validation import (
    FLOATING,
    as_floating,
    check_callable,
    check_positive,
    check_same_shape,
    is_number,
    is_real,
    tensor_of,
)

Sigma: TypeAlias = Union[float, Tensor]  # noqa: UP007 - evaluated at run time

OF_THE_MODEL = ("sigma_min", "sigma_max", "data_std", "percent_to_sigma", "differentiable")
"""The optional attributes that are true of a model whatever is made of its denoiser."""


class Denoiser(Protocol):
    """A callable ``(z (B, *), sigma) -> denoised (B, *)`` that returns E[y | z]."""

    def __call__(self, z: Tensor, sigma: Sigma, /) -> Tensor: ...


def ask(denoiser: Denoiser, z: Tensor, sigma: Sigma) -> Tensor:
    """E[y | z] (B, *): ``denoiser(z, sigma)``, its result checked. All of the core asks a denoiser through this.

    Raises:
        ValueError: what came back is no floating-point tensor of z's shape on z's device, which broadcasting could
            otherwise hide.
    """
    check_denoiser(denoiser)
    return checked("denoiser", denoiser(z, sigma), z)


def checked(name: str, result: Any, z: Tensor) -> Tensor:  # noqa: ANN401 - whatever was returned
    """``result``, what ``name`` returned for ``z``, if it is a floating-point tensor of z's shape on z's device."""
    if not isinstance(result, Tensor) or result.dtype not in FLOATING or result.device != z.device:
        got = f"{result.dtype} on {result.device}" if isinstance(result, Tensor) else shown(result)
        raise ValueError(
            f"{name}: its result: got {got}; allowed is a floating-point tensor on z's device, {z.device}. Return "
            "one such tensor."
        )
    check_same_shape(f"{name}: its result", result, "z", z)
    return result


def check_denoiser(denoiser: object, name: str = "denoiser") -> None:
    """Refuse what cannot be called."""
    check_callable(name, denoiser, "a denoiser, a callable (z, sigma) -> E[y | z]")


def cost(denoiser: Denoiser) -> int:
    """Network rows that ``denoiser`` evaluates per row of z (its ``cost`` attribute; 1 if it has none)."""
    check_denoiser(denoiser)
    return int(getattr(denoiser, "cost", 1))


def parts_cost(denoiser: Denoiser) -> int:
    """Network rows per row of z of a guided denoiser's ``parts`` (its ``parts_cost`` attribute; 2 if it has none)."""
    return int(getattr(denoiser, "parts_cost", 2))


def sigma_range(denoiser: Denoiser) -> tuple[float, float]:
    """Noise levels ``(sigma_min, sigma_max)`` that ``denoiser`` was made for; (0, inf) if it does not say."""
    check_denoiser(denoiser)
    low, high = getattr(denoiser, "sigma_min", None), getattr(denoiser, "sigma_max", None)
    return (0.0 if low is None else float(low)), (math.inf if high is None else float(high))


def data_std(denoiser: Denoiser) -> float:
    """Standard deviation of the data that ``denoiser`` was trained on, in units of z; 1 if it does not say.

    Raises:
        ValueError: it says what is no number above 0.
    """
    check_denoiser(denoiser)
    stated = getattr(denoiser, "data_std", None)
    check_positive("data_std", 1.0 if stated is None else stated)
    return 1.0 if stated is None else float(stated)


def gaussian_error2(denoiser: Denoiser, sigma: Tensor) -> Tensor:
    """Variance s² σ² / (s² + σ²) of y given z, per number, if p = N(., s²), s of `data_std`; shaped as σ."""
    variance = data_std(denoiser) ** 2
    return variance * sigma**2 / (variance + sigma**2)


def differentiable(denoiser: Denoiser) -> bool:
    """Whether autograd may go through ``denoiser`` (its ``differentiable`` attribute; yes if it has none)."""
    check_denoiser(denoiser)
    return bool(getattr(denoiser, "differentiable", True))


def level_at(denoiser: Denoiser, t: float) -> float:
    """Noise level at the fraction ``t`` of the denoiser's own chain: 0 is no noise, 1 all noise.

    Raises:
        ValueError: it has no chain.
    """
    percent_to_sigma = getattr(denoiser, "percent_to_sigma", None)
    if percent_to_sigma is None:
        raise ValueError(
            f"denoiser: {name_of(denoiser)} has no levels of its own, and this method chooses them by the "
            "fraction t of a chain; allowed is one with percent_to_sigma. Pass with_levels(denoiser, sd15_schedule())."
        )
    return float(percent_to_sigma(1 - t))


def at_least_float32(z: Tensor) -> Tensor:
    """``z`` itself, or its float32 copy if it is in half precision: no coefficient is applied in half precision."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def expand_sigma(sigma: Sigma, z: Tensor, name: str = "sigma") -> Tensor:
    """``sigma`` as a tensor that multiplies ``z`` (B, *): shape (B, 1, 1, ...), z's device, at least float32.

    Args:
        sigma: a number, or a tensor (or list) of shape (), (1,) or (B,), nowhere negative.
        z: the tensor of shape (B, *) it belongs to.
        name: what an error calls ``sigma``.

    Raises:
        ValueError: for any other shape; for a level that is negative or NaN, looked for in numbers and in tensors on
            the CPU: on another device it would stall every evaluation.
    """
    z = as_floating("z", z)
    level = as_level(sigma, name).to(device=z.device, dtype=torch.promote_types(z.dtype, torch.float32))
    if level.numel() != 1 and level.shape != z.shape[:1]:
        raise ValueError(
            f"{name}: got a tensor of shape {tuple(level.shape)}; allowed are a number, shape () or one level per row, "
            f"shape ({z.shape[0]},). Give every row of z its level."
        )
    return level.reshape(-1, *(1,) * (z.ndim - 1)).expand(z.shape[0], *(1,) * (z.ndim - 1))


def as_level(
    sigma: Any,  # noqa: ANN401 - a number, a tensor, a list or an array
    name: str = "sigma",
    *,
    low: float = 0.0,
    positive: bool = False,
) -> Tensor:
    """``sigma`` as a tensor of any shape, refused where it is NaN, below ``low``, or 0 if it must be ``positive``."""
    level = tensor_of(sigma, torch.float64)
    if level is None and is_number(sigma):
        level = torch.tensor(float(sigma), dtype=torch.float64)
    if level is None or not is_real(level) or (level.device.type == "cpu" and not _above(level, low, positive)):
        got = shown(level.tolist() if level is not None and is_real(level) else sigma)
        raise ValueError(
            f"{name}: got {got}; allowed is {'>' if positive else '>='} {low:g}, as a number or a tensor of levels. "
            "Check the schedule that they come from."
        )
    return level


def _above(level: Tensor, low: float, strictly: bool) -> bool:
    return bool(((level > low) if strictly else (level >= low)).all())


def eps(z: Tensor, sigma: Sigma, denoised: Tensor) -> Tensor:
    """Predicted noise ``(z - denoised) / sigma`` (B, *), for sigma > 0."""
    z, level, denoised = _at_level(z, sigma, denoised)
    return (z - denoised) / level


def score(z: Tensor, sigma: Sigma, denoised: Tensor) -> Tensor:
    """Score of the noised density, ``(denoised - z) / sigma^2`` (B, *), for sigma > 0."""
    z, level, denoised = _at_level(z, sigma, denoised)
    return (denoised - z) / level**2


def _at_level(z: Tensor, sigma: Sigma, denoised: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z (B, *), at least float32, sigma > 0 beside it, and ``denoised``, all checked."""
    z, denoised = as_floating("z", z), as_floating("denoised", denoised)
    check_same_shape("denoised", denoised, "z", z)
    return at_least_float32(z), expand_sigma(as_level(sigma, positive=True), z), denoised


def checked_parts(pair: Any, z: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - whatever was returned
    """Both parts of a guided result, each checked as `ask` does."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(
            f"denoiser: its parts: got {shown(pair)}; allowed are two tensors, conditional and unconditional. Return "
            "both."
        )
    return checked("denoiser", pair[0], z), checked("denoiser", pair[1], z)


class Wrapped:
    """What a dataclass that is a denoiser made of another one, ``denoiser``, passes on where it does not say so itself.

    What is true of the model whatever is made of it, `OF_THE_MODEL`; ``cost``, of one that asks once; and another
    guidance scale, ``with_cfg``, as the same made of the other one at that scale. What the other one gives beside its
    result is its own, and is hidden: ``parts``, ``uncond``, ``embedding`` and so on.
    """

    denoiser: Denoiser
    passed_on: ClassVar[tuple[str, ...]] = (*OF_THE_MODEL, "cost")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the denoiser has
        if name == "with_cfg":
            scaled = self.denoiser.with_cfg  # pyright: ignore[reportAttributeAccessIssue] - or it has none
            return lambda cfg: replace(cast("Any", self), denoiser=scaled(cfg))
        if name not in self.passed_on:
            raise AttributeError(name)
        return getattr(self.denoiser, name)


class Unchanged(Wrapped):
    """A denoiser that gives what another one gives, and so passes on all that it does not say itself."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the denoiser has
        if name == "denoiser" or name.startswith("__"):
            raise AttributeError(name)
        return super().__getattr__(name) if name == "with_cfg" else getattr(self.denoiser, name)


def name_of(denoiser: Denoiser) -> str:
    """What an error calls ``denoiser``: the class of what is inside all wrappers that change nothing."""
    while isinstance(denoiser, Unchanged):
        denoiser = denoiser.denoiser
    return type(denoiser).__name__


@dataclass
class RowCounter(Unchanged):
    """A denoiser that counts the network rows it asks ``denoiser`` for, in ``rows``.

    What comes back is checked as `ask` does. At another guidance scale it is the denoiser itself, uncounted.
    """

    denoiser: Denoiser
    rows: int = 0

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        denoised = ask(self.denoiser, z, sigma)
        self.rows += z.shape[0] * cost(self.denoiser)
        return denoised

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the denoiser has
        if name == "with_cfg":
            return getattr(self.denoiser, name)
        found = super().__getattr__(name)
        return partial(self._parts, found) if name == "parts" else found

    def _parts(self, of: Callable[..., Any], z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result, both counted (see `guidance`)."""
        pair = of(z, sigma)
        self.rows += parts_cost(self.denoiser) * z.shape[0]
        return checked_parts(pair, z)


@dataclass(frozen=True)
class LeveledDenoiser(Unchanged):
    """``denoiser`` with a chain of noise levels; see `with_levels`."""

    denoiser: Denoiser
    percent_to_sigma: Callable[[float], float]

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        return ask(self.denoiser, as_floating("z", z), sigma)


def with_levels(denoiser: Denoiser, levels: Any) -> LeveledDenoiser:  # noqa: ANN401
    """``denoiser`` with the noise levels of a chain, for the methods that choose their levels by its fraction.

    Args:
        denoiser: any.
        levels: a `DiscreteSchedule`, or a function like its ``percent_to_sigma`` (0 = all noise, 1 = none).
    """
    check_denoiser(denoiser)
    chain = getattr(levels, "percent_to_sigma", levels)
    check_callable("levels", chain, "a DiscreteSchedule, or a function (percent) -> sigma")
    return LeveledDenoiser(denoiser, chain)
