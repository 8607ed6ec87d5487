"""How well an inversion went: residuals, evaluations, and whether its end looks like noise.

The residual of a step (`base`) says by how much one step of the sampler, taken back down, misses the state that it
should reach: it is measured where the inversion has it at hand, and NaN elsewhere. What re-sampling adds up to is about
their sum, larger where the model pulls states apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import EXACT_AT_ANY_CFG

VISIBLE = 0.01
"""Sum of residuals above which a re-sampled picture of unit variance is visibly another (about 40 dB)."""


@dataclass(frozen=True)
class NoiseStatistics:
    """Of the end of a trajectory divided by sqrt(1 + sigma^2), each a number for every sample, (B,).

    Attributes:
        mean, std: 0 and 1 for white noise.
        kurtosis: in excess of a normal distribution's; 0 for white noise.
        correlation: between neighbours along the last two dimensions (the only one, for points); 0 for white noise.
    """

    mean: Tensor
    std: Tensor
    kurtosis: Tensor
    correlation: Tensor


def noise_statistics(state: Tensor, sigma: float) -> NoiseStatistics:
    """The `NoiseStatistics` of a ``state`` (B, *) at ``sigma``; NaN for one without spread."""
    grid = (state / (1 + sigma**2) ** 0.5).reshape(state.shape[0], -1, *state.shape[-1:] if state.ndim > 1 else (1,))
    rows = grid.flatten(1)
    mean, std = rows.mean(dim=1), rows.std(dim=1, correction=0)
    standard = (rows - mean[:, None]) / std[:, None]
    shaped = standard.reshape(state.shape)
    products = [
        (shaped.narrow(d, 1, shaped.shape[d] - 1) * shaped.narrow(d, 0, shaped.shape[d] - 1)).flatten(1)
        for d in range(max(1, state.ndim - 2), state.ndim)
        if shaped.shape[d] > 1
    ]
    correlation = torch.cat(products, dim=1).mean(dim=1) if products else torch.full_like(mean, torch.nan)
    return NoiseStatistics(mean, std, standard.pow(4).mean(dim=1) - 3, correlation)


@dataclass(frozen=True)
class Report:
    """Figures about an inversion of B samples over N levels.

    Attributes:
        residual: of each step and sample, (N - 1, B); NaN where it was not measured.
        evaluations: of the denoiser, that each sample needed, (B,). The network's rows are in `Trajectory.evaluations`.
        noise: statistics of the last state.
        tolerance: the residual that each step was solved to; None for an inversion that solves nothing.
        levels: the levels where the steps end, (N - 1,).
    """

    residual: Tensor
    evaluations: Tensor
    noise: NoiseStatistics
    levels: Tensor
    tolerance: float | None = None

    @property
    def unconverged(self) -> Tensor:
        """Whether a step stopped above the tolerance, (N - 1, B)."""
        if self.tolerance is None:
            return torch.zeros_like(self.residual, dtype=torch.bool)
        return ~(self.residual <= self.tolerance)

    @property
    def total(self) -> Tensor:
        """Sum of the residuals of each sample that were measured, (B,); NaN if none was."""
        return torch.where(self.residual.isnan().all(dim=0), torch.nan, self.residual.nansum(dim=0))

    def warning(self, exact: str = EXACT_AT_ANY_CFG) -> str | None:
        """What is wrong with the inversion by its measured residuals, and what to do; None if nothing is.

        ``exact``: the sentence that says how to have the picture back at any cfg.
        """
        bad = ~(self.total <= VISIBLE) & ~self.total.isnan()
        if not bool(bad.any()):
            return None
        worst = self.residual.nan_to_num(0.0, torch.inf).max(dim=1).values.argmax()
        largest = float(self.residual[worst].nan_to_num(0.0).max())
        place = f"the largest residual, {largest:.2g}, is at sigma {float(self.levels[worst]):.3g}"
        start = f"{int(bad.sum())} of {len(bad)} samples will not come back as they were"
        if self.tolerance is None:
            return f"{start}: {place}. Take more levels, a lower cfg, or the inversion 'implicit'. {exact}"
        steps = int(self.unconverged.any(dim=1).sum())
        return (
            f"{start}: {steps} of {len(self.residual)} steps did not reach the tolerance {self.tolerance:g}; {place}. "
            f"Allow more evaluations, or lower cfg. {exact}"
        )


def make_report(
    residuals: list[Tensor | None], evaluations: Tensor, last: Tensor, levels: list[float], tolerance: float | None
) -> Report:
    """The `Report` of residuals (B,), one a step or None, of an inversion that ended at ``last`` (B, *)."""
    nothing = torch.full(last.shape[:1], torch.nan, dtype=last.dtype, device=last.device)
    residual = torch.stack([nothing if found is None else found for found in residuals])
    ends = torch.tensor(levels[1:], dtype=torch.float64)
    return Report(residual, evaluations, noise_statistics(last, levels[-1]), ends, tolerance)
