"""What DPS and PSLD share: a step of a sampler, and a jump down the slope of what is missing, through the network.

    z' = D + sigma' n - zeta sqrt(1 + sigma^2) sqrt(1 + sigma'^2) grad_z L(D(z; sigma)),
    n  = sqrt(1 - eta^2 u) eps + eta sqrt(u) xi,   u = 1 - sigma'^2 / sigma^2

(eta = 1: DDPM's step, eta = 0: DDIM's; the roots are those of the variance-preserving coordinates in which the authors
jump by zeta.) L is a norm, not its square, so every jump is about zeta long however near the end is; its effect on a
pixel depends on how many pixels share it, and jumps add up with the number of steps. So zeta is given here as the
authors have it, for 1,000 steps and their size, and is brought to the steps and the size at hand:

    zeta 1000 / steps sqrt(d / d_authors)          d numbers of z: as far per pixel over the whole walk
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..denoiser import Denoiser, ask, differentiable, eps, name_of
from ..dreamsampler import renoised
from ..randomness import Rng
from .walk import Step

AUTHORS_STEPS = 1000


def check_backwards(denoiser: Denoiser, name: str, argument: str = "solver") -> None:
    """Refuse a denoiser that autograd may not go through, for what is called ``name``.

    Raises:
        ValueError: it says so.
    """
    if not differentiable(denoiser):
        raise ValueError(
            f"{argument}: {name!r} goes backwards through the denoiser, and {name_of(denoiser)} is not differentiable; "
            "allowed is one that is. Use 'kalman', 'ddrm' or another that asks it forwards only."
        )


def slope_of(value: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Gradient (B, *) of ``value(at)``, (B,), at ``at`` (B, *).

    Raises:
        ValueError: nothing leads back.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = at.detach().clone().requires_grad_()
        found = value(leaf)
        if not found.requires_grad:
            raise ValueError(
                "measurement: what it says has no gradient with respect to x; allowed is a differentiable measurement, "
                "denoiser and decoder. Remove no_grad, detach or inference mode from them, or use 'kalman'."
            )
        return torch.autograd.grad(found.sum(), leaf)[0]


def noise_kept(eta: float, sigma: float, sigma_next: float) -> float:
    """Share of the noise that a step of DDIM's family keeps: sqrt(1 - eta^2 u) above."""
    return math.sqrt(1 - eta**2 * (1 - (sigma_next / sigma) ** 2))


def norm(e: Tensor) -> Tensor:
    """|e| of each row, (B,)."""
    return e.flatten(1).norm(dim=1)


def jumps(
    z: Tensor,
    denoiser: Denoiser,
    levels: Sequence[float],
    loss: Callable[[Tensor], Tensor],
    *,
    eta: float,
    size: int,
    rng: Rng | None,
) -> Iterator[Step]:
    """The walk above; ``loss`` (zeta in it) takes D (B, *) to L (B,), and is the authors' for ``size`` numbers of z."""
    length = AUTHORS_STEPS / (len(levels) - 1) * math.sqrt(z[0].numel() / size)
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        denoised: list[Tensor] = []

        def lost(at: Tensor, sigma: float = sigma, denoised: list[Tensor] = denoised) -> Tensor:
            denoised.append(ask(denoiser, at, sigma))
            return loss(denoised[0])

        slope = slope_of(lost, z)
        y = denoised[0].detach()
        kept = noise_kept(eta, sigma, sigma_next)
        jump = length * math.hypot(1, sigma) * math.hypot(1, sigma_next) * slope
        z = renoised(y, eps(z, sigma, y), sigma_next, kept, rng) - jump
        yield sigma_next, z, y
