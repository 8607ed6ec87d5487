"""How good pictures are for their prompts: the share that the judge accepts, and distances to the world itself.

The world of the demo model is drawn, so that references are exact: every prompt has as many true drawings as one likes.
Two distances between the features x of pictures and y of drawings of the same prompts, with bootstrap intervals:

    Fréchet:  |m - m'|² + tr(C + C' - 2 (C C')^(1/2))                              (Heusel et al. 2017, Eq. 6)
    MMD²:     mean over i ≠ j of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)
              with k(x, y) = (x·y/D + 1)³         (Gretton et al. 2012, Eq. 4; kernel of Bińkowski et al. 2018, § 3)

Features are standardised by the drawings' mean and deviation. The Fréchet distance of finite sets is biased upwards:
compare equal numbers of pictures only. MMD² is unbiased, also for pairs of one prompt, and may be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .features import FEATURES
from .grammar import Scene, parse
from .judge import judge
from .scenes import SIDE, draw


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """Quality of ``count`` pictures: share accepted, and distances to true drawings in the space ``features``."""

    count: int
    features: str
    accepted: Estimate
    frechet: Estimate
    mmd: Estimate


def frechet_distance(x: Tensor, y: Tensor, weights: Tensor | None = None, other: Tensor | None = None) -> Tensor:
    """Fréchet distance () of Gaussians fitted to ``x`` (N, D) and ``y`` (M, D), equation above.

    Args:
        weights, other: how often each row of ``x`` and of ``y`` counts, (N,) and (M,); None is once.
    """

    def moments(rows: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        share = torch.ones(len(rows), dtype=rows.dtype) if weights is None else weights.to(rows.dtype)
        mean = (share[:, None] * rows).sum(dim=0) / share.sum()
        away = rows - mean
        return mean, (share[:, None] * away).T @ away / (share.sum() - 1)

    (m, c), (n, d) = moments(x, weights), moments(y, other)
    values, vectors = torch.linalg.eigh(c)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    common = torch.linalg.eigvalsh(root @ d @ root).clamp(min=0).sqrt().sum()
    return (m - n).square().sum() + c.trace() + d.trace() - 2 * common


def mmd_squared(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Unbiased squared maximum mean discrepancy () of pairs ``x`` and ``y``, both (N, D), equation above.

    Args:
        weights: how often each pair counts, (N,); copies of one pair are not compared with each other. None is once.
    """
    w = torch.ones(len(x), dtype=x.dtype) if weights is None else weights.to(x.dtype)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    across = kernel(x, y)
    pairs = (w[:, None] * w[None, :]).fill_diagonal_(0)
    return (pairs * (kernel(x, x) + kernel(y, y) - across - across.T)).sum() / pairs.sum()


def bootstrap(
    statistic: Callable[[Tensor], Tensor], count: int, generator: torch.Generator, resamples: int, level: float
) -> Estimate:
    """The statistic of all ``count`` rows, and the interval of ``resamples`` resampled sets of rows, moved so that
    their mean is the value: resampling adds a bias of its own to a distance.

    Args:
        statistic: how often each row counts (count,) to a number ().
        level: share of the resampled values inside the interval.
    """
    value, values = float(statistic(torch.ones(count, dtype=torch.long))), []
    for _ in range(resamples):
        rows = torch.randint(count, (count,), generator=generator)
        values.append(float(statistic(torch.bincount(rows, minlength=count))))
    spread = torch.tensor(values, dtype=torch.float64)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    return Estimate(value, *(spread - spread.mean() + value).quantile(ends).tolist())


def distances(
    pictures: Tensor,
    scenes: Sequence[Scene],
    *,
    features: str = "convolutions",
    seed: int = 0,
    resamples: int = 200,
    level: float = 0.95,
) -> tuple[Estimate, Estimate]:
    """Fréchet distance and MMD² of ``pictures`` (B, 3, H, W) to one true drawing of each of B ``scenes``.

    Args:
        features: a name of `features.FEATURES`.
        seed: of the true drawings and of the bootstrap.
        resamples, level: of the bootstrap intervals; a scene is resampled with its picture and its drawing.
    """
    if features not in FEATURES:
        raise ValueError(f"features: got {features!r}; allowed are {', '.join(FEATURES)}")
    generator = torch.Generator().manual_seed(seed)
    x, y = (FEATURES[features](some, scenes) for some in (pictures, draw(scenes, SIDE, generator)))
    mean, std = y.mean(dim=0), y.std(dim=0).clamp(min=1e-6)
    x, y = (x - mean) / std, (y - mean) / std
    frechet = bootstrap(lambda w: frechet_distance(x, y, w, w), len(x), generator, resamples, level)
    return frechet, bootstrap(lambda w: mmd_squared(x, y, w), len(x), generator, resamples, level)


def quality(
    pictures: Tensor,
    prompts: Sequence[str],
    *,
    features: str = "convolutions",
    seed: int = 0,
    resamples: int = 200,
    level: float = 0.95,
) -> Quality:
    """Share accepted and distances to true drawings of the same prompts, one drawing for each picture.

    Args:
        pictures: (B, 3, H, W) in [0, 1], B at least 2.
        prompts: B captions of the grammar.
        features, seed, resamples, level: as for `distances`.

    Raises:
        ValueError: the counts differ, a caption is not of the grammar, or the features' name is unknown.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or len(pictures) < 2 or len(prompts) != len(pictures):
        raise ValueError(
            f"pictures: got shape {tuple(pictures.shape)} for {len(prompts)} prompts; allowed are (B, 3, H, W) with "
            f"B ≥ 2 and one prompt for each. Pass both lists at equal length"
        )
    scenes = [parse(prompt) for prompt in prompts]
    options = {"seed": seed, "resamples": resamples, "level": level}
    frechet, mmd = distances(pictures, scenes, features=features, **options)
    right = torch.tensor([judge(p, s).accepted for p, s in zip(pictures, scenes, strict=True)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    accepted = bootstrap(lambda w: (w * right).sum() / w.sum(), len(right), generator, resamples, level)
    return Quality(len(right), features, accepted, frechet, mmd)
