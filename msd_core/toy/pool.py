"""Training points of a Gaussian mixture, with the exact score at each: drawn once, used many times.

A batch of exact scores costs several times what the network's own step costs. So the points of a whole training come
from one pool, whose levels are stratified: J levels, one in each J-th of the log-normal distribution, every level with
the same number of points. With one level to many points, and P_k = (C_k + sigma^2 I)^-1, b_k = P_k mu_k,

    log w_k N(z; mu_k, C_k + sigma^2 I) = c_k + <b_k, z> - <P_k, z z^T>/2
    score(z; sigma)                     = sum_k r_k b_k - (sum_k r_k P_k) z

both sums are matrix products over the features [z z^T, z, 1]: the same numbers as `GaussianMixture.score`, in a tenth
of its time. The terms cancel at small sigma: float64 throughout. Exponents are cut at -80, below which a component
changes nothing and the processor would only lose its time on subnormal numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..densities import GaussianMixture
from ..validation import check_count

_PER_LEVEL = 256
_CUT = -80.0


def log_normal_levels(n: int, mean: float, std: float, *, generator: torch.Generator) -> Tensor:
    """``n`` levels with ln sigma ~ N(mean, std^2), one in each n-th of the distribution: (n,), rising, float64."""
    check_count("n", n)
    place = (torch.arange(n, dtype=torch.float64) + torch.rand(n, dtype=torch.float64, generator=generator)) / n
    return (mean + std * torch.special.ndtri(place.clamp(1e-12, 1 - 1e-12))).exp()


def scores_at_level(mixture: GaussianMixture, z: Tensor, sigma: float) -> Tensor:
    """The mixture's score at points ``z`` (B, D), all at the level ``sigma`` >= 0: (B, D), float64; equations above."""
    rows, means = z.double(), mixture.means.double()
    covariances = mixture.covariances.double() + sigma**2 * torch.eye(means.shape[1], dtype=torch.float64)
    precisions = torch.linalg.inv(covariances)
    slopes = (precisions @ means[:, :, None])[:, :, 0]
    weights = mixture.weights.double()
    offsets = (weights / weights.sum()).log() - (torch.logdet(covariances) + (means * slopes).sum(dim=1)) / 2
    one = torch.ones_like(rows[:, :1])
    features = torch.cat([(rows[:, :, None] * rows[:, None]).flatten(1), rows, one], dim=1)
    exponents = features @ torch.cat([-precisions.flatten(1) / 2, slopes, offsets[:, None]], dim=1).T
    exponents -= exponents.amax(dim=1, keepdim=True)
    values = torch.cat([precisions.flatten(1), slopes, torch.ones_like(offsets)[:, None]], dim=1)
    sums = exponents.clamp_(min=_CUT).exp_() @ values
    matrix, vector, total = sums.split([means.shape[1] ** 2, means.shape[1], 1], dim=1)
    return (vector - (matrix.unflatten(1, covariances.shape[1:]) @ rows[:, :, None])[:, :, 0]) / total


def scored_points(
    mixture: GaussianMixture,
    n: int,
    mean: float,
    std: float,
    *,
    generator: torch.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """About ``n`` points z = y + sigma n with their levels and exact scores, in order of the levels.

    Args:
        mixture: the density of y, in D dimensions.
        n: points; rounded up to a whole number of levels of 256 points.
        mean, std: of ln sigma.
        generator: of the points, levels and noise.
        progress: called with (levels done, all levels).

    Returns:
        z (n, D), sigma (n,) and score (n, D), float32; the score is that of the rounded z.

    Raises:
        ValueError: if ``n`` is not a whole number of at least 1.
    """
    check_count("n", n)
    count = -(-n // _PER_LEVEL)
    levels = log_normal_levels(count, mean, std, generator=generator)
    points = mixture.sample(count * _PER_LEVEL, generator=generator).double()
    noise = torch.randn(points.shape, dtype=torch.float64, generator=generator)
    sigma = levels.repeat_interleave(_PER_LEVEL)
    z = (points + sigma[:, None] * noise).float()
    scores = []
    for done, (level, rows) in enumerate(zip(levels.tolist(), z.split(_PER_LEVEL), strict=True), start=1):
        scores.append(scores_at_level(mixture, rows, level).float())
        if progress is not None:
            progress(done, count)
    return z, sigma.float(), torch.cat(scores)
