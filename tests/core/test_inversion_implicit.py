"""Implicit inversions are the inverse of the sampler's steps: to the tolerance, each sample for itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from msd_core import (
    INVERSIONS,
    DiscreteSchedule,
    EpsDenoiser,
    FlowDenoiser,
    GaussianMixture,
    GuidedDenoiser,
    Trajectory,
    VDenoiser,
    ddim_sample,
    ddim_steps,
    flow_sigmas,
    invert,
    resample,
    round_trip_psnr,
    sd15_schedule,
    sigma_schedule,
)
from msd_core.denoiser import Denoiser
from msd_core.inversion.base import residual_of, rms
from msd_core.inversion.implicit import ImplicitStep
from msd_core.inversion.implicit_dpmpp_2m import ImplicitDPMpp2M
from msd_core.inversion.solve import Solving
from msd_core.multistep import dpmpp_2m_steps

pytestmark = pytest.mark.core
SOLVED = ("implicit", "implicit-heun", "implicit-dpmpp-2m")


def levels(steps: int = 20) -> Tensor:
    """Descending to 0, float64; the lowest is well below the smooth mixture's widths."""
    return sigma_schedule("karras", steps, sigma_min=0.05, sigma_max=8.0).double()


def worst(trajectory: Trajectory, denoiser: Denoiser) -> float:
    """The largest error of the picture that comes back."""
    return float((resample(trajectory, denoiser) - trajectory.states[0]).abs().max())


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVED)
def test_round_trip_to_the_tolerance(name: str, smooth: GaussianMixture, points: Tensor) -> None:
    """In float64 the error falls with the tolerance, by as much."""
    errors = []
    for tolerance in (1e-4, 1e-8, 1e-12):
        more = {"sweeps": 40} if name == "implicit-dpmpp-2m" else {}
        trajectory = invert(points, smooth, levels(), INVERSIONS[name](tolerance=tolerance, evaluations=60, **more))
        report = trajectory.report
        assert report is not None and not report.unconverged.any() and float(report.residual.max()) <= tolerance
        errors.append(worst(trajectory, smooth))
        assert errors[-1] < 300 * tolerance
    assert errors[0] > 1e-7, "a tolerance of 1e-4 is not met by accident"


@pytest.mark.parametrize("name", SOLVED)
def test_round_trip_in_single_precision(name: str, smooth: GaussianMixture, points: Tensor) -> None:
    x = points.float()
    trajectory = invert(x, smooth, levels(50).float(), INVERSIONS[name]())
    assert trajectory.states.dtype == torch.float32 and trajectory.warning() is None
    assert float(round_trip_psnr(x, resample(trajectory, smooth), peak=2.0).min()) > 60


@pytest.mark.parametrize("name", SOLVED)
def test_a_part_of_the_way_leads_back_too(name: str, smooth: GaussianMixture, points: Tensor) -> None:
    """DPM-Solver++(2M)'s first step takes what the model said one level higher, as it was inverted."""
    more = {"sweeps": 40} if name == "implicit-dpmpp-2m" else {}
    trajectory = invert(points, smooth, levels(), INVERSIONS[name](tolerance=1e-10, evaluations=60, **more))
    for below in (5.0, 1.0, 0.2):
        assert float((resample(trajectory, smooth, below=below) - points).abs().max()) < 1e-7


def test_explicit_steps_do_not_reach_that(smooth: GaussianMixture, points: Tensor) -> None:
    x = points.float()
    back = resample(invert(x, smooth, levels(50).float()), smooth)
    assert float(round_trip_psnr(x, back, peak=2.0).min()) < 50


@pytest.mark.parametrize("name", SOLVED)
def test_another_sampler_does_not_lead_back(name: str, smooth: GaussianMixture, points: Tensor) -> None:
    trajectory = invert(points, smooth, levels(), INVERSIONS[name]())
    others = [other for other in SOLVED if other != name]
    assert worst(trajectory, smooth) < 1e-4
    for other in others:
        assert worst(replace(trajectory, inversion=INVERSIONS[other]()), smooth) > 1e-3


@pytest.mark.parametrize("name", SOLVED)
def test_the_wrong_model_does_not_lead_back(name: str, prompted: GuidedDenoiser, points: Tensor) -> None:
    trajectory = invert(points, prompted.uncond, levels(), INVERSIONS[name]())
    assert worst(trajectory, prompted.cond) > 0.1


