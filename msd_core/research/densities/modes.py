"""The true modes of a Gaussian mixture, and its entropy.

A mode is a fixed point of the mixture's own mean shift (Carreira-Perpinan 2000, section 5): with responsibilities r_k,

    x <- (sum_k r_k C_k^-1)^-1 sum_k r_k C_k^-1 mu_k,

which rises in density at every step, but along a level ridge by next to nothing. So after a few of these from every
mean, Newton's steps on log p follow, each eigenvalue of the Hessian taken as negative, kept only where they rise. The
Hessian is sum_k r_k (g_k g_k^T - C_k^-1) - g g^T with g_k = C_k^-1 (mu_k - x), g = sum_k r_k g_k; a mode is where it is
negative definite and Newton's step leads nowhere. A mode with no mean in its basin is found from ``starts`` only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...densities import GaussianMixture
from ...validation import as_finite, check_count, check_instance, check_positive
from .paraboloids import Paraboloids

_ROWS, _RISES, _NEWTON, _SETTLING = 256, 10, 100, 4
_NEAR = 0.1


def find_modes(mixture: GaussianMixture, *, starts: Tensor | None = None, tolerance: float = 1e-6) -> Tensor:
    """The local maxima of the mixture's density, the highest first: (M, D), float64.

    Args:
        mixture: K components.
        starts: points (N, D) to rise from besides the K means.
        tolerance: how far from a mode Newton's step may still lead, as a fraction of the smallest standard deviation of
            a component; modes nearer to each other than a thousand times this are one.

    Raises:
        ValueError: if ``tolerance`` is not positive.
    """
    check_positive("tolerance", tolerance)
    _check_mixture(mixture)
    x = mixture.means.double()
    if starts is not None:
        starts = as_finite("starts", starts)
        if starts.ndim != 2 or starts.shape[1] != x.shape[1]:
            raise ValueError(
                f"starts: got shape {tuple(starts.shape)}; allowed is (N, {x.shape[1]}), the mixture's D. Reshape them."
            )
        x = torch.cat([x, starts.to(x)])
    curves = Paraboloids.of(mixture)
    widths = torch.linalg.eigvalsh(mixture.covariances.double()).sqrt()
    found = torch.cat([_settle(curves, _climb(curves, rows, float(widths.max()))) for rows in x.split(_ROWS)])
    gradient, hessian = (torch.cat(parts) for parts in zip(*map(curves.derivatives, found.split(_ROWS)), strict=True))
    off = torch.linalg.solve(hessian, gradient).norm(dim=1)
    limit = tolerance * float(widths.min())
    maxima = found[(off < limit) & (torch.linalg.eigvalsh(hessian).amax(dim=1) < 0)]
    return _distinct(maxima[mixture.log_prob(maxima).argsort(descending=True)], 1e3 * limit)


def entropy(mixture: GaussianMixture, n: int, rng: torch.Generator) -> tuple[float, float]:
    """Entropy in nats, by Monte Carlo over ``n`` samples, and its standard error.

    Raises:
        ValueError: if ``n`` is not a whole number of at least 2.
    """
    check_count("n", n, minimum=2)
    _check_mixture(mixture)
    values = torch.cat([-mixture.log_prob(rows) for rows in mixture.sample(n, rng=rng).double().split(2048)])
    return float(values.mean()), float(values.std() / n**0.5)


def _check_mixture(mixture: object) -> None:
    check_instance(
        "mixture", mixture, GaussianMixture, "a GaussianMixture. Pass one, such as make_density(name).mixture"
    )


def _climb(curves: Paraboloids, x: Tensor, reach: float) -> Tensor:
    """Where the points ``x`` (B, D) rise to."""
    for _ in range(_RISES):
        x = torch.linalg.solve(*curves.average(curves.responsibilities(x)))
    moving = torch.arange(len(x), device=x.device)
    for _ in range(_NEWTON):
        here = x[moving]
        step = _uphill(*curves.derivatives(here), reach)
        tried = torch.stack([here + step, here + step / 8, here])
        heights = torch.stack([curves.log_joint(y).logsumexp(dim=1) for y in tried])
        x[moving] = tried[heights.argmax(dim=0), torch.arange(len(here))]
        moving = moving[(x[moving] - here).norm(dim=1) > 1e-12]
        if not len(moving):
            break
    return x


def _settle(curves: Paraboloids, x: Tensor) -> Tensor:
    """Newton's last steps from ``x`` (B, D), unchecked: nearer to a shallow mode than its height tells in float64.

    Taken where the Hessian is negative definite and the step shorter than a tenth of the components' deviation there.
    """
    for _ in range(_SETTLING):
        bend, _ = curves.average(curves.responsibilities(x))
        gradient, hessian = curves.derivatives(x)
        step = -torch.linalg.solve(hessian, gradient)
        near = torch.einsum("bi,bij,bj->b", step, bend, step) < _NEAR**2
        x = torch.where((near & (torch.linalg.eigvalsh(hessian).amax(dim=1) < 0))[:, None], x + step, x)
    return x


def _uphill(gradient: Tensor, hessian: Tensor, reach: float) -> Tensor:
    """Newton's step with every curvature taken as a maximum's, no longer than ``reach``: (B, D)."""
    curvature, axes = torch.linalg.eigh(hessian)
    along = (axes.mT @ gradient[:, :, None])[:, :, 0] / curvature.abs().clamp_min(1e-9)
    step = (axes @ along[:, :, None])[:, :, 0]
    length = step.norm(dim=1, keepdim=True)
    return step * (reach / length.clamp_min(reach))


def _distinct(points: Tensor, distance: float) -> Tensor:
    """The points without those that lie within ``distance`` of an earlier one."""
    kept: list[Tensor] = []
    left = points
    while len(left):
        kept.append(left[0])
        left = left[(left - left[0]).norm(dim=1) > distance]
    return torch.stack(kept) if kept else points
