"""A Gaussian mixture after a linear measurement: in closed form, and itself a mixture.

For p = sum_k w_k N(mu_k, C_k) and b = A y + s xi, with S_k = A C_k A^T + s^2 I and the gain G_k = C_k A^T S_k^-1,

    p(y | b) = sum_k w'_k N(mu_k + G_k (b - A mu_k), C_k - G_k A C_k),   w'_k ~ w_k N(b; A mu_k, S_k)

Its denoiser is E[y | z, b], what every solver of the inverse problem is after.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..validation import as_finite, check_instance, check_positive
from .mixture import GaussianMixture


def conditioned(mixture: GaussianMixture, matrix: Tensor, b: Tensor, noise: float) -> GaussianMixture:
    """The mixture (float64) of the points of ``mixture`` that ``b`` was measured of.

    Args:
        mixture: p, in D dimensions.
        matrix: A, (m, D).
        b: one measurement, m numbers.
        noise: s > 0, standard deviation of the noise in b.

    Raises:
        ValueError: for shapes that do not fit, or a noise that is not above 0: the posterior would be flat.
    """
    check_instance("mixture", mixture, GaussianMixture, "a GaussianMixture. Make one")
    check_positive("noise", noise)
    matrix, b = as_finite("matrix", matrix).double(), as_finite("b", b).double().flatten()
    means, covariances = mixture.means.double(), mixture.covariances.double()
    if matrix.ndim != 2 or matrix.shape != (len(b), means.shape[1]):
        raise ValueError(
            f"matrix: got shape {tuple(matrix.shape)} with a b of {len(b)} numbers; allowed is ({len(b)}, "
            f"{means.shape[1]}): a row a measurement, a column a dimension. Reshape it."
        )
    spread = matrix @ covariances @ matrix.T + float(noise) ** 2 * torch.eye(len(b), dtype=torch.float64)
    missing = b - means @ matrix.T
    gain = torch.linalg.solve(spread, matrix @ covariances).mT
    seen = torch.distributions.MultivariateNormal(torch.zeros_like(b), spread).log_prob(missing)
    weights = (mixture.weights.double().log() + seen).softmax(0)
    left = covariances - gain @ matrix @ covariances
    return GaussianMixture(weights, means + (gain @ missing[..., None])[..., 0], (left + left.mT) / 2)