@pytest.mark.parametrize("cfg", [1.0, 3.0, 7.5])
def test_guidance(cfg: float, prompted: GuidedDenoiser, points: Tensor) -> None:
    """Samples that converged come back; what did not is named. At cfg 1 all converge, at 3 most."""
    denoiser = prompted.with_cfg(cfg)
    x = ddim_sample(8 * points.roll(1, 0), denoiser, levels(30))
    trajectory = invert(x, denoiser, levels(30), ImplicitStep(tolerance=1e-10, evaluations=200))
    report = trajectory.report
    assert report is not None
    solved = ~report.unconverged.any(dim=0)
    errors = rms(resample(trajectory, denoiser) - x)
    assert int(solved.sum()) >= {1.0: 5, 3.0: 4, 7.5: 1}[cfg]
    assert float(errors[solved].max()) < 1e-6
    explicit = rms(resample(invert(x, denoiser, levels(30)), denoiser) - x)
    assert float(explicit.max()) > 1e-2


# --- models -----------------------------------------------------------------------------------------------------------


def network(kind: str, density: GaussianMixture, sigma_of: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """What a perfect network of ``kind`` predicts, in its own coordinates."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        sigma = sigma_of(t).to(x)[:, None]
        z = x * ((1 + sigma) if kind == "flow" else (1 + sigma**2).sqrt())
        y = density(z, sigma.flatten())
        n = (z - y) / sigma
        return {"eps": n, "v": (n - sigma * y) / (1 + sigma**2).sqrt(), "flow": n - y}[kind]

    return predict


def zero_terminal() -> DiscreteSchedule:
    """Stable Diffusion's schedule with (almost) zero terminal SNR, sigma_max = 4518 as the host has it."""
    root = sd15_schedule().alphas_cumprod.sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return DiscreteSchedule(torch.cat([root[:-1] ** 2, torch.tensor([4.8973451890853435e-08], dtype=root.dtype)]))


@pytest.mark.parametrize("name", ["implicit", "implicit-heun"])
@pytest.mark.parametrize("kind", ["eps", "v", "flow", "flow, shift 3", "zero terminal SNR"])
def test_every_kind_of_model(kind: str, name: str, smooth: GaussianMixture, points: Tensor) -> None:
    if kind.startswith("flow"):
        denoiser, shift = FlowDenoiser(network("flow", smooth, lambda t: t / (1 - t))), 3 if "3" in kind else 1
        times = [0.995 - 0.995 * i / 25 for i in range(26)]
        sigmas = flow_sigmas([shift * t / (1 + (shift - 1) * t) for t in times]).float()
    else:
        schedule = sd15_schedule() if kind in ("eps", "v") else zero_terminal()
        make = EpsDenoiser if kind == "eps" else VDenoiser
        denoiser = make(network("eps" if kind == "eps" else "v", smooth, schedule.sigma), schedule)
        sigmas = sigma_schedule("sgm_uniform", 25, schedule=schedule)
        assert float(sigmas[0]) == pytest.approx(14.6 if kind != "zero terminal SNR" else 4518, rel=0.01)
    x = points.float()
    trajectory = invert(x, denoiser, sigmas, INVERSIONS[name](tolerance=1e-5))
    assert bool(trajectory.states.isfinite().all())
    assert float(round_trip_psnr(x, resample(trajectory, denoiser), peak=2.0).min()) > 75


# --- the solver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVED)
def test_a_row_does_not_see_the_others(name: str, smooth: GaussianMixture, points: Tensor) -> None:
    """Rows stop at their own tolerance; those that go on do not change them, and count for themselves.

    To the bit, whatever the other rows are: the solver multiplies a last bit that differs by a billion.
    """
    sigmas, inversion = levels(6), INVERSIONS[name](tolerance=1e-7, evaluations=12)
    together = invert(points, smooth, sigmas, inversion)
    assert together.report is not None
    for i in range(len(points)):
        others = points.flip(0) + 0.05
        others[i] = points[i]
        beside = invert(others, smooth, sigmas, inversion)
        assert beside.report is not None and not torch.equal(beside.states, together.states)
        assert torch.equal(beside.states[:, i], together.states[:, i])
        assert beside.report.evaluations[i] == together.report.evaluations[i]
    assert len(set(together.report.evaluations.tolist())) > 1, "all rows took as many evaluations: nothing was tested"


def oscillating(y: Tensor) -> Tensor:
    """f of a map whose plain iteration diverges with period 2: slopes -1.6 and -0.3."""
    return torch.tensor([1.0, 2.0]) - y * torch.tensor([2.6, 1.3])


def solve(**settings: float) -> tuple[Tensor, float]:
    solved = Solving(**{"tolerance": 0.0, **settings}).solve(oscillating, torch.zeros(1, 2), rms)  # type: ignore[arg-type]
    return solved.state[0], float(solved.residual)


def test_the_solver_finds_what_the_plain_iteration_loses() -> None:
    found, residual = solve(evaluations=8)
    torch.testing.assert_close(found, torch.tensor([1 / 2.6, 2 / 1.3]))
    assert residual < 1e-6
    y = torch.zeros(1, 2)
    for _ in range(8):
        y = y + oscillating(y)
    assert float(rms(oscillating(y))) > 1, "the plain iteration diverges"


def test_the_best_iterate_is_kept() -> None:
    """More evaluations never make it worse, also where the iteration itself does."""
    for window in (0, 1, 3):
        residuals = [solve(evaluations=n, window=window)[1] for n in range(1, 20)]
        assert residuals == sorted(residuals, reverse=True)


def test_a_step_that_fails_is_taken_back_and_halved() -> None:
    found, residual = solve(evaluations=40, window=0)
    assert residual < 1e-3
    torch.testing.assert_close(found, torch.tensor([1 / 2.6, 2 / 1.3]), rtol=1e-2, atol=1e-2)


def test_what_is_not_finite_is_never_kept() -> None:
    def poisoned(y: Tensor) -> Tensor:
        return torch.where(y.abs() > 0.6, torch.nan, 2 * (0.5 - y))

    solved = Solving(evaluations=30, tolerance=1e-6).solve(poisoned, torch.zeros(2, 3), rms)
    assert bool(solved.state.isfinite().all()) and float(solved.residual.max()) <= 1e-6


def test_the_window_is_as_large_as_it_says() -> None:
    """An affine map in three dimensions: exact after three differences, not after one."""
    matrix = torch.tensor([[0.9, 0.3, 0.0], [-0.4, 0.7, 0.2], [0.1, 0.0, 1.4]], dtype=torch.float64)
    start, right = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)

    def residual(y: Tensor) -> Tensor:
        return right - y @ matrix.T

    three, one = (
        float(Solving(evaluations=6, tolerance=0.0, window=m).solve(residual, start, rms).residual) for m in (3, 1)
    )
    assert three < 1e-10 and one > 1e-4


