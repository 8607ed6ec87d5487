"""Gaussian mixtures: density, score, denoiser, samples and product density in closed form at every noise level.

For p = sum_k w_k N(mu_k, C_k) the noised density is sum_k w_k N(mu_k, C_k + sigma^2 I), and with the responsibilities
r_k(z) ~ w_k N(z; mu_k, C_k + sigma^2 I)

    score(z; sigma) = sum_k r_k (C_k + sigma^2 I)^-1 (mu_k - z)
    D(z; sigma)     = sum_k r_k (mu_k + C_k (C_k + sigma^2 I)^-1 (z - mu_k)) = z + sigma^2 score.

Each C_k is diagonalised once, so that every sigma costs the same and nothing is ever inverted; responsibilities go
through log-sum-exp. All arithmetic is in float64, and results come back in the dtype of the argument.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..denoiser import Sigma, expand_sigma
from ..validation import as_floating, check_count, check_instance, check_number, check_positive

MOST_POINTS = 10_000_000
"""Points that are drawn at once at most."""
HIGHEST_LEVEL = 1e150


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """The density ``sum_k weights_k N(means_k, covariances_k)``; callable as a denoiser.

    Points have shape (B, D), or (B, *) with D numbers per row. Differentiable in the points.

    Args:
        weights: shape (K,), non-negative, summing to 1; like the others a floating-point tensor, a list or an array.
        means: shape (K, D).
        covariances: shape (K, D, D), symmetric and positive definite.

    Raises:
        ValueError: for shapes that do not fit, weights that do not sum to 1 (to 1e-4), or covariances that are not
            symmetric and positive definite.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    _log_weights: Tensor = field(init=False, repr=False)
    _variances: Tensor = field(init=False, repr=False)
    _axes: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            object.__setattr__(self, name, as_floating(name, getattr(self, name)))
        k, d = self.means.shape if self.means.ndim == 2 else (0, 0)
        for name, shape in (("weights", (k,)), ("means", (k, d)), ("covariances", (k, d, d))):
            value = getattr(self, name)
            if k == 0 or tuple(value.shape) != shape or not bool(torch.isfinite(value).all()):
                raise ValueError(
                    f"{name}: got shape {tuple(value.shape)}, or entries that are not finite; allowed are finite "
                    "weights (K,), means (K, D), covariances (K, D, D). Bring all three to one K and D."
                )
        weights, covariances = self.weights.double(), self.covariances.double()
        if float(weights.min()) < 0 or abs(float(weights.sum()) - 1) > 1e-4:
            got = self.weights.tolist()
            raise ValueError(f"weights: got {got}; allowed are numbers >= 0 with sum 1. Divide by the sum.")
        variances, axes = torch.linalg.eigh(covariances)
        asymmetry = float((covariances - covariances.mT).abs().max())
        if float(variances.min()) <= 0 or asymmetry > 1e-6 * float(variances.max()):
            raise ValueError(
                f"covariances: got smallest eigenvalue {float(variances.min()):g} and asymmetry {asymmetry:g}; "
                "allowed are symmetric, positive definite matrices. Add a small multiple of the identity."
            )
        object.__setattr__(self, "_log_weights", (weights / weights.sum()).log())
        object.__setattr__(self, "_variances", variances)
        object.__setattr__(self, "_axes", axes)

    def log_prob(self, x: Tensor, sigma: Sigma = 0.0) -> Tensor:
        """Log-density of p convolved with N(0, sigma^2), in nats, shape (B,)."""
        x = as_floating("x", x)
        rows, level = self._rows(x, sigma)
        _, log_joint = self._components(rows, level)
        return log_joint.logsumexp(dim=1).to(x.dtype)

    def score(self, z: Tensor, sigma: Sigma = 0.0) -> Tensor:
        """Gradient of `log_prob` with respect to ``z``, shape of ``z``."""
        z = as_floating("z", z)
        rows, level = self._rows(z, sigma)
        local, log_joint = self._components(rows, level)
        pull = -local / (self._variances + level[:, None] ** 2)
        return self._average(pull, log_joint).reshape(z.shape).to(z.dtype)

    def denoise(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z] for z = y + sigma n, shape of ``z``."""
        z = as_floating("z", z)
        rows, level = self._rows(z, sigma)
        local, log_joint = self._components(rows, level)
        kept = local * (self._variances / (self._variances + level[:, None] ** 2))
        nearest = log_joint.softmax(dim=1) @ self.means.double()
        return (nearest + self._average(kept, log_joint)).reshape(z.shape).to(z.dtype)

    __call__ = denoise

    def sample(self, n: int, *, rng: torch.Generator) -> Tensor:
        """``n`` independent points, shape (n, D), in the dtype of ``means``."""
        check_count("n", n, maximum=MOST_POINTS)
        check_instance("rng", rng, torch.Generator, "a torch.Generator. Pass seeded(0)")
        device = rng.device
        chosen = torch.multinomial(self._log_weights.exp().to(device), n, replacement=True, generator=rng)
        noise = torch.randn(n, self.means.shape[1], dtype=torch.float64, device=device, generator=rng)
        chosen, noise = chosen.to(self.means.device), noise.to(self.means.device)
        offset = torch.einsum("nij,nj->ni", self._axes[chosen], noise * self._variances[chosen].sqrt())
        return self.means[chosen] + offset.to(self.means.dtype)

    def box(self, reach: float = 4.0) -> tuple[Tensor, Tensor]:
        """Opposite corners (D,) of the smallest box that holds ``reach`` deviations of every component, float64."""
        check_number("reach", reach, "It is in standard deviations.", low=0)
        deviations = self.covariances.double().diagonal(dim1=1, dim2=2).sqrt()
        means = self.means.double()
        return (means - float(reach) * deviations).amin(dim=0), (means + float(reach) * deviations).amax(dim=0)

    def mean(self) -> Tensor:
        """E[y], shape (D,), in the dtype of ``means``."""
        return (self._log_weights.exp() @ self.means.double()).to(self.means.dtype)

    def product(self, x: Tensor, bandwidth: float) -> GaussianMixture:
        """The normalised product ``p(y) N(y; x, bandwidth^2)``, itself a mixture (float64).

        Its `mean` is x' of Mean-Shift Distillation, Eq. 8.

        Args:
            x: one point, shape (D,) or (1, *) with D numbers.
            bandwidth: standard deviation lambda of the kernel.

        Raises:
            ValueError: for more than one point or a bandwidth that is not positive.
        """
        check_positive("bandwidth", bandwidth)
        x, bandwidth = as_floating("x", x), float(bandwidth)
        if x.numel() != self.means.shape[1]:
            raise ValueError(f"x: got shape {tuple(x.shape)}; allowed is one point of {self.means.shape[1]} numbers.")
        rows, level = self._rows(x.reshape(1, -1), bandwidth)
        local, log_joint = self._components(rows, level)
        shrink = self._variances / (self._variances + bandwidth**2)
        means = self.means.double() + torch.einsum("kij,kj->ki", self._axes, local[0] * shrink)
        covariances = (self._axes * (shrink * bandwidth**2)[:, None, :]) @ self._axes.mT
        return GaussianMixture(log_joint[0].softmax(dim=0), means, (covariances + covariances.mT) / 2)

    def digest(self) -> str:
        """SHA-256 of weights, means and covariances (shapes, and values in float64), in hexadecimal digits."""
        digest = hashlib.sha256()
        for tensor in (self.weights, self.means, self.covariances):
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().double().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def _basis(self) -> Tensor:
        """The axes of all components side by side, (D, K D)."""
        return self._axes.transpose(0, 1).flatten(1)

    def _rows(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """``z`` as float64 rows (B, D) and sigma as (B, 1)."""
        rows = z.reshape(z.shape[0], -1).double()
        if rows.shape[1] != self.means.shape[1]:
            raise ValueError(
                f"z: got {rows.shape[1]} numbers per row, shape {tuple(z.shape)}; allowed are {self.means.shape[1]}, "
                "the mixture's dimension D. Reshape it to (B, D)."
            )
        level = expand_sigma(sigma, rows)
        if not bool((level <= HIGHEST_LEVEL).all()):
            raise ValueError(
                f"sigma: got {float(level.max())}; allowed is 0 to {HIGHEST_LEVEL:g}, whose square is finite. Lower it."
            )
        return rows, level

    def _components(self, rows: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets from each mean on its own axes (B, K, D), and log w_k N(z; mu_k, C_k + sigma^2) (B, K)."""
        local = (rows @ self._basis).unflatten(1, self.means.shape) - (self.means.double()[:, None] @ self._axes)[:, 0]
        spread = self._variances + level[:, None] ** 2
        log_normal = -0.5 * (local**2 / spread + spread.log() + math.log(2 * math.pi)).sum(dim=2)
        return local, self._log_weights + log_normal

    def _average(self, local: Tensor, log_joint: Tensor) -> Tensor:
        """Vectors on the components' axes (B, K, D), rotated back and averaged with the responsibilities: (B, D)."""
        return (local * log_joint.softmax(dim=1)[:, :, None]).flatten(1) @ self._basis.T
