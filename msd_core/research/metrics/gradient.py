"""How well draws of an estimator agree with a true vector: bias and variance apart, and Eq. 17's efficiency.

For independent draws g_1..g_N at a point x, of mean m and sample covariance S, against the true vector t:

    MSE = 1/N sum_i |g_i - t|^2 = bias^2 + variance,   variance = tr S,   bias^2 = |m - t|^2 - tr S / N.

The subtracted part is what the error of m itself adds to |m - t|^2; both halves are then unbiased, and bias^2 can come
out negative where it is small. Nothing is clipped, so that averages over points stay unbiased too.

Efficiency (Mean-Shift Distillation, Eq. 17) is |g|^2 / (MSE cost), with the cost in evaluations of the score model,
averaged "over many values of x" and given in log scale. The paper divides by |g|^2 "to account for the fact that due to
bias and scaling, different estimators may converge to gradients of different magnitude": g is then what this estimator
converges to, MSE is its variance, and its bias is not seen. That is the reference "own mean". The reference "truth"
takes t for g and sees both halves; an estimator of another scale (SDS is one) must first be brought to the scale of t,
by the one factor of `fit_scale`. The logarithm here is the natural one; the paper does not name its own. Torch alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...validation import as_floating, check_choice, check_positive, check_same_shape

REFERENCES = ("own mean", "truth")
AVERAGES = ("ratio", "logarithm")


@dataclass(frozen=True)
class GradientError:
    """The error of an estimator at B points; all of shape (B,) and float64 but the mean (B, D) and the cost.

    Args:
        bias2: squared norm of the bias, unbiased: can be negative.
        variance: trace of the covariance of one draw.
        signal: squared norm of the true vector.
        mean: mean of the draws.
        evaluations: of the model, for one draw at one point.
        draws: number N of draws.
    """

    bias2: Tensor
    variance: Tensor
    signal: Tensor
    mean: Tensor
    evaluations: float
    draws: int

    @property
    def mse(self) -> Tensor:
        """Mean squared error of one draw, bias2 + variance: the plain average over the draws, never negative."""
        return self.bias2 + self.variance

    @property
    def own_signal(self) -> Tensor:
        """Squared norm of the estimator's own expectation, unbiased: can be negative."""
        return self.mean.square().sum(dim=1) - self.variance / self.draws


@torch.no_grad()
def gradient_error(draws: Tensor, truth: Tensor, evaluations: float, *, scale: float = 1.0) -> GradientError:
    """Bias and variance of an estimator at B points, from N independent draws of it at each.

    Args:
        draws: shape (N, B, D), N >= 2.
        truth: the true vectors, shape (B, D).
        evaluations: of the model for one draw, > 0.
        scale: factor > 0 applied to the draws first; `fit_scale` gives the best one.

    Raises:
        ValueError: for shapes that do not fit, entries that are not finite, or numbers that are not positive.
    """
    check_positive("evaluations", evaluations)
    check_positive("scale", scale)
    g, t = _check(draws, truth)
    mean, variance = _moments(g * scale)
    bias2 = (mean - t).square().sum(dim=1) - variance / g.shape[0]
    return GradientError(bias2, variance, t.square().sum(dim=1), mean, float(evaluations), g.shape[0])


@torch.no_grad()
def fit_scale(draws: Tensor, truth: Tensor) -> float:
    """The positive factor c, one for all points, that brings the expected draws closest to the truth.

    c = sum_b m_b . t_b / sum_b |m_b|^2 minimises sum_b |c m_b - t_b|^2; the Monte-Carlo part of the denominator,
    tr S / N, is subtracted, since a noisy estimator would otherwise come out too small.

    Args:
        draws: shape (N, B, D), N >= 2.
        truth: shape (B, D).

    Raises:
        ValueError: for shapes that do not fit, entries that are not finite, draws that point away from the truth on
            the whole (no positive factor is best), or a mean lost in its noise.
    """
    g, t = _check(draws, truth)
    mean, variance = _moments(g)
    along = float((mean * t).sum())
    own = float(mean.square().sum() - variance.sum() / g.shape[0])
    if along <= 0 or own <= 0:
        raise ValueError(
            f"draws: got a mean whose product with the truth is {along:g} and whose squared norm without its noise is "
            f"{own:g}; allowed are numbers > 0. Check the sign (descent or ascent) or draw more than {g.shape[0]}."
        )
    return along / own