def test_the_residual_is_the_error_of_one_step_down(smooth: GaussianMixture, points: Tensor) -> None:
    trajectory = invert(points, smooth, levels(), ImplicitStep(evaluations=3))
    ascending = trajectory.sigmas
    report = trajectory.report
    assert report is not None
    for i in range(len(ascending) - 1):
        back = ddim_sample(trajectory.states[i + 1], smooth, ascending[i : i + 2].flip(0))
        measured = residual_of(trajectory.states[i] - back, float(ascending[i + 1]))
        torch.testing.assert_close(report.residual[i], measured, rtol=1e-6, atol=1e-12)


def test_a_picture_that_the_model_cannot_make_is_named(smooth: GaussianMixture) -> None:
    """A model that returns nothing outside of [-1, 1]: a picture there has no inverse, and the report says so."""
    far = torch.tensor([[3.0, -3.0], [0.0, 0.0]], dtype=torch.float64)
    narrow = GaussianMixture(torch.ones(1), torch.zeros(1, 2), 1e-4 * torch.eye(2)[None])
    clipped = lambda z, sigma: narrow(z, sigma).clamp(-1, 1)  # noqa: E731
    trajectory = invert(far, clipped, torch.tensor([1.0, 0.5, 0.0]), ImplicitStep())
    report = trajectory.report
    assert report is not None and report.unconverged[0].tolist() == [True, False]
    assert "1 of 2 samples will not come back" in str(trajectory.warning())


# --- the multistep sampler --------------------------------------------------------------------------------------------


