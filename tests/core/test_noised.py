"""The noised estimator: on a Gaussian its mean is closed-form, and its ends are D(x; lambda) and the guess of SDS."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import EpsDenoiser, draw_normal, mean_shift, sd15_schedule
from msd_core.mean_shift.noised import Noised

X = torch.tensor([[-3.0, 0.5], [0.25, 2.0]], dtype=torch.float64)
BANDWIDTH, SPREAD = 0.7, 1.3


def gaussian(z: Tensor, sigma: float) -> Tensor:
    """The denoiser of N(0, SPREAD^2)."""
    return z * SPREAD**2 / (SPREAD**2 + float(sigma) ** 2)


def shift(denoiser: object = gaussian, seed: int = 0, **options: object) -> tuple[Tensor, object]:
    return mean_shift(X, denoiser, BANDWIDTH, estimator=Noised(**options), rng=torch.Generator().manual_seed(seed))


def assert_mean(factor: float, share: float, observed: bool) -> None:
    """The mean of many draws, within 4 standard errors of a Gaussian's."""
    draws = 20_000
    target, info = shift(noise_share=share, observed=observed, samples=draws)
    level = BANDWIDTH * math.hypot(share, observed)
    known = SPREAD**2 / (SPREAD**2 + (factor * level) ** 2)
    assert float((target - known * X).abs().max()) < 4 * known * BANDWIDTH * share / math.sqrt(draws)
    assert info.sigma == pytest.approx(level) and info.evaluations == draws * len(X)


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_mean_is_closed_form(share: float, observed: bool) -> None:
    assert_mean(1.0, share, observed)
    with pytest.raises(AssertionError):
        assert_mean(1.05, share, observed)


def test_without_noise_it_is_one_step() -> None:
    target, _ = shift(noise_share=0.0)
    assert torch.equal(target, mean_shift(X, gaussian, BANDWIDTH, estimator="one-step")[0])


def test_fixed_noise_is_one_function() -> None:
    rng = torch.Generator().manual_seed(3)
    fixed, loose = Noised(fixed=True), Noised()
    first, again = (mean_shift(X, gaussian, BANDWIDTH, estimator=fixed, rng=rng)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(*(mean_shift(X, gaussian, BANDWIDTH, estimator=loose, rng=rng)[0] for _ in range(2)))


def test_the_level_stays_within_the_model() -> None:
    class Limited:
        sigma_min, sigma_max = 0.1, 0.8

        def __call__(self, z: Tensor, sigma: float) -> Tensor:
            assert float(sigma) <= self.sigma_max
            return gaussian(z, sigma)

    assert shift(Limited(), noise_share=2.0)[1].sigma == 0.8


@pytest.mark.parametrize("bandwidth", [0.1, 5.0, 14.0, 15.0, 100.0, 1000.0])
def test_a_network_sees_noise_of_the_level_that_it_is_told(bandwidth: float) -> None:
    """SD1.5's levels and an ideal network of N(0, 1): what it is given has a deviation of 1, at most, at any lambda."""
    seen: list[float] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(x.std()))
        return x  # of unit variance, all of it noise: right at high levels

    schedule = sd15_schedule()
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 64, 64, generator=rng)
    _, info = mean_shift(x, EpsDenoiser(network, schedule), bandwidth, estimator=Noised(), rng=rng)
    assert info.sigma == min(bandwidth * math.sqrt(2), schedule.sigma_max)
    noise = min(bandwidth, schedule.sigma_max)
    assert seen == [pytest.approx(math.sqrt((1 + noise**2) / (1 + info.sigma**2)), rel=0.03)]
    assert seen[0] < 1.03 and (bandwidth < schedule.sigma_max or seen[0] > 0.97)


def test_below_the_highest_level_nothing_is_changed() -> None:
    """x + a lambda n at lambda sqrt(1 + a^2), to the bit."""

    class Limited:
        sigma_max = 2.0

        def __call__(self, z: Tensor, sigma: float) -> Tensor:
            return gaussian(z, sigma)

    found, _ = shift(Limited(), noise_share=0.8)
    noise = draw_normal(X, torch.Generator().manual_seed(0))[0]
    assert torch.equal(found, gaussian(X + BANDWIDTH * 0.8 * noise, BANDWIDTH * math.hypot(0.8, 1.0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise_share": 0.0, "observed": False}, "noise_share: got 0.0 with x counted as clean"),
        ({"fixed": True, "samples": 2}, "samples: got 2 with fixed noise"),
        ({"noise_share": -1.0}, "noise_share: got -1.0"),
    ],
)
def test_bad_input(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Noised(**options)
