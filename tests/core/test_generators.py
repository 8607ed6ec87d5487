"""Generators: the same picture at every size, seeded starts, gradients, and slow twins of the fields."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core.generators import (
    GENERATORS,
    Generator,
    Latent,
    NeuralImage,
    Pixels,
    View,
    base,
    make_generator,
    neural_image,
    pieces,
)
from msd_core.generators.base import pixel_centres
from msd_core.generators.batch import Batch
from msd_core.generators.fourier import FourierField
from msd_core.generators.hash_grid import HashGridField
from msd_core.generators.pixel_art import Softly
from msd_core.generators.siren import SirenField

pytestmark = pytest.mark.core
NEURAL = ("fourier", "siren", "hashgrid")
SMALL = {"resolution": 16, "hidden": 8, "layers": 2}


def small(kind: str, **options: object) -> Generator:
    """A generator of every kind that is quick to evaluate."""
    sizes = {
        "pixels": {"height": 8, "width": 8},
        "latent": {"channels": 4, "height": 8, "width": 8},
        "vector": {"height": 8, "width": 8, "paths": 4},
        "pixel-art": {"height": 8, "width": 8, "cells": 8, "colours": 3},
        "volume": {"height": 8, "width": 8, "rays": 8, "ray_samples": 4},
        "sticker": {"height": 8, "width": 8, "hidden": 8, "layers": 1},
    }
    return make_generator(kind, **{**sizes.get(kind, SMALL), **options})


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 1)])
def test_renders_any_size(kind: str, size: tuple[int, int]) -> None:
    generator = small(kind)
    picture = generator.render(View(*size)).detach()
    assert picture.shape == (1, 4 if kind == "latent" else 3, *size)
    assert generator.kind == kind
    assert generator.space == ("latent" if kind == "latent" else "image")
    if kind in NEURAL:
        assert float(picture.min()) > 0.2 and float(picture.max()) < 0.8, "the first picture is nearly grey"


def assert_same_at_every_size(generator: Generator) -> None:
    """Enlarged three times, every third pixel has the centre of a pixel of the small picture."""
    small, large = generator.render(View(6, 10)), generator.render(View(18, 30))
    torch.testing.assert_close(large[..., 1::3, 1::3], small, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", NEURAL)
def test_every_size_shows_the_same_picture(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = trained_a_little(small(kind))
    assert_same_at_every_size(generator)

    def corners(height: int, width: int, like: Tensor, **part: object) -> Tensor:  # planted: sampled at the corners
        return pixel_centres(height, width, like, **part) - torch.tensor([0.5 / width, 0.5 / height])

    monkeypatch.setattr(neural_image, "pixel_centres", corners)
    with pytest.raises(AssertionError):
        assert_same_at_every_size(generator)


def trained_a_little(generator: Generator) -> Generator:
    """The generator with structure in its picture: its parameters moved at random."""
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=rng(3))
    return generator


def test_positions_are_x_then_y_from_the_top_left() -> None:
    positions = base.pixel_centres(2, 4, torch.zeros(())).reshape(2, 4, 2)
    assert positions[0, 0].tolist() == [0.125, 0.25]
    assert positions[0, 3].tolist() == [0.875, 0.25]
    assert positions[1, 0].tolist() == [0.125, 0.75]


@pytest.mark.parametrize("kind", GENERATORS)
def test_starts_depend_on_the_seed_alone(kind: str) -> None:
    options = {"init": "noise"} if kind in ("pixels", "latent") else {}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, same, other = (small(kind, seed=seed, **options) for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before), "the global random state was used"
    learned = dict(first.named_parameters())
    for name, a in first.state_dict().items():
        assert torch.equal(a, same.state_dict()[name])
        if name in learned:
            assert not torch.equal(a, other.state_dict()[name]) or not a.any(), "only biases start without a seed, at 0"


@pytest.mark.parametrize("kind", GENERATORS)
def test_config_builds_the_twin(kind: str) -> None:
    generator = small(kind, seed=5)
    twin = make_generator(generator.kind, **generator.config())
    assert twin.config() == generator.config()
    assert torch.equal(twin.render(View(7, 9)), generator.render(View(7, 9)))


@pytest.mark.parametrize("kind", [*GENERATORS, "batch"])
def test_a_renderer_is_the_render_whatever_the_parameters_become(kind: str) -> None:
    """To the bit, its gradient too, and it has not kept a picture of the old ones."""
    generator = Batch([small("fourier"), small("fourier", seed=1)]) if kind == "batch" else small(kind)
    view = generator.view(0, 1, rng())
    renderer = generator.renderer(view)
    before, parameters = renderer().detach(), list(generator.parameters())
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(i)))
    drawn, again = renderer(), generator.render(view)
    assert torch.equal(drawn, again) and not torch.equal(drawn, before)
    for one, other in zip(*(torch.autograd.grad(p.square().sum(), parameters) for p in (drawn, again)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", GENERATORS)
def test_gradient_is_that_of_finite_differences(kind: str) -> None:
    options = {"hidden": 3, "layers": 1, "resolution": 8} if kind in NEURAL else {"height": 3, "width": 2}
    extra = {"fourier": {"features": 3}, "hashgrid": {"levels": 2, "features": 1, "entries": 12}}.get(kind, {})
    generator = small(kind, **options, **extra).double()
    names = [name for name, _ in generator.named_parameters()]

    class Render(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = generator

        def forward(self) -> Tensor:
            return self.inner.render(Softly(4, 3) if kind == "pixel-art" else View(4, 3))

    def picture(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(
            Render(), {f"inner.{name}": p for name, p in zip(names, parameters, strict=True)}, ()
        )

    given = tuple(p.detach().requires_grad_() for p in generator.parameters())
    assert torch.autograd.gradcheck(picture, given, fast_mode=kind == "volume")  # in a random direction of so many


def test_large_renders_go_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = small("fourier")
    whole = generator.render(View(9, 7))
    monkeypatch.setattr(pieces, "CHUNK", 10)
    torch.testing.assert_close(generator.render(View(9, 7)), whole)


def test_fourier_is_band_limited_to_the_training_size() -> None:
    field = FourierField(64, 4, 1, rng(), features=4000)
    assert abs(float(field.frequencies.std()) - 2) < 4 * 2 / math.sqrt(2 * 8000)
    assert float(field.frequencies.norm(dim=1).max()) < 16, "above half of Nyquist"


def between_pixels(scale: float | None) -> float:
    """RMS error, at four times the size, of a smooth picture fitted at 16 x 16 pixels."""

    def truth(size: int) -> Tensor:
        x, y = pixel_centres(size, size, torch.zeros(())).T.reshape(2, size, size)
        waves = torch.stack([torch.sin(5 * x + 2 * y), torch.cos(6 * y), torch.sin(4 * x) * torch.cos(3 * y)])
        return 0.5 + 0.3 * waves[None]

    generator = NeuralImage("fourier", resolution=16, hidden=32, layers=2, scale=scale)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        (generator.render(View(16, 16)) - truth(16)).square().sum().backward()
        optimizer.step()
    return float((generator.render(View(64, 64)).detach() - truth(64)).square().mean().sqrt())


def test_no_garbage_between_the_pixels() -> None:
    assert between_pixels(None) < 0.02
    assert between_pixels(16.0) > 0.05, "planted: frequencies above Nyquist must show"


def test_siren_keeps_its_variance_from_layer_to_layer() -> None:
    field = SirenField(64, 256, 4, rng())
    wave = torch.sin(field.omega * field.first(2 * torch.rand(2000, 2, generator=rng(1)) - 1))
    for layer in field.sines:
        wave = torch.sin(layer(wave))
        assert abs(float(wave.detach().std()) - math.sqrt(0.5)) < 0.03


def slow_hash_grid(field: HashGridField, position: Tensor) -> Tensor:
    """Features of one position, corner by corner, as the paper writes it."""
    features, start = [], 0
    for cells in field.cells.tolist():
        size = min((cells + 1) ** 2, field.options["entries"])
        x, y = (float(p) * cells for p in position)
        column, row = min(int(x), cells - 1), min(int(y), cells - 1)
        total = torch.zeros(field.options["features"], dtype=torch.float64)
        for i in (column, column + 1):
            for j in (row, row + 1):
                plain = size == (cells + 1) ** 2
                index = j * (cells + 1) + i if plain else (i ^ (j * 2654435761)) % size
                total += (1 - abs(x - i)) * (1 - abs(y - j)) * field.table[start + index].detach()
        features.append(total)
        start += size
    return torch.cat(features)


def test_hash_grid_is_its_slow_twin() -> None:
    field = HashGridField(32, 8, 1, rng(), levels=3, features=2, entries=100).double()
    assert (field.sizes < (field.cells + 1) ** 2).any() and (field.sizes == (field.cells + 1) ** 2).any()
    torch.nn.init.normal_(field.table, generator=rng(1))
    positions = torch.cat([torch.rand(30, 2, generator=rng(2)).double(), torch.tensor([[0.0, 1.0], [1.0, 0.5]])])
    read = torch.stack([slow_hash_grid(field, position) for position in positions])
    torch.testing.assert_close(field(positions), field.network(read))
    positions = positions.flip(1)  # planted: x and y exchanged
    with pytest.raises(AssertionError):
        torch.testing.assert_close(field(positions), field.network(read))


@pytest.mark.parametrize("make", [lambda: Pixels(4, 6, init="noise"), lambda: Latent(4, 4, 6)])
def test_a_grid_is_its_parameters(make: Callable[[], Generator]) -> None:
    generator = make()
    (values,) = generator.parameters()
    picture = generator.render(View(4, 6))
    assert torch.equal(picture, values) and picture.data_ptr() != values.data_ptr()
    cotangent = torch.randn(picture.shape, generator=rng())
    (gradient,) = torch.autograd.grad(picture, values, cotangent)
    assert torch.equal(gradient, cotangent)
    half = generator.render(View(2, 3))
    assert half.shape[-2:] == (2, 3)
    torch.testing.assert_close(half.mean(), values.mean(), atol=0.1, rtol=0)
    with torch.no_grad():
        values.fill_(0.3)
    torch.testing.assert_close(generator.render(View(9, 5)), torch.full((1, values.shape[1], 9, 5), 0.3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_generator("gabor"), "kind: got 'gabor'"),
        (lambda: NeuralImage("gabor"), "kind: got 'gabor'"),
        (lambda: NeuralImage("siren", scale=3.0), "options: got 'scale'"),
        (lambda: NeuralImage(hidden=0), "hidden: got 0"),
        (lambda: NeuralImage(seed=-1), "seed: got -1"),
        (lambda: NeuralImage("fourier", scale=-1.0), "scale: got -1.0"),
        (lambda: NeuralImage("siren", omega=0.0), "omega: got 0.0"),
        (lambda: NeuralImage("hashgrid", levels=0), "levels: got 0"),
        (lambda: NeuralImage("hashgrid", coarsest=9, finest=4), "finest: got 4"),
        (lambda: make_generator("pixels", height=4), "missing"),
        (lambda: make_generator("pixels", height=4, width=4, hidden=3), "hidden"),
        (lambda: Pixels(0, 4), "height: got 0"),
        (lambda: Pixels(4, 4, init="picture"), "init: got 'picture'"),
        (lambda: Latent(4, 4, -2), "width: got -2"),
        (lambda: small("fourier").render(View(0, 4)), "height: got 0"),
        (lambda: small("latent").render(View(4, 0)), "width: got 0"),
    ],
)
def test_wrong_input(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
