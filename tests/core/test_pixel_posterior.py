"""Measured pixels behind an encoder: the closed form where the encoder is linear, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core.denoiser import cost
from msd_core.manipulation.pixels import SPREAD, PixelPosterior, agreeing
from msd_core.measurement import Observation, observe
from msd_core.measurement.blur import Blur
from msd_core.measurement.mask import Mask
from msd_core.measurement.pool import Pool

pytestmark = pytest.mark.core


def random(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 + 0.4 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def encode(picture: Tensor) -> Tensor:
    """Linear, and not the inverse of `decode`: it loses a tenth."""
    return 1.8 * picture - 0.9


def decode(x: Tensor) -> Tensor:
    return (x + 1) / 2


def half(z: Tensor, sigma: object) -> Tensor:
    return z / 2


class Half:
    """The same, of latents with a deviation of their own."""

    def __init__(self, data_std: float) -> None:
        self.data_std = data_std

    def __call__(self, z: Tensor, sigma: object) -> Tensor:
        return half(z, sigma)


KNOWN = (torch.rand(8, 8, generator=torch.Generator().manual_seed(5)) > 0.5).double()


@pytest.mark.parametrize("sigma", [0.1, 1.0, 20.0])
@pytest.mark.parametrize(("noise", "d"), [(0.0, 1.0), (0.1, 1.0), (0.1, 0.5)])
def test_a_mask_in_closed_form(sigma: float, noise: float, d: float) -> None:
    """Known pixels move by r²/(r² + s²) of what is missing, as the encoder sees it; the others stay with the model."""
    z, b = random(2, 3, 8, 8) - 0.5, KNOWN * random(2, 3, 8, 8, seed=1)
    found = PixelPosterior(Half(d), Observation(Mask(KNOWN), b, noise), encode, decode)(z, sigma)
    r2 = SPREAD**2 * sigma**2 / (d**2 + sigma**2)
    picture = (z / 2 + 1) / 2
    wanted = z / 2 + 1.8 * KNOWN * (b - picture) * r2 / (r2 + noise**2)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(found, z / 2 - (wanted - z / 2)), "the other way is told from it"


@pytest.mark.parametrize("measurement", [Pool(4), Blur(1.0), Mask(KNOWN)], ids=["pool", "blur", "mask"])
def test_it_agrees_and_what_is_agreed_with_is_left_alone(measurement) -> None:  # noqa: ANN001
    truth, z = random(1, 3, 8, 8), random(1, 3, 8, 8, seed=2)
    observation = observe(truth, measurement)
    exact = PixelPosterior(half, observation, lambda p: 2 * p - 1, decode)
    before, after = (float(observation.missing(decode(x)).norm()) for x in (half(z, 1), exact(z, 1.0)))
    assert after < 0.1 * before
    known = PixelPosterior(lambda z, _: 2 * truth - 1, observation, encode, decode)
    torch.testing.assert_close(known(z, 1.0), 2 * truth - 1, rtol=0, atol=1e-9)


def test_a_batch_is_a_loop_with_a_level_a_row() -> None:
    z, observation = random(3, 3, 8, 8), observe(random(3, 3, 8, 8, seed=1), Pool(2), 0.1, torch.Generator())
    sigmas = torch.tensor([0.2, 1.0, 9.0], dtype=torch.float64)
    both = PixelPosterior(half, observation, encode, decode)(z, sigmas)
    for i, sigma in enumerate(sigmas.tolist()):
        one = Observation(Pool(2), observation.b[i : i + 1], 0.1)
        torch.testing.assert_close(PixelPosterior(half, one, encode, decode)(z[i : i + 1], sigma), both[i : i + 1])
    assert cost(PixelPosterior(half, observation, encode, decode)) == 1


def test_no_gradient_is_kept_and_half_precision_is_float32() -> None:
    observation = observe(random(1, 3, 8, 8), Pool(2))
    z = random(1, 3, 8, 8).float().requires_grad_()
    assert not PixelPosterior(half, observation, encode, decode)(z, 1.0).requires_grad
    assert PixelPosterior(half, observation, encode, decode)(z.detach().half(), 1.0).dtype == torch.float32


def test_what_is_agreed_on_is_a_picture() -> None:
    bright = Observation(Pool(1), torch.full((1, 3, 4, 4), 3.0))
    assert float(agreeing(torch.full((1, 3, 4, 4), 0.5), bright, SPREAD).max()) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, z: PixelPosterior("d", o, encode, decode), "denoiser: got 'd'"),
        (lambda o, z: PixelPosterior(half, "b", encode, decode), "observation: got 'b'"),
        (lambda o, z: PixelPosterior(half, o, None, decode), "encode: got None"),
        (lambda o, z: PixelPosterior(half, o, encode, 3), "decode: got 3"),
        (lambda o, z: PixelPosterior(half, o, encode, decode)(z[..., :4], 1.0), "b: got shape"),
        (lambda o, z: PixelPosterior(half, o, lambda p: p[..., 1:], decode)(z, 1.0), "encode: its result"),
    ],
)
def test_wrong_input(call, message: str) -> None:  # noqa: ANN001
    z = random(1, 3, 8, 8)
    with pytest.raises(ValueError, match=message):
        call(observe(z, Pool(2)), z)
