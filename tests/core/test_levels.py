"""The default levels of a product density: equal steps of an angle, which lose the least spread."""

from __future__ import annotations

import math

import pytest
import torch

from msd_core import GaussianMixture, ddim_sample, product_sigmas, sigma_schedule

pytestmark = pytest.mark.core


def kept_spread(sigmas: torch.Tensor) -> float:
    """Spread of N(0, 1) after a DDIM walk, started with its true spread at the first level."""
    unit = GaussianMixture(torch.ones(1).double(), torch.zeros(1, 1).double(), torch.ones(1, 1, 1).double())
    start = torch.full((1, 1), math.hypot(1.0, float(sigmas[0])), dtype=torch.float64)
    return float(ddim_sample(start, unit, sigmas))


@pytest.mark.parametrize("steps", [4, 16, 32])
def test_closed_form(steps: int) -> None:
    sigmas = product_sigmas(0.3, steps)
    assert sigmas.shape == (steps + 1,)
    assert sigmas[-1] == 0
    assert bool((sigmas[1:] < sigmas[:-1]).all())
    angles = (sigmas.double() / 0.3).atan()
    torch.testing.assert_close(angles, torch.linspace(1, 0, steps + 1).double() * math.pi / 2 * steps / (steps + 1))
    assert kept_spread(sigmas / 0.3) == pytest.approx(math.cos(math.pi / 2 / (steps + 1)) ** steps, rel=1e-5)


def test_no_other_spacing_keeps_more_of_the_spread() -> None:
    sigmas = product_sigmas(1.0, 16)
    best = kept_spread(sigmas)
    for low in (0.01, 0.03, 0.1, 0.3):
        for name in ("karras", "exponential"):
            assert kept_spread(sigma_schedule(name, 16, sigma_min=low, sigma_max=float(sigmas[0]))) < best
    bent = sigmas.clone()
    for i in range(1, 16):
        for factor in (0.97, 1.03):
            bent[i] = sigmas[i] * factor
            assert kept_spread(bent) < best
            bent[i] = sigmas[i]


def test_the_data_bounds_the_levels() -> None:
    torch.testing.assert_close(product_sigmas(1000.0, 16), product_sigmas(1.0, 16))
    torch.testing.assert_close(product_sigmas(1000.0, 16, data_std=0.5), product_sigmas(0.5, 16))


def test_the_cap() -> None:
    capped = product_sigmas(1.0, 16, sigma_max=2.0)
    assert float(capped[0]) == pytest.approx(2.0)
    torch.testing.assert_close(product_sigmas(1.0, 16, sigma_max=1e6), product_sigmas(1.0, 16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bandwidth": 0.0, "steps": 4}, "bandwidth: got 0.0"),
        ({"bandwidth": 1.0, "steps": 0}, "steps: got 0"),
        ({"bandwidth": 1.0, "steps": 4, "data_std": -1.0}, "data_std: got -1.0"),
        ({"bandwidth": 1.0, "steps": 4, "sigma_max": 0.0}, "sigma_max: got 0.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        product_sigmas(**arguments)
