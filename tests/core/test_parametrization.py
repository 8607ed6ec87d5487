"""A network that predicts noise, velocity or flow of a known mixture becomes the mixture's denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from msd_core import (
    EDMDenoiser,
    EpsDenoiser,
    FlowDenoiser,
    GaussianMixture,
    GuidedDenoiser,
    VDenoiser,
    eps,
    sd15_schedule,
    sigma_range,
)
from msd_core.denoiser import Denoiser, data_std, expand_sigma

pytestmark = pytest.mark.core
SCHEDULE = sd15_schedule()
Network = Callable[[Tensor, Tensor], Tensor]


def eps_network(mixture: GaussianMixture) -> Network:
    def network(x: Tensor, t: Tensor) -> Tensor:
        sigma = SCHEDULE.sigma(t).double()
        z = x * (1 + expand_sigma(sigma, x) ** 2).sqrt()
        return eps(z, sigma, mixture(z, sigma))

    return network


def v_network(mixture: GaussianMixture) -> Network:
    """v = (n - sigma y) / sqrt(1 + sigma^2): the expectation given z."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        sigma = SCHEDULE.sigma(t).double()
        level = expand_sigma(sigma, x)
        z = x * (1 + level**2).sqrt()
        denoised = mixture(z, sigma)
        return (eps(z, sigma, denoised) - level * denoised) / (1 + level**2).sqrt()

    return network


def flow_network(mixture: GaussianMixture) -> Network:
    """u = n - y: the expectation given x = (1 - t) y + t n."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        t = t.double()
        sigma = t / (1 - t)
        z = x * (1 + expand_sigma(sigma, x))
        denoised = mixture(z, sigma)
        return eps(z, sigma, denoised) - denoised

    return network


def edm_network(mixture: GaussianMixture, s: float, sign: float) -> Network:
    """F = (D - c_skip z) / c_out (Karras et al. 2022, Eq. 7, Table 1), or less that."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        sigma = (4 * t.double()).exp()
        level = expand_sigma(sigma, x)
        z = x * (level**2 + s**2).sqrt()
        skipped = s**2 / (level**2 + s**2) * z
        return sign * (mixture(z, sigma) - skipped) * (level**2 + s**2).sqrt() / (level * s)

    return network


def make(kind: str, mixture: GaussianMixture) -> Denoiser:
    if kind == "edm":
        return EDMDenoiser(edm_network(mixture, 0.5, 1.0))
    if kind == "edm-v":
        return EDMDenoiser(edm_network(mixture, 1.2, -1.0), data_std=1.2, prediction="v_prediction")
    if kind == "eps":
        return EpsDenoiser(eps_network(mixture), SCHEDULE)
    if kind == "v":
        return VDenoiser(v_network(mixture), SCHEDULE)
    return FlowDenoiser(flow_network(mixture))


