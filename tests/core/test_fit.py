"""A generator fitted to a picture: exact where it can be, near where it must be, and never worse than it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import msd_core
from msd_core import Batch, Generator, Latent, NeuralImage, Pixels, Points, View, distil, fit, generator_for_size
from msd_core.generators import Fitted, cover

pytestmark = pytest.mark.core


def smooth(height: int = 64, width: int = 64) -> Tensor:
    """A picture that no flip and no turn leaves as it is."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(5 * x + 2 * y), 0.5 + 0.3 * torch.cos(6 * y), 0.3 + 0.5 * x * y])[None]


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(float((one.clamp(0, 1) - other).double().square().mean()))


def last(steps: Sequence[Fitted]) -> Fitted:
    return list(steps)[-1]


def drawn(generator: Generator, *size: int) -> Tensor:
    with torch.no_grad():
        return generator.render(View(*size))


# --- pixels and latents, at once --------------------------------------------------------------------------------------


def test_pixels_of_the_same_size_are_the_picture() -> None:
    generator, picture = Pixels(5, 7), smooth(5, 7)
    (only,) = fit(generator, picture)
    assert only.psnr == math.inf and torch.equal(only.generator.values.detach(), picture)
    assert (generator.values == 0.5).all(), "the one that was given is not changed"
    assert only.generator.values.data_ptr() != picture.data_ptr()


def test_pixels_of_another_size_average_where_they_are_smaller() -> None:
    """The antialiased kernel keeps constants, and the mean of what repeats with its pixels."""
    (flat,) = fit(Pixels(3, 4), torch.full((1, 3, 12, 16), 0.25))
    assert torch.allclose(flat.generator.values, torch.tensor(0.25), atol=1e-6)
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    (grey,) = fit(Pixels(8, 8), stripes)
    assert torch.allclose(grey.generator.values[..., 1:-1], torch.tensor(0.5), atol=0.02)
    (large,) = fit(Pixels(60, 80), smooth(15, 20))
    assert psnr(large.generator.values.detach(), smooth(60, 80)) > 40
    edge = torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 1
    values = last(fit(Pixels(16, 16), edge)).generator.values
    assert bool(((values >= 0) & (values <= 1)).all()), "the cubic kernel overshoots; a picture does not"


def test_a_latent_is_what_the_encoder_says() -> None:
    def encode(picture: Tensor) -> Tensor:
        return 3 * torch.nn.functional.avg_pool2d(picture[:, :2], 4) - 1

    (only,) = fit(Latent(2, 3, 5, cell=4), smooth(12, 20), encode=encode)
    assert only.psnr is None and torch.equal(only.generator.values.detach(), encode(smooth(12, 20)))
    with pytest.raises(ValueError, match=r"encode: its result: got shape \(1, 2, 3, 5\); allowed .* \(1, 4, 3, 5\)"):
        list(fit(Latent(4, 3, 5, cell=4), smooth(12, 20), encode=encode))
    with pytest.raises(ValueError, match="encode: got None; allowed is a model's encoder"):
        fit(Latent(2, 3, 5, cell=4), smooth(12, 20))
    with pytest.raises(ValueError, match="encode: NaN or infinity"):
        list(fit(Latent(2, 3, 5, cell=4), smooth(12, 20), encode=lambda p: encode(p) * math.nan))


# --- neural images, step by step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fourier", "siren", "hashgrid"])
def test_a_neural_image_comes_near(kind: str) -> None:
    first = generator_for_size(kind, 64, 64)
    before = {name: p.clone() for name, p in first.state_dict().items()}
    with torch.inference_mode():  # as a host runs its nodes
        found = list(fit(first, smooth(), steps=40))
    assert [one.step for one in found] == list(range(41))
    values = [one.psnr for one in found]
    assert values == sorted(values) and values[-1] >= 30
    assert psnr(drawn(found[-1].generator, 64, 64), smooth()) == pytest.approx(values[-1], abs=1e-3)
    assert psnr(drawn(found[-1].generator, 64, 64), smooth().flip(-1)) < 20
    assert found[-1].generator.render(View(4, 4)).requires_grad
    assert all(torch.equal(p, before[name]) for name, p in first.state_dict().items())


