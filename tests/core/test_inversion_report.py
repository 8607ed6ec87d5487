"""The report of an inversion says what was measured, and the way back refuses what does not fit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core import (
    INVERSIONS,
    GaussianMixture,
    GuidedDenoiser,
    ImplicitStep,
    Trajectory,
    ddim_sample,
    invert,
    resample,
    resample_steps,
    round_trip_psnr,
    sigma_schedule,
)
from msd_core.inversion.base import residual_of
from msd_core.inversion.report import noise_statistics
from msd_core.inversion.words import inversion_curves
from msd_core.settings import settings_of, settings_table

pytestmark = pytest.mark.core
PAGE = Path(__file__).resolve().parents[2] / "docs" / "inversion.md"


def levels(steps: int = 12) -> Tensor:
    return sigma_schedule("karras", steps, sigma_min=0.05, sigma_max=8.0).double()


# --- curves -----------------------------------------------------------------------------------------------------------


def test_curves_of_white_noise_pictures_are_flat_and_the_residual_is_the_worst() -> None:
    """Of N(0, I), D = z / (1 + sigma^2): the spread stays what it is at the picture, as the state grows."""
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    x = x / x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    for name in ("explicit", "uni-inv"):
        trajectory = invert(x, lambda z, sigma: z / (1 + torch.as_tensor(sigma) ** 2), levels(80), INVERSIONS[name]())
        curves = inversion_curves(trajectory)
        assert {len(values) for values in curves.values()} == {len(trajectory.sigmas) - 1}
        assert curves["noise level sigma"] == trajectory.sigmas[1:].tolist()
        assert curves["spread of the state, 1 is noise"] == pytest.approx(
            [1.0] * (len(trajectory.sigmas) - 1), abs=0.06
        )
        assert trajectory.report is not None
        worst = trajectory.report.residual.amax(dim=1).tolist()
        assert curves["residual of the step, worst sample"] == pytest.approx(worst, nan_ok=True)
    bare = Trajectory(trajectory.sigmas, trajectory.states)
    assert list(inversion_curves(bare)) == list(curves)[1:], "nothing was measured"


# --- statistics of the noise ------------------------------------------------------------------------------------------


def test_white_noise_looks_like_it() -> None:
    """Within five standard errors, at any level; what is no white noise is far outside."""
    noise = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    n = noise[0].numel()
    found = noise_statistics(7.0 * noise, math.sqrt(48.0))
    for values, wanted, error in (
        (found.mean, 0, 1), (found.std, 1, math.sqrt(1 / 2)), (found.kurtosis, 0, math.sqrt(24)),
        (found.correlation, 0, math.sqrt(1 / 2)),
    ):  # fmt: skip
        assert values.shape == (2,) and float((values - wanted).abs().max()) < 5 * error / math.sqrt(n)
    smooth = (noise + noise.roll(1, -1) + noise.roll(1, -2)) / 3**0.5
    assert float(noise_statistics(smooth, 0.0).correlation.min()) > 0.2
    flat = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(noise_statistics(flat, 0.0).kurtosis) == pytest.approx(-1.2, abs=0.1)
    assert float(noise_statistics(noise + 0.2, 0.0).mean.min()) > 0.15
    assert float(noise_statistics(noise, 2.0).std.max()) < 0.5, "noise that is too weak for its level"


def test_statistics_are_of_each_sample() -> None:
    states = torch.randn(3, 2, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    together, alone = noise_statistics(states, 1.0), [noise_statistics(row[None], 1.0) for row in states]
    for name in ("mean", "std", "kurtosis", "correlation"):
        torch.testing.assert_close(getattr(together, name), torch.cat([getattr(one, name) for one in alone]))
    assert noise_statistics(states[:, 0, 0], 1.0).correlation.shape == (3,), "points have one dimension"
    assert bool(noise_statistics(torch.ones(1, 4), 1.0).kurtosis.isnan())
    assert bool(noise_statistics(torch.ones(2), 1.0).correlation.isnan().all())


# --- residuals --------------------------------------------------------------------------------------------------------


def test_the_explicit_inversion_measures_for_free(smooth: GaussianMixture, points: Tensor) -> None:
    """Each step asks the model where the one below has ended: all residuals but the last, at no evaluation more."""
    trajectory = invert(points, smooth, levels())
    report, up = trajectory.report, trajectory.sigmas
    assert report is not None and trajectory.evaluations == 12 * len(points)
    assert report.evaluations.tolist() == [12] * len(points) and not report.unconverged.any()
    assert bool(report.residual[-1].isnan().all())
    for i in range(len(up) - 2):
        back = ddim_sample(trajectory.states[i + 1], smooth, up[i : i + 2].flip(0))
        missed = residual_of(trajectory.states[i] - back, float(up[i + 1]))
        torch.testing.assert_close(report.residual[i], missed, rtol=1e-9, atol=1e-12)
    assert float(report.residual[:-1].min()) > 0


def test_the_sum_is_about_what_comes_back(smooth: GaussianMixture, points: Tensor) -> None:
    """The picture's error is within a factor of thirty of the sum of the residuals, from 1e-2 down to 1e-8."""
    for inversion in (INVERSIONS["explicit"](), ImplicitStep(tolerance=1e-5), ImplicitStep(tolerance=1e-9)):
        trajectory = invert(points, smooth, levels(40), inversion)
        assert trajectory.report is not None
        ratio = (resample(trajectory, smooth) - points).square().mean(dim=1).sqrt() / trajectory.report.total
        assert 1 / 30 < float(ratio.min()) and float(ratio.max()) < 30


