"""An inversion in words and curves: what it took, what it missed, what its end is like, and what came back."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import EXACT_AT_ANY_CFG
from .report import VISIBLE
from .resample import round_trip_psnr
from .trajectory import Trajectory


def described(trajectory: Trajectory, back: Tensor | None = None, exact: str = EXACT_AT_ANY_CFG) -> str:
    """Lines of evaluations, residuals, statistics of the end as noise, and any warning.

    Args:
        trajectory: as `invert` returns it.
        back: (B, *), what `resample` made of it; adds the least PSNR over the samples, in the range of each.
        exact: as in `Report.warning`.
    """
    report, steps = trajectory.report, len(trajectory.sigmas) - 1
    lines = [f"{trajectory.evaluations} evaluations in {steps} steps up to σ {float(trajectory.sigmas[-1]):.4g}"]
    if report is not None:
        noise = report.noise
        if not bool(report.total.isnan().all()):
            worst = float(report.total.nan_to_num(0.0).max())
            lines.append(f"residuals: {worst:.2g} in all, of variance 1; above {VISIBLE:g} it shows")
        lines.append(
            f"end: mean {float(noise.mean.abs().max()):.3f}, spread {float(noise.std.mean()):.3f}, neighbours "
            f"{float(noise.correlation.abs().max()):.3f} (white noise: 0, 1, 0)"
        )
    if back is not None:
        psnr = round_trip_psnr(trajectory.states[0], back)
        lines.append(f"comes back at {float(psnr.min()):.1f} dB, as a latent")
    if (warning := trajectory.warning(exact)) is not None:
        lines.append(f"warning: {warning}")
    return "\n".join(lines)


def inversion_curves(trajectory: Trajectory) -> dict[str, list[float]]:
    """Name to a value a step, for `plot.plot_curves`: level, residual, and the spread of the state it ends at.

    The residual is the worst sample's, NaN where none was measured. The spread is RMS over all samples, over
    sqrt(1 + sigma^2): of noisy states whose picture has unit variance it is 1.
    """
    levels = trajectory.sigmas[1:].cpu().double()
    over_all = tuple(range(1, trajectory.states.ndim))
    spread = trajectory.states[1:].square().mean(dim=over_all).cpu().double().sqrt() / (1 + levels**2).sqrt()
    curves = {"noise level sigma": levels.tolist(), "spread of the state, 1 is noise": spread.tolist()}
    if trajectory.report is None:
        return curves
    residual = trajectory.report.residual.cpu().double()
    worst = torch.where(residual.isnan().all(dim=1), torch.nan, residual.nan_to_num(-1.0, torch.inf).amax(dim=1))
    return {"residual of the step, worst sample": worst.tolist(), **curves}
