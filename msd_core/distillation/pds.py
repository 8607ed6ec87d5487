"""Posterior Distillation Sampling: an edit that keeps the source's stochastic latents.

    gradient = u - u_src,   u = (z_{t-k} - mu(z_t, D))/sigma_tilde                                 (Koo et al. 2024)

z_t and z_{t-k} are x noised to two levels of the chain, with noises that x and its source share; mu and sigma_tilde are
mean and spread of the step between them. The noises cancel. With alpha_bar = 1/(1 + sigma^2), a = alpha_bar(t) and
b = alpha_bar(t - k),

    gradient = psi (x - x_src) + chi (eps_hat - eps_hat_src),   chi = c0 sigma/sigma_tilde,
    psi      = (sqrt(b) - c0 - c1 sqrt(a))/sigma_tilde,
    c0       = sqrt(b) beta/(1 - a),   c1 = sqrt(1 - beta) (1 - b)/(1 - a),   sigma_tilde^2 = beta (1 - b)/(1 - a).

For the step's own beta = 1 - a/b, psi is zero: PDS is then DDS with the weight chi. The published code has an identity
term since it takes the beta of a single step of the chain for a step of k = 2: at the middle of Stable Diffusion's
chain psi is .032 and chi .082, with k = 20 psi is .63. Both forms are offered (``identity``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..companions import source_of
from ..denoiser import Denoiser, RowCounter, expand_sigma, level_at
from ..settings import setting
from .dds import delta
from .noising import Drawing

IDENTITIES = ("published", "consistent")
CHAIN = 1000
"""Steps of the chain whose fractions the times are."""


def posterior_weights(denoiser: Denoiser, t: float, stride: int, identity: str) -> tuple[float, float]:
    """psi and chi at the fraction ``t`` of the denoiser's chain, for a step over ``stride`` thousandths of it."""
    sigma = level_at(denoiser, t)
    a, b, before = (1 / (1 + level_at(denoiser, t - steps / CHAIN) ** 2) for steps in (0, stride, 1))
    beta = 1 - a / (before if identity == "published" else b)
    if not beta > 0 or not b > a:
        raise ValueError(
            f"t_max: got {t:g} for this step, where the model's chain has the same level a step below; allowed is "
            "where it rises. Lower t_max."
        )
    spread = math.sqrt(beta * (1 - b) / (1 - a))
    c0, c1 = math.sqrt(b) * beta / (1 - a), math.sqrt(1 - beta) * (1 - b) / (1 - a)
    psi = (math.sqrt(b) - c0 - c1 * math.sqrt(a)) / spread if identity == "published" else 0.0
    psi = max(psi, 0.0)  # 0 for a stride of one step, and about it by rounding
    return psi, c0 * sigma / spread


@dataclass(frozen=True)
class PDS(Drawing):
    """Posterior Distillation Sampling: an edit that is pulled back to the source, so that more of it stays.

    Raises:
        ValueError: for an unknown choice, times out of order or below the stride, or no sample; when called, for a
            denoiser without source.
    """

    label: ClassVar[str] = "PDS"
    needs: ClassVar[tuple[str, ...]] = ("source",)
    recommended: ClassVar[Mapping[str, object]] = {"steps": 400, "cfg": 100.0, "pull": "latent"}

    identity: str = setting(
        "published",
        "the pull back to the source. published: as its authors' code has it, by a mixture of time steps; consistent: "
        "one time step throughout, no pull; DDS with another weight",
        choices=IDENTITIES,
    )
    stride: int = setting(
        2, "thousandths of the chain between the two levels; a larger one pulls back more", low=1, high=999, expert=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t_min < self.stride / CHAIN:
            raise ValueError(
                f"t_min: got {self.t_min} with the stride {self.stride}; allowed is at least {self.stride / CHAIN:g}, "
                "so that the lower level is on the chain. Raise t_min, or lower the stride."
            )

    def at(self, x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        """psi (x - x_src) + chi (eps_hat - eps_hat_src) (N, *)."""
        pairs = [posterior_weights(denoiser, t, self.stride, self.identity) for t in times]
        psi, chi = (expand_sigma(torch.tensor(weights, dtype=torch.float64), x) for weights in zip(*pairs, strict=True))
        kept = x - source_of(denoiser, "PDS").like(x)
        return psi * kept + chi / expand_sigma(sigma, x) * delta(x, denoiser, sigma, noise, "PDS")
