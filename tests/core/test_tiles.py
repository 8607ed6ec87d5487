"""Parts of a picture: a tiling is the whole, whatever the generator; a large picture has the bits of a small one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from msd_core.generators import GENERATORS, Batch, Canvas, Generator, NeuralImage, Points, View, make_generator, pieces
from msd_core.generators.grid import resample
from msd_core.generators.tiles import render_part, render_tiles, tiles, tiles_of

pytestmark = pytest.mark.core
NEURAL = ("fourier", "siren", "hashgrid")
SIZES = {
    "pixels": {"height": 13, "width": 10},
    "latent": {"channels": 4, "height": 13, "width": 10},
    "vector": {"height": 13, "width": 10, "paths": 4, "strokes": 2},
    "pixel-art": {"height": 13, "width": 10, "cells": 10, "colours": 3},
    "volume": {"height": 13, "width": 10, "rays": 13, "ray_samples": 4},
    "sticker": {"height": 13, "width": 10, "hidden": 8, "layers": 1},
}
FRAMES = [(13, 10), (29, 37), (7, 31), (5, 6)]
"""Sizes of frames: the grids' own, both sides enlarged, one reduced and one enlarged, both reduced."""


def structured(kind: str, seed: int = 0) -> Generator:
    """A small generator of a kind, with a picture that no two parts of have in common."""
    generator = make_generator(kind, **SIZES.get(kind, {"resolution": 16, "hidden": 8, "layers": 2}))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return generator


class Aside(Generator):
    """A generator from elsewhere: it knows nothing of windows, and counts how often it is rendered."""

    kind = "aside"

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.rendered = structured("pixels"), 0

    @property
    def canvas(self) -> Canvas:
        return self.inner.canvas

    def config(self) -> dict:
        return {}

    def render(self, view: View) -> Tensor:
        self.rendered += 1
        return self.inner.render(View(view.height, view.width))


def assembled(generator: Generator, height: int, width: int, tile: int) -> Tensor:
    """The whole, put together from tiles; NaN where no tile came, and no pixel twice."""
    whole = torch.full(generator.render(generator.frame(height, width)).shape, torch.nan)
    for top, left, picture in render_tiles(generator, height, width, tile=tile):
        assert not picture.requires_grad and max(picture.shape[-2:]) <= max(tile, 0 if generator.windows else 10**9)
        place = whole[..., top : top + picture.shape[-2], left : left + picture.shape[-1]]
        assert place.isnan().all()
        place.copy_(picture)
    return whole


def assert_same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other.detach(), rtol=0, atol=2e-5)  # torch places its taps in float32


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("tile", [4, 11, 64])
def test_a_tiling_is_the_whole(kind: str, frame: tuple[int, int], tile: int) -> None:
    generator = structured(kind)
    assert_same(assembled(generator, *frame, tile), generator.render(View(*frame)))


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_window_that_is_off_by_a_pixel_would_be_noticed(kind: str) -> None:
    generator = structured(kind)
    whole, part = generator.render(View(29, 37)), generator.render(View(29, 37, (5, 8, 6, 7)))
    assert_same(whole[..., 5:11, 8:15], part)
    for top, left in ((4, 8), (6, 8), (5, 7), (5, 9), (8, 5)):
        with pytest.raises(AssertionError):
            assert_same(whole[..., top : top + 6, left : left + 7], part)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_window_has_the_gradient_of_the_whole(kind: str) -> None:
    generator = structured(kind)
    parameters = list(generator.parameters())
    part = generator.render(View(29, 37, (5, 8, 6, 7)))
    cotangent = torch.randn(part.shape, generator=torch.Generator().manual_seed(4))
    found = torch.autograd.grad(part, parameters, cotangent)
    expected = torch.autograd.grad(generator.render(View(29, 37))[..., 5:11, 8:15], parameters, cotangent)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frame", [(200, 50), (13, 300), (3, 2), (40, 9), (14, 11)])
