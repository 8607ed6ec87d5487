"""DREAM: train a denoiser on the noisy samples that its own estimates lead to (Zhou et al., CVPR 2024).

In training a network sees y + sigma n with the true y. In sampling it sees its own estimate of y, noised again. DREAM
closes part of that gap: one evaluation without gradient, then the usual loss on other noise. With the network's own
noise eps_hat = (z - D(z; sigma))/sigma at z = y + sigma n and s = sigma/sqrt(1 + sigma^2),

    n' = n + s^p (n - eps_hat),      z' = y + sigma n',      loss |eps_theta(z'; sigma) - n'|^2.

p = 0 is rectification alone: z' = D(z; sigma) + sigma n, the estimate noised again, as a sampler would do it; the
target keeps y, so that the network learns to correct what it estimated. p = infinity is standard training, n' = n,
without the extra evaluation. p between (the paper's choice is 1) rectifies in full at high noise and hardly at low
noise, which trades fidelity against fineness ("estimation adaptation").

The published form is variance-preserving, with y_t = sqrt(a) y + s n and s = sqrt(1 - a):

    Delta = n - eps_hat,      y_t' = y_t + s lambda Delta,      target n + lambda Delta,      lambda = s^p.

It replaces the same noise, since y_t + s lambda Delta = sqrt(a) y + s (n + lambda Delta) = sqrt(a) y + s n'. With
sigma = sqrt((1 - a)/a), s above is the same number and y_t' = z'/sqrt(1 + sigma^2). So one formula serves both.

Conventions: y, z and noises are (B, *); a level is a number or (B,). What comes back carries no gradient of the
network, at any p.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..denoiser import Denoiser, Sigma, as_level, ask, at_least_float32, check_denoiser, eps, expand_sigma
from ..echo import shown
from ..validation import as_floating, check_positive, check_same_shape, is_number


def check_dream(p: float) -> None:
    """Refuse an exponent ``p`` that is not a number from 0 (rectification only) to infinity (standard training)."""
    if not is_number(p) or p < 0:
        raise ValueError(
            f"p: got {shown(p)}; allowed is a number of at least 0, or math.inf for standard training. The "
            "paper's is 1."
        )


def rectified_noise(noise: Tensor, predict: Callable[[], Tensor], s: Sigma, p: float) -> Tensor:
    """DREAM's noise ``n' = n + s^p (n - eps_hat)`` (B, *); ``noise`` itself, and no evaluation, at p = infinity.

    Args:
        noise: n, the noise that was drawn, (B, *).
        predict: gives eps_hat (B, *), the network's estimate of n at the noisy row; called once at most, without
            gradient.
        s: sqrt(1 - alpha_bar) = sigma/sqrt(1 + sigma^2), in (0, 1]: a number or (B,).
        p: exponent, from 0 (rectification only) to infinity (standard training).

    Raises:
        ValueError: for another ``p`` or ``s``, or an estimate of another shape than the noise.

    Source: Zhou et al. 2024, "DREAM: Diffusion Rectification and Estimation-Adaptive Models", training algorithm.
    """
    check_dream(p)
    noise = as_floating("noise", noise)
    if math.isinf(p):
        return noise
    level = expand_sigma(s, noise, "s")
    if not bool(((level > 0) & (level <= 1)).all()):
        raise ValueError(
            f"s: got {shown(level.flatten().tolist())}; allowed is 0 < s <= 1. Pass sigma/sqrt(1 + sigma^2) = "
            "sqrt(1 - alpha_bar)."
        )
    with torch.no_grad():
        eps_hat = predict()
    check_same_shape("predict: its result", eps_hat, "noise", noise)
    n = at_least_float32(noise)
    return n + level ** float(p) * (n - eps_hat.detach())


def dream_noise(y: Tensor, sigma: Sigma, noise: Tensor, denoiser: Denoiser, p: float) -> Tensor:
    """DREAM's noise n' (B, *) for clean ``y`` at level ``sigma``: train on z' = y + sigma n' with target noise n'.

    Args:
        y: clean rows, (B, *).
        sigma: noise level, a number or (B,), > 0.
        noise: n, standard normal, (B, *).
        denoiser: the one in training, ``(z, sigma) -> denoised``; evaluated once, without gradient, and not at all at
            p = infinity.
        p: exponent, from 0 (rectification only) to infinity (standard training: ``noise`` itself comes back).

    Raises:
        ValueError: for a level that is not > 0, an exponent outside [0, infinity] or shapes that do not agree.

    Source: Zhou et al. 2024, in the coordinates z = y + sigma n (see the module's text).
    """
    y, noise = as_floating("y", y), as_floating("noise", noise)
    check_same_shape("noise", noise, "y", y)
    check_denoiser(denoiser)
    sigma = as_level(sigma)
    check_positive("sigma", sigma, many=True)
    level = expand_sigma(sigma, y)

    def predict() -> Tensor:
        z = at_least_float32(y) + level * noise
        return eps(z, sigma, ask(denoiser, z, sigma))

    return rectified_noise(noise, predict, (level / (1 + level**2).sqrt()).flatten(), p)