KINDS = ("eps", "v", "flow", "edm", "edm-v")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [14.0, 1.0, 0.1, 0.03])
def test_it_is_the_denoiser_of_the_density(kind: str, sigma: float, mixture: GaussianMixture, points: Tensor) -> None:
    z = points + sigma * points.flip(0)
    torch.testing.assert_close(make(kind, mixture)(z, sigma), mixture(z, sigma), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_prediction_is_noticed(kind: str, mixture: GaussianMixture, points: Tensor) -> None:
    right = make(kind, mixture)
    network = right.network  # type: ignore[attr-defined]
    wrong = replace(right, network=lambda x, t: -network(x, t))  # type: ignore[type-var]
    assert (wrong(points, 0.5) - mixture(points, 0.5)).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_rows(kind: str, mixture: GaussianMixture, points: Tensor) -> None:
    denoiser = make(kind, mixture)
    sigma = torch.tensor([5.0, 1.0, 0.3, 0.1, 0.05], dtype=torch.float64)
    rows = torch.cat([denoiser(points[i : i + 1], float(sigma[i])) for i in range(5)])
    torch.testing.assert_close(denoiser(points, sigma), rows, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_denoiser(kind: str, mixture: GaussianMixture, points: Tensor) -> None:
    denoiser = make(kind, mixture)
    z = points.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: denoiser(z, 0.4), z)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_in_half_precision_keeps_the_state_in_float32(kind: str) -> None:
    def network(x: Tensor, t: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        assert t.dtype == torch.float32
        assert t.shape == (3,)
        return torch.zeros(x.shape, dtype=torch.float16)

    plain = {"flow": FlowDenoiser, "edm": EDMDenoiser, "edm-v": EDMDenoiser}
    discrete = {"eps": EpsDenoiser, "v": VDenoiser}
    denoiser = plain[kind](network) if kind in plain else discrete[kind](network, SCHEDULE)
    z = torch.full((3, 4, 2, 2), 0.1, dtype=torch.float16)
    assert denoiser(z, 1e-3).dtype == torch.float32


def test_levels_known_to_the_network_are_told() -> None:
    assert sigma_range(EpsDenoiser(lambda x, t: x, SCHEDULE)) == (SCHEDULE.sigma_min, SCHEDULE.sigma_max)
    assert sigma_range(VDenoiser(lambda x, t: x, SCHEDULE)) == (SCHEDULE.sigma_min, SCHEDULE.sigma_max)
    low, high = sigma_range(FlowDenoiser(lambda x, t: x, t_min=0.5, t_max=0.9))
    assert (low, high) == pytest.approx((1.0, 9.0))


@pytest.mark.parametrize("times", [(0.0, 0.9), (0.5, 1.0), (0.9, 0.5)])
def test_flow_times_without_a_level_are_refused(times: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="t_min, t_max: got"):
        FlowDenoiser(lambda x, t: x, *times)


@pytest.mark.parametrize("kind", KINDS)
def test_the_deviation_of_its_data_can_be_said(kind: str, mixture: GaussianMixture, points: Tensor) -> None:
    """1 if it is not, alone and guided; only EDM's predictions change by it; and nothing else is one."""
    plain: Any = make(kind, mixture)
    other = replace(plain, data_std=0.7)
    edm = isinstance(plain, EDMDenoiser)
    assert (edm or data_std(plain) == 1.0) and data_std(other) == 0.7
    assert data_std(GuidedDenoiser(other, other, 3.0)) == 0.7
    assert torch.equal(plain(points, 0.5), other(points, 0.5)) is not edm
    for wrong in (0.0, -1.0, math.nan, "1"):
        with pytest.raises(ValueError, match="data_std: got"):
            replace(plain, data_std=wrong)


def test_a_shifted_chain_has_more_of_its_levels_at_high_noise() -> None:
    """shift t / (1 + (shift - 1) t) in t; the denoiser itself is what it was."""
    plain, shifted = FlowDenoiser(lambda x, t: x), FlowDenoiser(lambda x, t: x, shift=3.0)
    for percent in (0.2, 0.5, 0.9):
        t, level = 1 - percent, shifted.percent_to_sigma(percent)
        assert level / (1 + level) == pytest.approx(3 * t / (1 + 2 * t))
        assert plain.percent_to_sigma(percent) == pytest.approx(t / (1 - t))
    assert sigma_range(shifted) == pytest.approx([3 * level for level in sigma_range(plain)])
    assert (shifted.percent_to_sigma(1), shifted.percent_to_sigma(0)) == pytest.approx(sigma_range(shifted))
    z = torch.ones(2, 3)
    assert torch.equal(plain(z, 2.0), shifted(z, 2.0))
    with pytest.raises(ValueError, match="shift: got 0"):
        FlowDenoiser(lambda x, t: x, shift=0)


def test_edm_s_v_at_unit_deviation_is_v(points: Tensor) -> None:
    """What remains between the two is what the network is told."""
    told: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        told.append(t)
        return x.sin()

    ours = EDMDenoiser(network, 0.002, 120.0, 1.0, "v_prediction")(points, 0.7)
    torch.testing.assert_close(ours, VDenoiser(network, SCHEDULE)(points, 0.7), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(told[0], torch.full((5,), math.log(0.7) / 4))
    assert (EDMDenoiser(network, 0.002, 120.0, 1.0)(points, 0.7) - ours).abs().max() > 0.1


def test_edm_in_another_unit_is_the_same(points: Tensor) -> None:
    """y -> c y: D(c z; c sigma) = c D(z; sigma), where F sees the same x and is told nothing of the level."""
    small, large = (EDMDenoiser(lambda x, t: x.sin(), data_std=s) for s in (0.5, 1.5))
    torch.testing.assert_close(large(3 * points, 2.1), 3 * small(points, 0.7), rtol=1e-12, atol=1e-12)
    assert (data_std(small), data_std(large)) == (0.5, 1.5)


@pytest.mark.parametrize("rho", [7.0, 3.0, math.inf])
def test_edm_s_chain_is_equally_spaced(rho: float) -> None:
    denoiser = EDMDenoiser(lambda x, t: x, 0.01, 50.0, rho=rho)
    levels = [denoiser.percent_to_sigma(i / 4) for i in range(5)]
    assert sigma_range(denoiser) == (0.01, 50.0) == pytest.approx((levels[4], levels[0]), rel=1e-12)
    assert levels[4] >= 0.01 and levels[0] <= 50.0
    even = [math.log(level) if rho == math.inf else level ** (1 / rho) for level in levels]
    assert [b - a for a, b in zip(even, even[1:], strict=False)] == pytest.approx([(even[4] - even[0]) / 4] * 4)


def test_edm_s_network_is_told_of_no_level_outside_its_own() -> None:
    told: list[float] = []
    denoiser = EDMDenoiser(lambda x, t: (told.append(float(t)), x)[1], 0.01, 50.0)
    z = torch.ones(1, 3)
    assert torch.equal(denoiser(z, 0.0), z)
    assert bool(denoiser(z, 1e6).isfinite().all())
    assert told == pytest.approx([math.log(0.01) / 4, math.log(50.0) / 4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": 3}, "network: got 3"),
        ({"sigma_min": 0.0}, "sigma_min: got 0.0"),
        ({"sigma_max": 0.001}, "sigma_min: got 0.002 with sigma_max 0.001"),
        ({"data_std": -1.0}, "data_std: got -1.0"),
        ({"prediction": "sample"}, "prediction: got 'sample'; allowed are 'epsilon', 'v_prediction'"),
        ({"rho": 0.0}, "rho: got 0.0"),
        ({"rho": -math.inf}, "rho: got -inf"),
    ],
)
def test_edm_s_wrong_input_is_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        EDMDenoiser(**{"network": lambda x, t: x, **options})
    with pytest.raises(ValueError, match="percent: got 2"):
        EDMDenoiser(lambda x, t: x).percent_to_sigma(2)