def test_the_sum_over_taps_is_the_resampling_of_torch(frame: tuple[int, int]) -> None:
    values = torch.randn(1, 2, 40, 30, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(values, size=frame, mode="bicubic", antialias=True)
    height, width = frame
    found = torch.cat([resample(values, View(height, width, (row, 0, 1, width))) for row in range(height)], dim=-2)
    assert_same(found, expected)
    assert (found - F.interpolate(values, size=frame, mode="bilinear", antialias=True)).abs().max() > 0.01


def test_a_batch_is_tiled_row_by_row() -> None:
    batch = Batch([structured("fourier", 1), structured("fourier", 2)])
    assert_same(assembled(batch, 29, 37, 16), batch.render(batch.frame(29, 37)))


def test_a_generator_that_knows_no_windows_is_rendered_whole_and_once() -> None:
    aside = Aside()
    whole = aside.render(View(29, 37)).detach()
    ((top, left, picture),) = render_tiles(aside, 29, 37, tile=8)
    assert (top, left) == (0, 0) and torch.equal(picture, whole) and aside.rendered == 2
    assert tiles_of(aside, 29, 37, 8) == [(0, 0, 29, 37)]
    assert torch.equal(render_part(aside, View(29, 37, (3, 4, 5, 6))), whole[..., 3:8, 4:10])
    assert not Batch([Aside(), structured("pixels")]).windows
    ((_, _, rows),) = render_tiles(Points(torch.ones(3, 2)), 5, 5)
    assert torch.equal(rows, torch.ones(3, 2))


@pytest.mark.parametrize("kind", ["siren", "pixels"])
def test_a_window_is_tiled_too(kind: str) -> None:
    """Its tiles are those pixels of the whole, counted from its own corner."""
    generator, (top, left, height, width) = structured(kind), (7, 5, 20, 11)
    whole, found = generator.render(View(29, 37)).detach(), torch.full((1, 3, height, width), torch.nan)
    for down, right, picture in render_tiles(generator, 29, 37, tile=8, window=(top, left, height, width)):
        assert max(picture.shape[-2:]) <= 8
        found[..., down : down + picture.shape[-2], right : right + picture.shape[-1]] = picture
    assert_same(found, whole[..., top : top + height, left : left + width])
    assert (found - whole[..., top + 1 : top + 1 + height, left : left + width]).abs().max() > 1e-3
    ((_, _, part),) = render_tiles(Aside(), 29, 37, window=(top, left, height, width))
    assert torch.equal(part, Aside().render(View(29, 37))[..., top : top + height, left : left + width])


def test_the_caller_goes_on_between_two_tiles() -> None:
    walk = render_tiles(structured("fourier"), 40, 40, tile=10)
    assert isinstance(walk, Iterator) and next(walk)[:2] == (0, 0) and torch.is_grad_enabled()


@pytest.mark.parametrize("kind", NEURAL)
def test_a_large_picture_has_the_bits_of_a_small_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluated again piece by piece, or not: the same picture, and the same gradient."""
    generator = structured(kind)
    monkeypatch.setattr(pieces, "CHUNK", 100)

    def both() -> list[Tensor]:
        picture = generator.render(View(29, 37))
        cotangent = torch.randn(picture.shape, generator=torch.Generator().manual_seed(4))
        return [picture, *torch.autograd.grad(picture, list(generator.parameters()), cotangent)]

    kept = both()
    monkeypatch.setattr(pieces, "KEPT", 0)
    repeated = both()
    assert len(pieces._pieces(29 * 37)) == 11
    assert all(torch.equal(one, other) for one, other in zip(kept, repeated, strict=True))
    with torch.no_grad():
        assert torch.equal(generator.render(View(29, 37)), kept[0])


def test_a_large_picture_keeps_none_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> int:
        """Bytes that the graph of a render holds."""
        held: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.nbytes) or t, lambda t: t):
            NeuralImage(hidden=16, layers=2).render(View(100, 100))
        return sum(held)

    monkeypatch.setattr(pieces, "CHUNK", 1000)
    small = kept()
    monkeypatch.setattr(pieces, "KEPT", 0)
    assert small > 100 * 100 * 100 and kept() < small / 100


def test_512_pixels_a_side_are_small_and_2048_are_not() -> None:
    generator = NeuralImage()
    assert 512**2 * generator.units <= pieces.KEPT < 2048**2 * generator.units


@pytest.mark.parametrize("region", [(0, 0, 1, 1), (0.25, 0.5, 0.5, 0.75), (0.3, 0.1, 0.37, 0.9), (0.95, 0.95, 1, 1)])
def test_a_zoom_shows_the_region(region: tuple[float, float, float, float]) -> None:
    view = View.zoom(region, 40, 60)
    top, left, height, width = view.box
    assert (height, width) == (40, 60)
    shown = left / view.width, top / view.height, (left + width) / view.width, (top + height) / view.height
    for one, other, frame in zip(shown, region, (view.width, view.height) * 2, strict=True):
        assert abs(one - other) <= 1 / frame + 1e-9


def test_a_zoom_of_the_whole_is_the_whole() -> None:
    assert View.zoom((0, 0, 1, 1), 5, 6).box == View(5, 6).box


def test_tiles_cover_the_frame_in_order() -> None:
    assert tiles(3, 5, 2) == [(0, 0, 2, 2), (0, 2, 2, 2), (0, 4, 2, 1), (2, 0, 1, 2), (2, 2, 1, 2), (2, 4, 1, 1)]
    assert tiles(3, 5) == [(0, 0, 3, 5)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: View(4, 4, (0, 0, 5, 4)), r"window: got \(0, 0, 5, 4\); .* 4 high and 4 wide"),
        (lambda: View(4, 4, (0, 1, 4, 4)), "window: got"),
        (lambda: View(4, 4, (-1, 0, 2, 2)), "window: got"),
        (lambda: View(4, 4, (0, 0, 0, 2)), "window: got"),
        (lambda: View(4, 4, (0, 0, 2.0, 2)), "window: got"),
        (lambda: View.zoom((0.5, 0, 0.5, 1), 4, 4), "region: got"),
        (lambda: View.zoom((0, 0, 1.1, 1), 4, 4), "region: got"),
        (lambda: View.zoom((0, 0, 1, 1), 0, 4), "height: got 0"),
        (lambda: render_tiles(structured("pixels"), 4, 0), "width: got 0"),
        (lambda: render_tiles(structured("pixels"), 4, 4, tile=0), "tile: got 0"),
        (lambda: render_tiles(structured("pixels"), 4, 4, window=(0, 0, 5, 4)), "window: got"),
    ],
)
def test_wrong_input(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