def test_warnings_say_what_to_do(prompted: GuidedDenoiser, points: Tensor) -> None:
    explicit = str(invert(points, prompted, levels()).warning())
    assert "5 of 5 samples will not come back" in explicit and "the inversion 'implicit'" in explicit
    assert "is at sigma" in explicit and "the inversion 'direct', which re-samples exactly at any cfg" in explicit
    short = str(invert(points, prompted.with_cfg(7.5), levels(), ImplicitStep(evaluations=2)).warning())
    assert "did not reach the tolerance 1e-06" in short and "Allow more evaluations, or lower cfg" in short
    assert invert(points, prompted.with_cfg(1.0), levels(), ImplicitStep()).warning() is None
    assert invert(points, prompted, levels(), INVERSIONS["uni-inv"]()).warning() is None, "nothing was measured"
    assert Trajectory(levels().flip(0), torch.zeros(13, 1, 2)).warning() is None


def test_a_model_that_breaks_is_reported(points: Tensor) -> None:
    broken = lambda z, sigma: z * math.nan  # noqa: E731
    trajectory = invert(points, broken, levels(), ImplicitStep(evaluations=3))
    assert trajectory.report is not None and bool(trajectory.report.unconverged.all())
    assert "5 of 5 samples will not come back" in str(trajectory.warning())


# --- the way back -----------------------------------------------------------------------------------------------------


def test_steps_down_are_those_of_the_levels(prompted: GuidedDenoiser, points: Tensor) -> None:
    for name in ("explicit", "direct", "rf-solver"):
        trajectory = invert(points, prompted, levels(5), INVERSIONS[name]())
        down = list(resample_steps(trajectory, prompted))
        assert [sigma for sigma, _ in down] == levels(5).tolist()[1:]
        assert torch.equal(down[-1][1], resample(trajectory, prompted))
        part = list(resample_steps(trajectory, prompted, below=float(levels(5)[2])))
        assert [sigma for sigma, _ in part] == levels(5).tolist()[3:]


def test_a_trajectory_made_by_hand_is_walked_by_ddim(smooth: GaussianMixture, points: Tensor) -> None:
    made = invert(points, smooth, levels())
    by_hand = Trajectory(made.sigmas, made.states)
    assert torch.equal(resample(by_hand, smooth), ddim_sample(made.states[-1], smooth, levels()))


def test_what_does_not_fit_is_refused(smooth: GaussianMixture, points: Tensor) -> None:
    trajectory = invert(points, smooth, levels())
    for below in (0.01, 0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"below: got .*; allowed is at least 0.05, the first level above"):
            resample(trajectory, smooth, below=below)
    with pytest.raises(
        ValueError, match=r"denoiser: its result: got shape \(2, 2\); allowed is the shape of z, \(5, 2\)"
    ):
        resample(trajectory, lambda z, sigma: z[:2])
    with pytest.raises(ValueError, match=r"denoiser: its result: got shape \(2, 2\)"):
        invert(points, lambda z, sigma: z[:2], levels(), ImplicitStep())


@pytest.mark.parametrize("name", INVERSIONS)
def test_levels_that_are_none(name: str, smooth: GaussianMixture, points: Tensor) -> None:
    for wrong in ([], [1.0], [1.0, 1.0], [1.0, math.nan], [math.inf, 1.0], [1.0, -0.5], [1.0, 0.2, 0.5]):
        with pytest.raises(ValueError, match="sigmas: "):
            invert(points, smooth, torch.tensor(wrong), INVERSIONS[name]())


def test_psnr() -> None:
    x = torch.tensor([[0.0, 1.0, 0.5, 0.25], [0.0, 2.0, 1.0, 1.0]])
    assert round_trip_psnr(x, x + 0.1, peak=1.0).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert round_trip_psnr(x, x + 0.1).tolist() == pytest.approx([20.0, 20.0 + 20 * math.log10(2)], abs=1e-4)
    assert round_trip_psnr(x, x).tolist() == [math.inf, math.inf]
    with pytest.raises(ValueError, match=r"back: got shape \(1, 4\)"):
        round_trip_psnr(x, x[:1])


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["implicit", "direct", "edit-friendly", "uni-inv"])
def test_fifty_steps_of_a_large_latent_are_small(name: str) -> None:
    """Of SDXL's at 1024 x 1024: under 40 MB with all that is kept; the solver's window is gone."""
    x = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    sigmas = sigma_schedule("karras", 50, sigma_min=0.03, sigma_max=14.6)
    shrink = lambda z, sigma: z / (1 + torch.as_tensor(sigma) ** 2)  # noqa: E731
    trajectory = invert(x, shrink, sigmas, INVERSIONS[name](), torch.Generator().manual_seed(0))
    held = [trajectory.states, *trajectory.kept.values()]
    assert all(part.dtype == torch.float32 and part.untyped_storage().nbytes() == part.nbytes for part in held)
    assert sum(part.nbytes for part in held) < 40e6


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_says_what_the_fields_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, kind in INVERSIONS.items():
        assert f"| `{name}` |" in page, f"docs/inversion.md: the table lacks {name}"
        if settings_of(kind):
            assert settings_table(kind) in page, f"docs/inversion.md: the settings of {name} have changed"
