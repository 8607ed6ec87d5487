"""Flow models: what is the same in their own time as in sigma, and what is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import (
    FlowDenoiser,
    GaussianMixture,
    GuidedDenoiser,
    ddim_sample,
    flow_sigmas,
    invert,
    resample,
)
from msd_core.inversion.fireflow import FireFlow
from msd_core.inversion.flow import level_of, time_of, velocity
from msd_core.inversion.flow_edit import FlowEdit
from msd_core.inversion.implicit import ImplicitStep
from msd_core.inversion.rf_inversion import RFInversion
from msd_core.inversion.rf_solver import RFSolver
from msd_core.inversion.uni_inv import UniInv
from msd_core.sampling import heun_step

pytestmark = pytest.mark.core
TIMES = [0.95, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.0]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def flow_network(x: Tensor, t: Tensor) -> Tensor:
    """A smooth network of a flow model that is no denoiser of any density; u (B, 2)."""
    matrix = torch.tensor([[0.3, -0.8], [0.5, 0.2]], dtype=x.dtype)
    return torch.tanh(x @ matrix) * (1 + t.to(x)[:, None]) - 0.5 * x


def euler_in_t(x: Tensor, times: list[float]) -> list[Tensor]:
    """States x_t at each of ``times`` by Euler's steps with the network itself; asked at the next time where t = 0."""
    states = [x]
    for t, t_next in zip(times, times[1:], strict=False):
        asked = t if t > 0 else t_next
        u = flow_network(states[-1], torch.full((len(x),), asked, dtype=torch.float64))
        states.append(states[-1] + (t_next - t) * u)
    return states


def test_velocities_are_the_networks_own(points: Tensor) -> None:
    denoiser = FlowDenoiser(flow_network)
    for t in (0.05, 0.3, 0.9):
        wanted = flow_network(points, torch.full((len(points),), t, dtype=torch.float64))
        torch.testing.assert_close(
            velocity(denoiser, points, t), wanted, rtol=1e-5, atol=1e-6
        )  # it is told t in float32
        assert time_of(level_of(t)) == pytest.approx(t, rel=1e-12)


def test_eulers_step_in_t_is_ddims(points: Tensor) -> None:
    """For any network, up and down: the same to rounding (of t, which the network is told in float32)."""
    denoiser, above = FlowDenoiser(flow_network), TIMES[:-1]
    up = invert(points / (1 - above[-1]), denoiser, flow_sigmas(above))
    states = euler_in_t(points, above[::-1])
    scaled = torch.stack([state / (1 - t) for state, t in zip(states, above[::-1], strict=True)])
    torch.testing.assert_close(up.states, scaled, rtol=1e-5, atol=1e-5)
    down = ddim_sample(points / (1 - above[0]), denoiser, flow_sigmas(TIMES))
    torch.testing.assert_close(down, euler_in_t(points, TIMES)[-1], rtol=1e-5, atol=1e-5)


def test_rf_inversion_without_pull_is_explicit_ddim(smooth: GaussianMixture, points: Tensor) -> None:
    sigmas = flow_sigmas(TIMES[:-1])
    still = invert(points, smooth, sigmas, RFInversion(gamma=0.0, eta=0.0))
    torch.testing.assert_close(still.states, invert(points, smooth, sigmas).states, rtol=1e-12, atol=1e-12)
    down = ddim_sample(still.states[-1], smooth, sigmas)
    torch.testing.assert_close(resample(still, smooth), down, rtol=1e-12, atol=1e-12)


def test_the_other_flow_methods_are_not(smooth: GaussianMixture, points: Tensor) -> None:
    sigmas = flow_sigmas(TIMES)
    explicit = invert(points, smooth, sigmas).states[-1]
    for inversion in (RFSolver(), FireFlow(), RFInversion()):
        assert float((invert(points, smooth, sigmas, inversion, rng()).states[-1] - explicit).abs().max()) > 0.05


