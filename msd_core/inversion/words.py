"""An inversion in words: what it took, what it missed, what its end is like, and what came back."""

from __future__ import annotations

from torch import Tensor

from .report import VISIBLE
from .resample import round_trip_psnr
from .trajectory import Trajectory


def described(trajectory: Trajectory, back: Tensor | None = None) -> str:
    """Lines of evaluations, residuals, statistics of the end as noise, and any warning.

    Args:
        trajectory: as `invert` returns it.
        back: (B, *), what `resample` made of it; adds the least PSNR over the samples, in the range of each.
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
    if (warning := trajectory.warning()) is not None:
        lines.append(f"warning: {warning}")
    return "\n".join(lines)