def efficiency(
    draws: Tensor,
    cost: float,
    *,
    truth: Tensor | None = None,
    reference: str = "own mean",
    average: str = "ratio",
    scale: float = 1.0,
) -> float:
    """Natural logarithm of Eq. 17, averaged over the points; infinite for an estimator without any error.

    Args:
        draws: shape (N, B, D), N >= 2. A ratio of size r is resolved if N B^(1/2) r is well above 1.
        cost: model evaluations of one draw, > 0.
        truth: shape (B, D); needed by the reference "truth".
        reference: what g is, one of `REFERENCES`. "own mean": |E g|^2 (its Monte-Carlo part subtracted) over the
            variance. "truth": |t|^2 over the MSE about t.
        average: one of `AVERAGES`. "ratio": ln of the mean over x of Eq. 17, as published; it is led by the points
            where the estimator is nearly deterministic. "logarithm": the mean over x of ln of Eq. 17, which is not.
        scale: factor on the draws, for the reference "truth"; "own mean" does not depend on it.

    Raises:
        ValueError: for an argument out of range, or a signal that is lost in the noise of too few draws.
    """
    check_choice("reference", reference, REFERENCES)
    check_choice("average", average, AVERAGES)
    if reference == "truth" and truth is None:
        raise ValueError("truth: got None; allowed is a tensor (B, D) with the reference 'truth'. Pass the mean shift.")
    draws = as_floating("draws", draws)
    known = truth if truth is not None else torch.zeros(draws.shape[1:], dtype=torch.float64)
    error = gradient_error(draws, known, cost, scale=scale)
    if reference == "truth":
        ratio = error.signal / (error.mse * error.evaluations)
    else:
        ratio = error.own_signal / (error.variance * error.evaluations)
    worst = float(ratio.mean() if average == "ratio" else ratio.min())
    if not worst > 0:
        raise ValueError(
            f"draws: got {error.draws} a point, with which |g|^2 / (MSE cost) is {worst:g} (average {average!r}); "
            "allowed is a number > 0. Draw more, or use more points with the average 'ratio'."
        )
    return math.log(worst) if average == "ratio" else float(ratio.log().mean())


@torch.no_grad()
def angle(g: Tensor, truth: Tensor) -> Tensor:
    """Angle between each vector and the true one, in degrees (0 to 180), shape (B,), float64; NaN for a zero vector.

    2 atan2(|a - b|, |a + b|) for the unit vectors a and b, accurate at every angle (W. Kahan).

    Args:
        g: shape (B, *).
        truth: shape (B, *).

    Raises:
        ValueError: for shapes that differ.
    """
    g, truth = as_floating("g", g), as_floating("truth", truth)
    check_same_shape("truth", truth, "g", g)
    a, b = (v.detach().double().flatten(1) for v in (g, truth))
    a, b = (v / torch.linalg.vector_norm(v, dim=1, keepdim=True) for v in (a, b))
    apart, together = (torch.linalg.vector_norm(v, dim=1) for v in (a - b, a + b))
    return torch.rad2deg(2 * torch.atan2(apart, together))


def _check(draws: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Draws and truth in float64, refused if their shapes do not fit or an entry is not finite."""
    draws, truth = as_floating("draws", draws), as_floating("truth", truth)
    if draws.ndim != 3 or draws.shape[0] < 2 or draws[0].numel() == 0 or draws.shape[1:] != truth.shape:
        raise ValueError(
            f"draws: got shape {tuple(draws.shape)} with a truth of shape {tuple(truth.shape)}; allowed is (N, B, D) "
            "with N >= 2 and a truth (B, D). Stack the draws along a new first dimension."
        )
    for name, value in (("draws", draws), ("truth", truth)):
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name}: got entries that are not finite; allowed are finite numbers. Leave them out.")
    return draws.detach().double(), truth.detach().double().to(draws.device)


def _moments(g: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, D) and trace of the unbiased covariance (B,) of the draws (N, B, D)."""
    return g.mean(dim=0), g.var(dim=0, correction=1).sum(dim=1)