def test_sweeps_end_where_they_gain_nothing(prompted: GuidedDenoiser, smooth: GaussianMixture, points: Tensor) -> None:
    """A sample whose residual does not halve within `patience` sweeps keeps its best one."""
    guided = prompted.with_cfg(7.5)
    found = [invert(points, guided, levels(), ImplicitDPMpp2M(sweeps=15, patience=some)) for some in (1, 3, 15)]
    spent = [int(one.report.evaluations.sum()) for one in found]
    assert spent[0] < spent[1] < 0.7 * spent[2]
    residuals = [float(one.report.residual.max(dim=0).values.median()) for one in found]
    assert residuals[2] <= residuals[1] <= residuals[0] < 1
    alone, easy = (invert(points, smooth, levels(), ImplicitDPMpp2M(patience=some)) for some in (3, 10))
    assert torch.equal(alone.states, easy.states) and not bool(alone.report.unconverged.any())


def test_the_multistep_sampler_is_of_second_order(points: Tensor) -> None:
    """Towards the closed-form flow of a Gaussian, down to a level above 0; DDIM is of first order there."""
    variances = torch.tensor([0.25, 0.09], dtype=torch.float64)
    gaussian = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.diag(variances)[None])
    start, end = 3.0, 0.2
    truth = points * ((end**2 + variances) / (start**2 + variances)).sqrt()
    errors = {"ddim": [], "dpmpp_2m": []}
    for steps in (32, 64, 128, 256):
        sigmas = torch.logspace(math.log10(start), math.log10(end), steps + 1, dtype=torch.float64)
        errors["ddim"].append(float((ddim_sample(points, gaussian, sigmas) - truth).norm()))
        *_, (_, last, _) = dpmpp_2m_steps(points, gaussian, sigmas)
        errors["dpmpp_2m"].append(float((last - truth).norm()))
    assert math.log2(errors["ddim"][-2] / errors["ddim"][-1]) == pytest.approx(1, abs=0.1)
    assert math.log2(errors["dpmpp_2m"][-2] / errors["dpmpp_2m"][-1]) == pytest.approx(2, abs=0.15)


def test_the_multistep_sampler_checks_at_the_call_as_ddim_does(points: Tensor, smooth: GaussianMixture) -> None:
    """Nothing is walked yet where arguments are wrong; what the model returns is never broadcast."""
    falling = torch.tensor([2.0, 1.0, 0.0])
    for steps in (dpmpp_2m_steps, ddim_steps):
        for z, denoiser, sigmas, words in (
            (points, smooth, falling.flip(0), "sigmas: entry 1 is 1.0, after 0.0"),
            (points * math.nan, smooth, falling, "z: "),
            (torch.tensor(1.0), smooth, falling, "z: "),
            (points, "model", falling, "denoiser: got 'model'"),
        ):
            with pytest.raises(ValueError, match=words):
                steps(z, denoiser, sigmas)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"denoiser: its result: got shape \(1, 2\)"):
            next(steps(points, lambda z, _: z[:1], falling))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"evaluations": 0}, "evaluations: got 0"),
        ({"tolerance": -1.0}, "tolerance: got -1.0"),
        ({"tolerance": math.nan}, "tolerance: got nan"),
        ({"window": 17}, "window: got 17"),
        ({"damping": 0.0}, "damping: got 0.0"),
        ({"damping": 1.5}, "damping: got 1.5"),
    ],
)
def test_wrong_settings(settings: dict[str, float], words: str) -> None:
    for name in SOLVED:
        with pytest.raises(ValueError, match=words):
            INVERSIONS[name](**settings)


def test_sweeps_do_not_ask_the_model_twice_at_one_state(smooth: GaussianMixture, points: Tensor) -> None:
    """What it said where a step ended is kept for the differences, and for the next sweep, which begins there."""
    for point in points:
        asked: list[tuple[bytes, float]] = []

        def denoiser(z: Tensor, sigma: float, asked: list[tuple[bytes, float]] = asked) -> Tensor:
            asked.append((z.numpy().tobytes(), float(sigma)))
            return smooth(z, sigma)

        trajectory = invert(point[None], denoiser, levels(12), ImplicitDPMpp2M())
        assert trajectory.report is not None and len(asked) > 3 * 12, "one sweep shows nothing"
        assert len(set(asked)) == len(asked) == int(trajectory.report.evaluations[0])
