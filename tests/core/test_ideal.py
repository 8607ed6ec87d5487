"""The attention form of the ideal denoiser against its slow float64 twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, IdealDenoiser

pytestmark = pytest.mark.core
SIGMAS = (0.002, 0.01, 0.05, 0.3, 1.0, 5.0)


def slow(data: Tensor, z: Tensor, sigma: float) -> Tensor:
    """softmax(-|z - y|^2 / (2 sigma^2)) y from the differences themselves, in float64."""
    rows, points = z.double().flatten(1), data.double().flatten(1)
    square = (rows[:, None] - points).square().sum(dim=2)
    return ((-square / (2 * sigma**2)).softmax(dim=1) @ points).reshape(z.shape)


@pytest.fixture(scope="module")
def data(mixture: GaussianMixture) -> Tensor:
    return mixture.sample(2000, rng=torch.Generator().manual_seed(0))


def assert_ideal(denoiser, data: Tensor, z: Tensor) -> None:  # noqa: ANN001
    for sigma in SIGMAS:
        torch.testing.assert_close(denoiser(z, sigma).double(), slow(data, z, sigma), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_equal_to_float64_at_every_level(dtype: torch.dtype, shift: float, data: Tensor, points: Tensor) -> None:
    """Also where the data is far from the origin, and between data points, where two of them compete."""
    moved = (data + shift).to(dtype)
    between = (data[:20] + data[20:40]) / 2
    z = (torch.cat([points, between, data[:20] + 0.001]) + shift).to(dtype)
    denoiser = IdealDenoiser(moved)
    assert denoiser(z, 0.3).dtype == dtype
    if dtype == torch.float64 or shift == 0:
        assert_ideal(denoiser, moved, z)
    else:  # one float32 unit at 100 is 8e-6: more than the spacing that decides at the smallest level
        torch.testing.assert_close(denoiser(z, 0.3).double(), slow(moved, z, 0.3), rtol=1e-6, atol=1e-5)


RIVALS = torch.tensor([[1.3, 0.7], [-0.8, 1.1], [0.1, -5.0]], dtype=torch.float64)


def assert_weighs_rivals(make: type[IdealDenoiser], dtype: torch.dtype) -> None:
    """Two points far apart share a z between them as .3 to .7: the logits are large, their difference is small."""
    apart = RIVALS[1] - RIVALS[0]
    for sigma in SIGMAS[:4]:
        nearer = sigma**2 * torch.tensor(7 / 3, dtype=torch.float64).log() / apart.square().sum()
        z = ((RIVALS[0] + RIVALS[1]) / 2 + nearer * apart)[None].to(dtype)
        data = RIVALS.to(dtype)
        torch.testing.assert_close(make(data)(z, sigma).double(), slow(data, z, sigma), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rivals_are_weighed_right_at_every_level(dtype: torch.dtype) -> None:
    assert_weighs_rivals(IdealDenoiser, dtype)


class Careless(IdealDenoiser):
    """Float32 all the way, without the rule that falls back to float64."""

    def _rounding(self, rows: Tensor, level: Tensor, radius: float) -> float:
        return 0.0


class Shortsighted(IdealDenoiser):
    """Sees only the data that weighs more than 1/e of the nearest."""

    def _cutoff(self, dtype: torch.dtype) -> float:
        return 1.0


def test_float32_all_the_way_would_fail() -> None:
    with pytest.raises(AssertionError):
        assert_weighs_rivals(Careless, torch.float32)


def clusters(n: int) -> Tensor:
    """Uneven data: a filament, a blob, repeated points, and an outlier; float32."""
    generator = torch.Generator().manual_seed(1)
    t = torch.rand(n, 1, generator=generator)
    filament = torch.cat([t, (6 * t).sin() / 2], dim=1) + 0.01 * torch.randn(n, 2, generator=generator)
    blob = 0.3 * torch.randn(n, 2, generator=generator) - 0.6
    return torch.cat([filament, blob, blob[:1].repeat(n // 10, 1), torch.tensor([[1.4, -1.4]])])


def assert_near_data_is_enough(make: type[IdealDenoiser]) -> None:
    data = clusters(2000)
    axis = torch.linspace(-1.5, 1.5, 24)
    grid = torch.cartesian_prod(axis, axis)
    for z in (grid, torch.cat([data[::7], 20 * grid[::50]])):
        for sigma in (0.002, 0.01, 0.05, 0.2, 0.7):
            got = make(data, block=100)(z, sigma).double()
            torch.testing.assert_close(got, slow(data, z, sigma), rtol=0, atol=1e-5)


def test_near_data_is_enough() -> None:
    assert_near_data_is_enough(IdealDenoiser)


def test_too_little_data_would_fail() -> None:
    with pytest.raises(AssertionError):
        assert_near_data_is_enough(Shortsighted)


def test_float64_is_float64_throughout() -> None:
    data = clusters(500).double()
    z = data[::20] + 0.02
    for sigma in (0.01, 0.1, 1.0):
        torch.testing.assert_close(IdealDenoiser(data)(z, sigma), slow(data, z, sigma), rtol=0, atol=1e-11)


def test_a_query_that_is_not_finite_is_nan_and_spoils_no_other() -> None:
    data = clusters(500)
    z = torch.cat([data[:3], torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0], [0.0, -torch.inf]])])
    for sigma in (0.01, 5.0):
        got = IdealDenoiser(data)(z, sigma)
        assert bool(got[3:].isnan().any(dim=1).all())
        torch.testing.assert_close(got[:3].double(), slow(data, z[:3], sigma), rtol=0, atol=1e-5)


def test_levels_of_very_different_size_in_one_batch() -> None:
    data = clusters(500)
    z = data[::5]
    sigma = torch.logspace(-3, 0.5, len(z))[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))]
    rows = torch.cat([slow(data, z[i : i + 1], float(sigma[i])) for i in range(len(z))])
    torch.testing.assert_close(IdealDenoiser(data, block=16)(z, sigma).double(), rows, rtol=0, atol=1e-5)


def test_a_flipped_query_would_fail(data: Tensor, points: Tensor) -> None:
    denoiser = IdealDenoiser(data)
    with pytest.raises(AssertionError):
        assert_ideal(lambda z, sigma: denoiser(-z, sigma), data, points)


def test_it_is_the_mixture_of_narrow_gaussians(data: Tensor, points: Tensor) -> None:
    few = data[:50]
    covariances = (1e-10 * torch.eye(2, dtype=torch.float64)).expand(50, 2, 2)
    narrow = GaussianMixture(torch.full((50,), 1 / 50, dtype=torch.float64), few, covariances)
    torch.testing.assert_close(IdealDenoiser(few)(points, 0.2), narrow(points, 0.2), rtol=1e-5, atol=1e-5)


def test_a_batch_is_its_rows_and_its_blocks(data: Tensor, points: Tensor) -> None:
    sigma = torch.tensor([5.0, 1.0, 0.3, 0.1, 0.05], dtype=torch.float64)
    whole = IdealDenoiser(data)(points, sigma)
    rows = torch.cat([IdealDenoiser(data)(points[i : i + 1], float(sigma[i])) for i in range(5)])
    torch.testing.assert_close(whole, rows, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, IdealDenoiser(data, block=2)(points, sigma), rtol=1e-6, atol=1e-7)


def test_pictures(data: Tensor) -> None:
    pictures = data[:60].reshape(5, 3, 2, 4)
    z = pictures[:2] + 0.1
    torch.testing.assert_close(IdealDenoiser(pictures)(z, 0.2), slow(pictures, z, 0.2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.02, 0.3])
def test_gradients_are_those_of_the_slow_form(sigma: float, data: Tensor, points: Tensor) -> None:
    gradients = []
    for function in (IdealDenoiser(data), lambda z, sigma: slow(data, z, sigma)):
        z = points.clone().requires_grad_()
        gradients.append(torch.autograd.grad((function(z, sigma) * points.flip(0)).sum(), z)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3)


def test_wrong_arguments_are_refused(data: Tensor, points: Tensor) -> None:
    denoiser = IdealDenoiser(data)
    for sigma in (0.0, -1.0, torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])):
        with pytest.raises(ValueError, match="sigma: got .* allowed is >=? 0"):
            denoiser(points, sigma)
    with pytest.raises(ValueError, match=r"z: got shape \(2, 3\)"):
        denoiser(torch.zeros(2, 3), 0.5)
    for bad in (torch.zeros(0, 2), torch.zeros(3), torch.full((2, 2), torch.nan)):
        with pytest.raises(ValueError, match="data: got shape"):
            IdealDenoiser(bad)
    with pytest.raises(ValueError, match="block: got 0"):
        IdealDenoiser(data, block=0)
