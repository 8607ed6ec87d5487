"""DREAM's noise: the formula against a Gaussian's exact denoiser, its limits, what is detached, wrong input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core.research.dream import dream_noise, rectified_noise

pytestmark = pytest.mark.core

SIGMA = torch.tensor([0.1, 0.7, 3.0], dtype=torch.float64)


def rows(seed: int) -> Tensor:
    return torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shrink(z: Tensor, sigma: Tensor | float) -> Tensor:
    """The exact denoiser of N(0, I): D = z / (1 + sigma^2)."""
    return z / (1 + torch.as_tensor(sigma, dtype=z.dtype).reshape(-1, 1, 1) ** 2)


def shrunk(y: Tensor, sigma: Tensor, noise: Tensor, p: float) -> Tensor:
    """n' in closed form: eps_hat = sigma (y + sigma n)/(1 + sigma^2), so n - eps_hat = (n - sigma y)/(1 + sigma^2)."""
    s = sigma.reshape(-1, 1, 1)
    return noise + (s / (1 + s**2).sqrt()) ** p * (noise - s * y) / (1 + s**2)


def closed_form_holds(p: float, power: float, sign: float = 1.0) -> None:
    y, noise = rows(0), rows(1)
    found = noise + sign * (dream_noise(y, SIGMA, noise, shrink, p) - noise)
    torch.testing.assert_close(found, shrunk(y, SIGMA, noise, power))


@pytest.mark.parametrize("p", [0, 0.5, 1, 2.0, 7])
def test_is_the_closed_form_of_a_gaussian(p: float) -> None:
    closed_form_holds(p, p)


def test_a_planted_sign_and_a_planted_power_fail() -> None:
    with pytest.raises(AssertionError):
        closed_form_holds(1, 1, sign=-1.0)
    with pytest.raises(AssertionError):
        closed_form_holds(1, 2)


def test_zero_rectifies_and_infinity_is_standard_training() -> None:
    y, noise = rows(0), rows(1)
    level = SIGMA.reshape(-1, 1, 1)
    z = y + level * noise
    renoised = shrink(z, SIGMA) + level * noise  # the estimate, noised again
    torch.testing.assert_close(y + level * dream_noise(y, SIGMA, noise, shrink, 0), renoised)

    def never(z: Tensor, sigma: Tensor | float) -> Tensor:
        raise AssertionError("evaluated")

    assert dream_noise(y, SIGMA, noise, never, math.inf) is noise
    with pytest.raises(AssertionError, match="evaluated"):
        dream_noise(y, SIGMA, noise, never, 50.0)
    torch.testing.assert_close(dream_noise(y, SIGMA[:1], noise, shrink, 50.0), noise)  # (.1)^50 of it


def test_a_perfect_estimate_changes_nothing() -> None:
    y, noise = rows(0), rows(1)
    torch.testing.assert_close(dream_noise(y, SIGMA, noise, lambda z, sigma: y, 0), noise)


def test_one_level_for_all_rows_is_that_level_for_each() -> None:
    y, noise = rows(0), rows(1)
    torch.testing.assert_close(
        dream_noise(y, 0.7, noise, shrink, 1), dream_noise(y, torch.full((3,), 0.7).double(), noise, shrink, 1)
    )
    torch.testing.assert_close(
        dream_noise(y, SIGMA, noise, shrink, 1)[1:2], dream_noise(y[1:2], 0.7, noise[1:2], shrink, 1)
    )


@pytest.mark.parametrize("p", [0, 1, 3])
def test_variance_preserving_form_is_the_same(p: float) -> None:
    y, noise = rows(0), rows(1)
    a = (1 / (1 + SIGMA**2)).reshape(-1, 1, 1)
    s = (1 - a).sqrt()
    y_t = a.sqrt() * y + s * noise
    eps_hat = (y_t / a.sqrt() - shrink(y_t / a.sqrt(), SIGMA)) / SIGMA.reshape(-1, 1, 1)
    delta = noise - eps_hat
    moved = y_t + s * s**p * delta  # as published
    changed = rectified_noise(noise, lambda: eps_hat, s.flatten(), p)
    torch.testing.assert_close(changed, dream_noise(y, SIGMA, noise, shrink, p))
    torch.testing.assert_close(a.sqrt() * y + s * changed, moved)


def test_no_gradient_reaches_the_network() -> None:
    y, noise = rows(0), rows(1)
    weight = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def denoiser(z: Tensor, sigma: Tensor | float) -> Tensor:
        assert not torch.is_grad_enabled()
        return weight * shrink(z, sigma)

    assert not dream_noise(y, SIGMA, noise, denoiser, 1).requires_grad
    with torch.enable_grad():
        estimate = weight * noise
    assert estimate.requires_grad
    assert not rectified_noise(noise, lambda: estimate, 0.5, 1).requires_grad


def test_half_precision_is_promoted() -> None:
    y, noise = rows(0).half(), rows(1).half()
    assert dream_noise(y, 0.7, noise, lambda z, sigma: z / 1.49, 1).dtype == torch.float32


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"p": -1}, "p: got -1; allowed is a number of at least 0"),
        ({"p": math.nan}, "p: got nan"),
        ({"p": "1"}, "p: got '1'"),
        ({"sigma": 0.0}, "sigma: got 0.0; allowed is a finite number > 0"),
        ({"sigma": torch.ones(2)}, "sigma: got a tensor of shape"),
        ({"noise": torch.zeros(3, 2)}, "noise: got shape"),
        ({"y": torch.zeros(3, 2, 4, dtype=torch.long)}, "y: got torch.int64"),
        ({"denoiser": lambda z, sigma: torch.zeros(2, *z.shape)}, "denoiser: its result: got shape"),
    ],
)
def test_wrong_input_is_refused(changed: dict, message: str) -> None:
    arguments = {"y": rows(0), "sigma": SIGMA, "noise": rows(1), "denoiser": shrink, "p": 1}
    arguments |= changed
    with pytest.raises(ValueError, match=message):
        dream_noise(**arguments)


@pytest.mark.parametrize("s", [0.0, 1.5, torch.tensor([0.5, -0.1, 0.5])])
def test_a_level_outside_0_to_1_is_refused(s: float | Tensor) -> None:
    with pytest.raises(ValueError, match="s: got .* allowed is (0 < s <= 1|>= 0)"):
        rectified_noise(rows(1), lambda: rows(0), s, 1)