def test_uni_inv_in_t_differs_from_that_in_sigma_by_second_order(smooth: GaussianMixture, points: Tensor) -> None:
    """Ten times the steps bring the two a hundred times closer; they are not the same."""

    def in_t(times: list[float]) -> Tensor:
        t, state = times[0], points * (1 - times[0])
        slope = velocity(smooth, state, t)
        for t_next in times[1:]:
            slope = velocity(smooth, state + (t_next - t) * slope, t_next)
            state, t = state + (t_next - t) * slope, t_next
        return state / (1 - t)

    apart = []
    for steps in (40, 400):
        times = [0.2 + 0.6 * i / steps for i in range(steps + 1)]
        ours = invert(points, smooth, flow_sigmas(times), UniInv()).states[-1]
        apart.append(float((ours - in_t(times)).norm()))
    assert apart[1] > 1e-9 and math.log10(apart[0] / apart[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("inversion", [RFSolver(), FireFlow()])
def test_second_order_towards_the_true_noise(
    inversion: RFSolver | FireFlow, smooth: GaussianMixture, points: Tensor
) -> None:
    """The truth is Heun's method in sigma, with many steps."""
    truth, fine = points, torch.logspace(math.log10(level_of(0.1)), math.log10(level_of(0.8)), 801).double().tolist()
    for sigma, sigma_next in zip(fine, fine[1:], strict=False):
        truth, _ = heun_step(truth, smooth, sigma, sigma_next)
    errors = []
    for steps in (64, 128):
        sigmas = flow_sigmas([0.1 + 0.7 * i / steps for i in range(steps + 1)])
        trajectory = invert(points, smooth, sigmas, inversion)
        errors.append(float((trajectory.states[-1] - truth).norm()))
        assert trajectory.evaluations == len(points) * (2 * steps if isinstance(inversion, RFSolver) else steps + 1)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)
    flipped = lambda z, sigma: 2 * z - smooth(z, sigma)  # noqa: E731
    assert float((invert(points, flipped, sigmas, inversion).states[-1] - truth).norm()) > 100 * errors[1]


def test_the_pulls_of_rf_inversion(smooth: GaussianMixture, points: Tensor) -> None:
    """gamma = 1 goes straight to the noise; eta = 1 throughout comes straight back, whatever the model says."""
    sigmas = flow_sigmas(TIMES)
    trajectory = invert(points, smooth, sigmas, RFInversion(gamma=1.0, eta=1.0, pulled=1.0), rng())
    noise = torch.randn(points.shape, generator=rng(), dtype=points.dtype)
    wanted = torch.stack([points + level * noise for level in sigmas.flip(0)])
    torch.testing.assert_close(trajectory.states, wanted, rtol=1e-10, atol=1e-10)
    broken = lambda z, sigma: 0 * z  # noqa: E731
    torch.testing.assert_close(resample(trajectory, broken), points, rtol=1e-10, atol=1e-10)
    errors = [
        float(
            (resample(invert(points, smooth, sigmas, RFInversion(eta=eta, pulled=0.5), rng()), smooth) - points).norm()
        )
        for eta in (0.0, 0.9)
    ]
    assert errors[1] < 0.7 * errors[0]
    with pytest.raises(ValueError, match="rng: got None"):
        invert(points, smooth, sigmas, RFInversion())
    for settings in ({"gamma": 1.1}, {"eta": -0.1}, {"pulled": math.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))}: got"):
            RFInversion(**settings)


@pytest.mark.parametrize("cfg", [1.0, 3.0, 7.5])
def test_flow_edit_does_nothing_under_the_source(cfg: float, prompted: GuidedDenoiser, points: Tensor) -> None:
    source = prompted.with_cfg(cfg)
    trajectory = invert(points, source, flow_sigmas(TIMES), FlowEdit(), rng())
    assert torch.equal(resample(trajectory, source), points)
    with pytest.raises(ValueError, match="sigmas: got 0.111111 as the lowest level; allowed is 0"):
        invert(points, source, flow_sigmas(TIMES[:-1]), FlowEdit(), rng())


def test_flow_edit_moves_towards_another_condition(smooth: GaussianMixture, points: Tensor) -> None:
    target = GaussianMixture(torch.ones(1), smooth.means[2:3], smooth.covariances[2:3])
    trajectory = invert(points, smooth, flow_sigmas(TIMES), FlowEdit(), rng())
    before, after, less = (
        float((x - smooth.means[2]).norm())
        for x in (points, resample(trajectory, target), resample(trajectory, target, below=0.3))
    )
    assert after < 0.7 * before and after < less < before


def test_flow_edit_moves_a_gaussian_to_a_gaussian(points: Tensor) -> None:
    """Two Gaussians that differ in their mean alone: each picture moves by the difference of the means.

    The denoisers are linear, so u_b(y_t) = u_a(z_i) where y is that far from x, whatever is drawn; the levels end at
    t = .999, and what the thousandth above it would add is missing.
    """
    a, b = (
        GaussianMixture(torch.ones(1).double(), mean[None], 0.3 * torch.eye(2).double()[None])
        for mean in torch.tensor([[0.0, 0.0], [1.0, -0.5]], dtype=torch.float64)
    )
    shift = torch.tensor([1.0, -0.5])
    for steps in (50, 100):
        sigmas = flow_sigmas([0.999 * (1 - i / steps) for i in range(steps + 1)])
        edited = resample(invert(points, a, sigmas, FlowEdit(), rng()), b)
        torch.testing.assert_close(edited, points + shift, rtol=0, atol=1e-3)
        assert float((edited - points - shift).abs().max()) > 1e-4


def test_time_one_is_refused() -> None:
    with pytest.raises(ValueError, match="times: entry 0 is 1.0; allowed is from 0 to below 1.*Begin at 0.999"):
        flow_sigmas([1.0, 0.5, 0.0])
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="times: entry 1"):
            flow_sigmas([0.5, wrong])


def test_implicit_steps_invert_a_flow_model_from_just_below_one(points: Tensor) -> None:
    denoiser = FlowDenoiser(flow_network)
    sigmas = flow_sigmas([0.999, *TIMES[:-1], 0.0])
    x = ddim_sample(30 * points, denoiser, sigmas)
    trajectory = invert(x, denoiser, sigmas, ImplicitStep(tolerance=1e-9, evaluations=60))
    assert float((resample(trajectory, denoiser) - x).abs().max()) < 1e-5
