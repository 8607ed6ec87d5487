"""Classifier-free guidance: the one formula, and two denoisers in, one denoiser out.

    D(z; sigma) = D_uncond + cfg (D_cond - D_uncond)

(Ho & Salimans 2022). ``cfg`` is ComfyUI's: 1 is off. Mean-Shift Distillation, Eq. 13, writes cfg = 1 + w. The same
formula holds for denoised, noise and score, since each is affine in the other with the same coefficients.

A guided denoiser is a `Guided`: beside the guided result it gives both parts of it, each once, and itself at another
scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from .denoiser import Denoiser, Sigma, ask, check_denoiser, cost, data_std, differentiable, name_of, sigma_range
from .validation import as_floating, check_number, check_same_shape


def guide(cond: Tensor, uncond: Tensor, cfg: float) -> Tensor:
    """uncond + cfg (cond - uncond), all (B, *).

    Raises:
        ValueError: for shapes that differ, or a ``cfg`` that is not finite.
    """
    cond, uncond = as_floating("cond", cond), as_floating("uncond", uncond)
    check_same_shape("uncond", uncond, "cond", cond)
    check_cfg("cfg", cfg)
    return uncond + float(cfg) * (cond - uncond)


def check_cfg(name: str, cfg: float) -> None:
    """Refuse a guidance scale that is no finite number."""
    check_number(name, cfg, "1 = off; usual values are 1 to 15.")


@runtime_checkable
class Guided(Protocol):
    """A denoiser with guidance. It may also have ``uncond``, its unconditional denoiser alone (`unconditional`)."""

    def __call__(self, z: Tensor, sigma: Sigma, /) -> Tensor:
        """The guided result (B, *)."""
        ...

    def parts(self, z: Tensor, sigma: Sigma, /) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result, each (B, *): ``parts_cost`` network rows per row of z, 2 if it does not
        say, whatever cfg is.
        """
        ...

    def with_cfg(self, cfg: float, /) -> Denoiser:
        """The same model at another guidance scale."""
        ...


def guided(denoiser: Denoiser, purpose: str) -> Guided:
    """``denoiser`` itself, if it has guidance.

    Raises:
        ValueError: it has none, where ``purpose`` needs it.
    """
    if not (hasattr(denoiser, "parts") and hasattr(denoiser, "with_cfg")):
        raise ValueError(
            f"denoiser: {name_of(denoiser)} has no guidance (parts, with_cfg), and {purpose} needs it; allowed "
            "is a guided one. Pass GuidedDenoiser(cond, uncond, cfg)."
        )
    return cast("Guided", denoiser)


def unconditional(denoiser: Denoiser, purpose: str) -> Denoiser:
    """The unconditional part of ``denoiser`` as a denoiser: its own ``uncond``, or else itself at cfg 0, which costs
    the conditional part too.

    Raises:
        ValueError: it has no guidance, where ``purpose`` needs it.
    """
    known = guided(denoiser, purpose)
    alone = getattr(known, "uncond", None)
    return known.with_cfg(0.0) if alone is None else alone


def with_cfg(denoiser: Denoiser, cfg: float | None, argument: str = "inversion_cfg") -> Denoiser:
    """``denoiser`` at another guidance scale; itself if ``cfg`` is None. ``argument`` is what an error calls ``cfg``.

    Raises:
        ValueError: if it has no guidance to change.
    """
    if cfg is None:
        return denoiser
    check_cfg(argument, cfg)
    if not hasattr(denoiser, "with_cfg"):
        raise ValueError(
            f"{argument}: got {cfg}, but {name_of(denoiser)} has no with_cfg; allowed is None there. Pass "
            f"{argument}=None, or a GuidedDenoiser."
        )
    return cast("Any", denoiser).with_cfg(cfg)


def at_cfg(denoiser: Denoiser, cfg: float | None, argument: str = "inversion_cfg") -> Denoiser:
    """`with_cfg`, for which a denoiser without guidance is one at cfg 1.

    Raises:
        ValueError: it has no guidance, and ``cfg`` is neither 1 nor None.
    """
    return denoiser if cfg == 1 and not hasattr(denoiser, "with_cfg") else with_cfg(denoiser, cfg, argument)


@dataclass(frozen=True)
class GuidedDenoiser:
    """The denoiser ``uncond + cfg (cond - uncond)``.

    cond and uncond are called one after the other, since two arbitrary callables cannot share a batch; a model that can
    put both into one batch is a `Guided` itself. With ``cfg == 1`` uncond is not called, and costs nothing.

    Args:
        cond: denoiser of the prompt, ``(z (B, *), sigma) -> (B, *)``.
        uncond: denoiser of the empty or negative prompt.
        cfg: guidance scale, any finite number (negative ones are used to invert with guidance).

    Raises:
        ValueError: if ``cfg`` is not finite, or both say what the deviation of their data is, and it is not the same.
    """

    cond: Denoiser
    uncond: Denoiser
    cfg: float = 1.0

    def __post_init__(self) -> None:
        check_denoiser(self.cond, "cond")
        check_denoiser(self.uncond, "uncond")
        check_cfg("cfg", self.cfg)
        stated = self._stated
        if len(set(stated)) > 1:
            raise ValueError(
                f"cond, uncond: got data_std {stated[0]:g} and {stated[1]:g}; allowed is one, since both are of one "
                "model. State the same in both, in units of z."
            )

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        z = as_floating("z", z)
        cond = ask(self.cond, z, sigma)
        if self.cfg == 1:
            return cond
        return guide(cond, ask(self.uncond, z, sigma), self.cfg)

    def parts(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result, each (B, *)."""
        z = as_floating("z", z)
        return ask(self.cond, z, sigma), ask(self.uncond, z, sigma)

    @property
    def cost(self) -> int:
        """Network rows per row of z."""
        return cost(self.cond) + (0 if self.cfg == 1 else cost(self.uncond))

    @property
    def parts_cost(self) -> int:
        """Network rows per row of z of `parts`."""
        return cost(self.cond) + cost(self.uncond)

    @property
    def data_std(self) -> float | None:
        """The standard deviation of the data, of whichever says it; None if neither does."""
        return next(iter(self._stated), None)

    @property
    def _stated(self) -> list[float]:
        return [data_std(one) for one in (self.cond, self.uncond) if getattr(one, "data_std", None) is not None]

    @property
    def sigma_min(self) -> float:
        """Smallest noise level that both denoisers know."""
        return max(sigma_range(self.cond)[0], sigma_range(self.uncond)[0])

    @property
    def sigma_max(self) -> float:
        """Largest noise level that both denoisers know."""
        return min(sigma_range(self.cond)[1], sigma_range(self.uncond)[1])

    @property
    def differentiable(self) -> bool:
        """Whether autograd may go through both."""
        return differentiable(self.cond) and differentiable(self.uncond)

    @property
    def percent_to_sigma(self) -> Any:  # noqa: ANN401 - a function, or None
        """The levels of the conditional denoiser's chain, if it has one."""
        return getattr(self.cond, "percent_to_sigma", None)

    def with_cfg(self, cfg: float) -> GuidedDenoiser:
        """The same pair at another guidance scale."""
        return replace(self, cfg=cfg)
