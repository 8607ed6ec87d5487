"""The product density p(y) N(y; x, lambda^2), as a denoiser.

Mean shift needs E[y] under p_dot(y | x) ~ p(y) N(y; x, lambda^2) (Mean-Shift Distillation, Eq. 8). Given a noisy
z = y + sigma n, two Gaussians in y meet, and their product is one Gaussian:

    N(y; x, lambda^2) N(y; z, sigma^2) ~ N(y; mu, s^2)
    1/s^2 = 1/sigma^2 + 1/lambda^2,   mu = s^2 (z/sigma^2 + x/lambda^2).

Hence the product density's denoiser is the model's own, asked at another place and at a lower level:

    D_product(z; sigma | x) = D(mu; s).

Exact for an exact D, with no extra evaluation and no stiffness, and any sampler can run on it. As sigma -> infinity,
mu -> x and s -> lambda: D(x; lambda) is the mean x' itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoiser, Sigma, as_level, ask, check_denoiser, cost, expand_sigma
from .validation import as_finite, as_floating, check_positive


@dataclass(frozen=True)
class ProductDenoiser:
    """Denoiser of ``p(y) N(y; x, bandwidth^2)``, where ``denoiser`` is the denoiser of p.

    Args:
        denoiser: ``(z (B, *), sigma) -> (B, *)``, the denoiser of p.
        x: centre of the kernel, shape (B, *) or (1, *).
        bandwidth: standard deviation lambda of the kernel, a number or a tensor of shape () or (B,); in units of x.

    Raises:
        ValueError: if ``bandwidth`` is not positive and finite, or ``x`` is not a finite floating-point tensor (B, *).
    """

    denoiser: Denoiser
    x: Tensor
    bandwidth: Sigma

    def __post_init__(self) -> None:
        check_denoiser(self.denoiser)
        object.__setattr__(self, "x", as_finite("x", self.x))
        if not isinstance(self.bandwidth, (int, float)):
            object.__setattr__(self, "bandwidth", as_level(self.bandwidth, "bandwidth"))
        check_positive("bandwidth", self.bandwidth, many=True)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z] under the product density. ``sigma`` may be 0 (gives D(z; 0)) and infinite (gives D(x; lambda))."""
        return ask(self.denoiser, *self.to_model(z, sigma))

    def to_model(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """Where the model is asked: ``mu`` (B, *) and its level ``s`` (B,) for the product's ``z`` at ``sigma``.

        With r = sigma / lambda: s = lambda / sqrt(1 + 1/r^2), mu = x + (z - x) / (1 + r^2). Neither form cancels or
        overflows as r -> 0 or r -> infinity.
        """
        z = as_floating("z", z)
        dtype = torch.promote_types(torch.promote_types(self.x.dtype, z.dtype), torch.float32)
        x, z = self.x.to(dtype), z.to(dtype)
        if x.shape[1:] != z.shape[1:] or x.shape[0] not in (1, z.shape[0]):
            raise ValueError(
                f"z: got shape {tuple(z.shape)}; allowed is (B, *) that matches x, {tuple(x.shape)}. "
                "Repeat x along its first dimension to draw several samples."
            )
        level, width = expand_sigma(sigma, z), expand_sigma(self.bandwidth, z, "bandwidth")
        s = width / torch.hypot(torch.ones_like(level), width / level)
        weight = 1 / (1 + (level / width) ** 2)
        return torch.lerp(x.expand_as(z), z, weight), s.flatten()

    @property
    def cost(self) -> int:
        """Network rows per row of z."""
        return cost(self.denoiser)


def product_denoiser(denoiser: Denoiser, x: Tensor, bandwidth: Sigma) -> ProductDenoiser:
    """The denoiser of ``p(y) N(y; x, bandwidth^2)``; see `ProductDenoiser` for the equation, shapes and errors."""
    return ProductDenoiser(denoiser, x, bandwidth)
