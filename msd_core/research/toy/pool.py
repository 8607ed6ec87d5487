"""Training points of a Gaussian mixture, with the exact score at each: drawn once, used many times.

A batch of exact scores costs several times what the network's own step costs. So the points of a whole training come
from one pool, whose levels are stratified: J levels, one in each J-th of the log-normal distribution, every level with
the same number of points, whose scores `Paraboloids` gives together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...densities import GaussianMixture
from ...validation import check_count
from ..densities.paraboloids import Paraboloids

_PER_LEVEL = 256


def log_normal_levels(n: int, mean: float, std: float, *, rng: torch.Generator) -> Tensor:
    """``n`` levels with ln sigma ~ N(mean, std^2), one in each n-th of the distribution: (n,), rising, float64."""
    check_count("n", n)
    place = (torch.arange(n, dtype=torch.float64) + torch.rand(n, dtype=torch.float64, generator=rng)) / n
    return (mean + std * torch.special.ndtri(place.clamp(1e-12, 1 - 1e-12))).exp()


def scored_points(
    mixture: GaussianMixture,
    n: int,
    mean: float,
    std: float,
    *,
    rng: torch.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """About ``n`` points z = y + sigma n with their levels and exact scores, in order of the levels.

    Args:
        mixture: the density of y, in D dimensions.
        n: points; rounded up to a whole number of levels of 256 points.
        mean, std: of ln sigma.
        rng: of the points, levels and noise.
        progress: called with (levels done, all levels).

    Returns:
        z (n, D), sigma (n,) and score (n, D), float32; the score is that of the rounded z.

    Raises:
        ValueError: if ``n`` is not a whole number of at least 1.
    """
    check_count("n", n)
    count = -(-n // _PER_LEVEL)
    levels = log_normal_levels(count, mean, std, rng=rng)
    points = mixture.sample(count * _PER_LEVEL, rng=rng).double()
    noise = torch.randn(points.shape, dtype=torch.float64, generator=rng)
    sigma = levels.repeat_interleave(_PER_LEVEL)
    z = (points + sigma[:, None] * noise).float()
    scores = []
    for done, (level, rows) in enumerate(zip(levels.tolist(), z.split(_PER_LEVEL), strict=True), start=1):
        scores.append(Paraboloids.of(mixture, level).score(rows.double()).float())
        if progress is not None:
            progress(done, count)
    return z, sigma.float(), torch.cat(scores)
