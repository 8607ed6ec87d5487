"""Pixel art: exactly its palette, annealed from soft to hard, and a file with a palette."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from msd_core.generators import PixelArt, View, fit, load_generator, save_generator
from msd_core.generators.pixel_art import (
    COLD,
    PALETTES,
    WARM,
    Softly,
    cluster,
    palette_from,
    palette_of,
    png_of,
    sheet_of,
)
from msd_core.info import measure
from msd_core.optimize import optimize, start

pytestmark = pytest.mark.core


@pytest.mark.parametrize("palette", ["", "gameboy", "#000 #ffffff, #ff0000"])
def test_what_is_shown_has_the_palette_s_colours_and_no_other(palette: str) -> None:
    art = PixelArt(40, 24, cells=10, colours=5, palette=palette, seed=1)
    with torch.no_grad():
        art.values.copy_(torch.randn(art.values.shape, generator=torch.Generator().manual_seed(2)))
        picture = art.render(View(24, 40))
        known = {tuple(colour.tolist()) for colour in art.colours()}
    seen = {tuple(colour.tolist()) for colour in picture[0].flatten(1).T}
    assert 1 < len(seen) <= len(known) and seen <= known
    assert picture.shape == (1, 3, 24, 40) and art.values.shape[-2:] == (6, 10)
    cell = picture[0, :, :4, :4].flatten(1)
    assert torch.equal(cell, cell[:, :1].expand_as(cell)), "a cell is a square of one colour"


def test_the_soft_picture_becomes_the_hard_one() -> None:
    """Closed form for two colours: the share of one is a sigmoid of the difference of the squared distances."""
    art = PixelArt(4, 4, cells=4, palette="#000000 #ffffff", seed=3)
    value = float(torch.sigmoid(torch.tensor(6.0 * 0.05)))
    with torch.no_grad():
        art.values.fill_(0.05)
        for temperature in (WARM, COLD, 1e-3):
            share = 1 / (1 + np.exp((3 * (1 - value) ** 2 - 3 * value**2) / (2 * temperature**2)))
            found = art.render(Softly(4, 4, temperature=temperature))[0, 0, 0, 0]
            assert float(found) == pytest.approx(share, abs=1e-5)
        assert torch.equal(art.render(View(4, 4)), torch.ones(1, 3, 4, 4))
    views = [art.view(step, 9, torch.Generator()) for step in range(9)]
    assert views[0].temperature == WARM and views[-1].temperature == pytest.approx(COLD)
    assert all(a.temperature > b.temperature for a, b in zip(views, views[1:], strict=False))


def test_the_hard_picture_has_the_soft_one_s_gradient() -> None:
    art = PixelArt(8, 8, cells=4, colours=3, seed=1)
    found = [
        torch.autograd.grad(art.render(view).square().sum(), [art.values, art.palette], allow_unused=True)
        for view in (View(8, 8), Softly(8, 8, temperature=COLD))
    ]
    assert all(float(part.abs().sum()) > 0 for part in found[0])
    assert torch.equal(found[0][0] != 0, found[1][0] != 0)


def test_a_given_palette_is_not_moved() -> None:
    art = PixelArt(8, 8, cells=4, palette="gameboy")
    assert not art.palette.requires_grad and art.values.requires_grad
    assert art.colours()[0].tolist() == pytest.approx([15 / 255, 56 / 255, 15 / 255])


def test_a_mirrored_picture_is_its_own_mirror() -> None:
    for cells in (8, 9):
        art = PixelArt(4 * cells, 4 * cells, cells=cells, mirror=True, colours=4, seed=5)
        with torch.no_grad():
            art.values.mul_(40)
            picture = art.render(View(4 * cells, 4 * cells))
        assert torch.equal(picture, picture.flip(-1)) and not torch.equal(picture, picture.flip(-2))


def test_a_contour_goes_around_what_stands_before_the_ground() -> None:
    art = PixelArt(7, 7, cells=7, palette="#ffffff #ff0000 #101010", contour=True)
    with torch.no_grad():
        art.values.fill_(1.0)
        art.values[0, 1:, 3, 3] = -1.0  # a red cell in the middle
    wanted = torch.zeros(7, 7, dtype=torch.long)
    wanted[3, 2:5], wanted[2:5, 3], wanted[3, 3] = 2, 2, 1
    assert torch.equal(art.numbers(), wanted)


def test_the_file_has_a_palette_and_whole_cells() -> None:
    numbers, palette = torch.tensor([[0, 1, 2], [2, 1, 0]]), palette_of("#010203 #ff0000 #00ff00")
    for scale, size in ((0, (513, 342)), (1, (3, 2)), (4, (12, 8))):
        picture = Image.open(io.BytesIO(png_of(numbers, palette, scale)))
        assert picture.mode == "P" and picture.size == size
        assert picture.convert("RGB").getpixel((0, 0)) == (1, 2, 3)
        assert len(picture.convert("RGB").getcolors()) == 3


def test_a_fit_begins_with_the_picture_and_its_colours(tmp_path) -> None:  # noqa: ANN001
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, 0, :, 16:], picture[:, 1, 16:] = 0.9, 0.6
    *_, last = fit(PixelArt(32, 32, cells=8, colours=4), picture, steps=5)
    assert last.psnr is not None and last.psnr > 30
    save_generator(last.generator, tmp_path / "a.safetensors")
    again = load_generator(tmp_path / "a.safetensors")
    assert torch.equal(again.render(View(32, 32)), last.generator.render(View(32, 32)).detach())


def test_the_palette_of_a_picture() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :32] = 1.0
    picture[:, 2, 32:, :20] = 1.0
    assert sorted(palette_from(picture, 3).split()) == ["#000000", "#0000ff", "#ff0000"]
    centres = cluster(torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [1.0, 1, 1]]), 2)
    torch.testing.assert_close(centres.sort(0).values, torch.tensor([[0.05, 0, 0], [1.0, 1, 1]]))


@pytest.mark.parametrize("size", [(1, 13), (8, 104), (32, 160), (40, 40), (300, 700)])
def test_a_palette_is_of_colours_that_are_there(size: tuple[int, int]) -> None:
    """None is mixed of two that touch; all, where there are no more than asked for."""
    named = ["#000000", "#1d2b53", "#7e2553", "#008751", "#ab5236"]
    colours = palette_of(" ".join(named))
    where = (torch.arange(size[1]) * 5 // size[1]).expand(size)
    picture = colours[where].movedim(-1, 0)[None]
    assert sorted(palette_from(picture, 5).split()) == sorted(named) == sorted(palette_from(picture, 8).split())
    assert len(palette_from(picture, 2).split()) == len(palette_from(torch.zeros(1, 3, 9, 9), 4).split()) - 2 == 2


def test_a_method_s_target_is_drawn_with_few_colours() -> None:
    """Cells settle on one colour each, and stray ones are fewer with ``tidy`` than without."""
    goal = torch.full((1, 3, 32, 32), 0.3)
    goal[..., 8:24, 8:24] = torch.tensor([0.9, 0.8, 0.1])[:, None, None]

    def towards(x, denoiser, *, step, steps, rng):  # noqa: ANN001, ANN202
        noisy = goal + 0.2 * torch.randn(goal.shape, generator=rng)
        return x - noisy, measure(x - noisy, 1)

    shown = {}
    for tidy in (0.0, 0.1):
        art = PixelArt(32, 32, cells=16, palette="#000000 #808080 #ffff00", tidy=tidy, seed=1)
        *_, last = optimize(start(art, steps=20), towards, lambda z, sigma: z, inner_steps=15)
        shown[tidy] = last.picture()
    strays = {tidy: float(picture.diff(dim=-1).abs().sum()) for tidy, picture in shown.items()}
    assert strays[0.1] < 0.6 * strays[0.0]
    yellow = (shown[0.1][..., 8:24, 8:24] == torch.tensor([1.0, 1, 0])[:, None, None]).all(dim=1).float().mean()
    assert float(yellow) > 0.9


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cells": 1}, "cells"),
        ({"colours": 1}, "colours"),
        ({"colours": 300}, "colours"),
        ({"palette": "#ff0000"}, "palette: got '#ff0000', 1 colours"),
        ({"palette": "#ff0000 mauve"}, "colour: got 'mauve'"),
        ({"tidy": -1.0}, "tidy"),
        ({"width": 0}, "width"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        PixelArt(**{"width": 8, "height": 8, **wrong})
    assert says in str(caught.value)


def test_named_palettes_are_palettes() -> None:
    assert {name: len(palette_of(name)) for name in PALETTES} == {"gameboy": 4, "pico-8": 16}


def test_a_sheet_shares_equal_colours() -> None:
    red, blue, green = ([1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0])
    one = torch.tensor([[0, 1]]), torch.tensor([red, blue])
    other = torch.tensor([[0, 1]]), torch.tensor([blue, green])
    numbers, palette = sheet_of([one, other, one])
    assert numbers.tolist() == [[0, 1, 1, 2], [0, 1, 0, 0]] and palette.tolist() == [red, blue, green]
    with pytest.raises(ValueError, match=r"sprites: got sizes \[\(1, 2\), \(2, 1\)\]"):
        sheet_of([one, (torch.tensor([[0], [1]]), one[1])])
    many = [(torch.arange(200)[None], torch.rand(200, 3, generator=torch.Generator().manual_seed(i))) for i in (0, 1)]
    with pytest.raises(ValueError, match=r"sprites: got 400 colours together; allowed are 256"):
        sheet_of(many)