def small(seed: int = 0) -> NeuralImage:
    return NeuralImage("fourier", resolution=16, hidden=16, layers=1, seed=seed)


def test_it_ends_where_it_should() -> None:
    whole = list(fit(small(), smooth(16, 16), steps=40, psnr=None))
    assert len(whole) == 41 and whole[20].psnr > 15
    enough = list(fit(small(), smooth(16, 16), steps=40, psnr=whole[20].psnr))
    assert [one.psnr for one in enough] == [one.psnr for one in whole[:21]]
    assert len(list(fit(small(), smooth(16, 16), steps=200, lr=1e-9))) == 51, "nothing is gained"
    flat = list(fit(whole[-1].generator, drawn(whole[-1].generator, 16, 16)))
    assert len(flat) == 1 and flat[0].psnr == math.inf, "it shows the picture already"


def test_the_seed_decides() -> None:
    one, again, other = (last(fit(small(seed), smooth(16, 16), steps=5)).generator.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(p, again[name]) for name, p in one.items())
    assert not all(torch.equal(p, other[name]) for name, p in one.items())


def test_it_is_adam_on_the_squared_error() -> None:
    """Against torch's own, step by step; with another sign of the gradient it goes away from the picture."""
    found = list(fit(small(), smooth(16, 16), steps=3, lr=1e-2))
    twin = small()
    adam = torch.optim.Adam(twin.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
    for _step in range(3):
        adam.zero_grad()
        (twin.render(View(16, 16)) - smooth(16, 16)).square().mean().backward()
        adam.step()
    for name, parameter in twin.state_dict().items():
        torch.testing.assert_close(found[-1].generator.state_dict()[name], parameter, rtol=1e-4, atol=1e-6)
    away = list(fit(small(), 1 - drawn(small(), 16, 16).round(), steps=3, lr=1e-2))
    assert away[-1].psnr > away[0].psnr


class Stripes(Generator):
    """A generator from outside."""

    kind = "stripes"

    def __init__(self) -> None:
        super().__init__()
        self.colours = torch.nn.Parameter(torch.full((1, 3, 1, 8), 0.5))

    @property
    def canvas(self) -> msd_core.Canvas:
        return msd_core.Canvas(8, 4)

    def config(self) -> dict:
        return {}

    def render(self, view: View) -> Tensor:
        return self.colours.expand(-1, -1, view.height, -1)


def test_a_kind_from_outside() -> None:
    wanted = smooth(4, 8).mean(dim=2, keepdim=True)
    found = last(fit(Stripes(), wanted.expand(-1, -1, 4, -1), steps=200, psnr=50.0))
    assert torch.allclose(found.generator.colours, wanted, atol=0.02)


# --- cutting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "wanted"), [((8, 12), (4, 4)), ((12, 8), (4, 4)), ((6, 6), (9, 3)), ((5, 9), (9, 5))])
def test_cover_takes_the_middle(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Of a ramp, what lies around its middle: no side is favoured, and nothing is stretched."""
    height, width = size
    x = ((torch.arange(width) + 0.5) / width).expand(1, 3, height, width)
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(1, 3, height, width)
    for ramp in (x, y):
        found = cover(ramp, *wanted)
        assert found.shape == (1, 3, wanted[1], wanted[0])
        assert float(found.mean()) == pytest.approx(0.5, abs=1e-3)
    part = width / height * wanted[1] / wanted[0]
    across = float(cover(x, *wanted)[0, 0, 0, -1] - cover(x, *wanted)[0, 0, 0, 0])
    whole = min(1.0, 1 / part) * (1 - 1 / wanted[0])
    assert across == pytest.approx(whole, rel=0.25)


# --- the door ---------------------------------------------------------------------------------------------------------


class Shades:
    """A model of plain pixels that asks for grey."""

    cell, channels, side, differentiable, encode, decode = 1, 3, 16, False, None, None

    def denoiser(self, prompt: object, negative: object = "", cfg: float = 1.0) -> msd_core.Denoiser:
        return msd_core.with_levels(lambda z, sigma: 0.5 + 0 * z, msd_core.sd15_schedule())


def test_distil_starts_from_a_picture() -> None:
    quick = {"model": Shades(), "generator": "pixels", "method": "sds", "steps": 1, "lr": 1e-3}
    (state,) = distil("", start=smooth(16, 16), **quick)
    moved = (state.picture() - smooth(16, 16)).abs()
    assert 0 < float(moved.max()) < 2e-3, "one step of 1e-3 away from the picture"
    (both,) = distil("", start=torch.cat([smooth(16, 16), 1 - smooth(16, 16)]), n=2, **quick)
    assert torch.allclose(both.picture(), torch.cat([smooth(16, 16), 1 - smooth(16, 16)]), atol=2e-3)
    (one,) = distil("", start=smooth(16, 16), n=2, **quick)
    assert torch.allclose(one.picture(), smooth(16, 16).expand(2, -1, -1, -1), atol=2e-3)
    (given,) = distil("", start=smooth(16, 16), model=Shades(), generator=Pixels(16, 16), method="sds", steps=1)
    assert float((given.picture() - smooth(16, 16)).abs().max()) < 0.02
    for wrong, told in (
        (smooth(16, 16).repeat(3, 1, 1, 1), r"start: got Tensor .* for 1 pictures"),
        (smooth(16, 8), "start: got 8x16 for a canvas of 16x16"),
        (smooth(16, 16) + 1, "start: got numbers from .* Divide by 255"),
        ("picture.png", "start: got 'picture.png'"),
    ):
        with pytest.raises(ValueError, match=told):
            distil("", start=wrong, **quick)


# --- wrong input ------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "shape": (lambda: fit(Pixels(4, 4), torch.rand(3, 4, 4)), r"picture: got shape \(3, 4, 4\); allowed is \(1, 3, H"),
    "alpha": (lambda: fit(Pixels(4, 4), torch.rand(1, 4, 4, 4)), "picture: got shape .* alpha channel"),
    "range": (lambda: fit(Pixels(4, 4), torch.full((1, 3, 4, 4), 255.0)), "picture: got numbers from 255 to 255"),
    "NaN": (lambda: fit(Pixels(4, 4), torch.full((1, 3, 4, 4), math.nan)), "picture: NaN or infinity in 48 of 48"),
    "whole numbers": (lambda: fit(Pixels(4, 4), torch.ones(1, 3, 4, 4, dtype=torch.uint8)), "picture: got"),
    "aspect": (lambda: fit(Pixels(4, 4), torch.rand(1, 3, 4, 8)), r"picture: got 8x4 for a canvas of 4x4.*cover"),
    "batch": (
        lambda: fit(Batch([Pixels(4, 4)] * 2), torch.rand(1, 3, 4, 4)),
        "generator: got 'batch', 2 rows of i",
    ),
    "points": (lambda: fit(Points(torch.ones(1, 2)), torch.rand(1, 3, 4, 4)), "generator: got 'points', 1 rows of p"),
    "no generator": (lambda: fit("fourier", torch.rand(1, 3, 4, 4)), "generator: got 'fourier'"),  # type: ignore[arg-type]
    "steps": (lambda: fit(small(), smooth(16, 16), steps=0), "steps: got 0"),
    "lr": (lambda: fit(small(), smooth(16, 16), lr=-1.0), "lr: got -1.0"),
    "psnr": (lambda: fit(small(), smooth(16, 16), psnr=math.nan), "psnr: got nan"),
    "a rate far too large": (lambda: list(fit(small(), smooth(16, 16), lr=1e38)), "(lr|generator): NaN or infinity"),
    "size": (lambda: cover(smooth(), 0, 4), "width: got 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named(case: str) -> None:
    call, told = WRONG[case]
    with pytest.raises(ValueError, match=told):
        call()
