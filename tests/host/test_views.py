"""Render Generator by scale and by region: what is shown is that part of the whole, in its own proportions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from msd_pack.msd_core import memory
from msd_pack.msd_core.generators import Canvas, Generator, Pixels, View
from msd_pack.nodes import generators
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator, RenderGenerator
from tiny_models import tiny_model
from torch import Tensor

LATENT_FORMAT = tiny_model().get_model_object("latent_format")


def born(representation: str = "siren", **inputs: object) -> HostGenerator:
    settings = {"width": 96, "height": 40, "seed": 0, "hidden": 8, "layers": 1, "channels": 4}
    with torch.inference_mode():
        return NeuralImageGenerator.execute(representation, **settings | inputs).args[0]


def drawn(generator: HostGenerator, width: int = 8, height: int = 8, **inputs: object) -> Tensor:
    """The output of the generator's own space, (B, H, W, C)."""
    with torch.inference_mode():
        image, latent = RenderGenerator.execute(generator, width, height, None, **inputs).args
    return latent["samples"].movedim(1, -1) if generator.generator.space == "latent" else image


def region(left: float, top: float, right: float, bottom: float) -> dict[str, float]:
    return {"left": left, "top": top, "right": right, "bottom": bottom}


def test_a_scale_keeps_the_proportions() -> None:
    made = born()
    assert drawn(made, scale=2.0).shape == (1, 80, 192, 3) and drawn(made, scale=0.1).shape == (1, 4, 10, 3)
    assert torch.equal(drawn(made, scale=2.0), drawn(made, 192, 80)), "nothing else is different"
    assert drawn(made, scale=1e-9).shape == (1, 1, 1, 3)
    met = replace(born("latent"), latent_format=LATENT_FORMAT)
    assert drawn(met, scale=1.5).shape == (1, 8, 18, 4) and drawn(met, 513, 3, scale=1.0).shape == (1, 5, 12, 4)


def test_a_picture_that_is_stretched_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(generators, "tell", lambda node_id, text: told.append(text))
    made = born()
    drawn(made, 96, 96)
    drawn(made, 96, 20)
    assert told == [
        "stretched, 2.4 times too high for a generator of 96 x 40; scale keeps its sides",
        "stretched, 2 times too wide for a generator of 96 x 40; scale keeps its sides",
    ]
    told.clear()
    for sides in ((192, 80), (193, 80), (1920, 801)):
        drawn(made, *sides)
    drawn(made, scale=0.1)
    drawn(made, 48, 40, **region(0.5, 0.0, 1.0, 1.0))
    assert not told


@pytest.mark.parametrize("representation", ["siren", "pixels", "latent"])
def test_a_region_is_that_part_of_the_whole(representation: str) -> None:
    made = replace(born(representation), latent_format=LATENT_FORMAT)
    if representation == "pixels":  # those begin grey
        with torch.no_grad():
            made.generator.values.copy_(torch.rand(1, 3, 40, 96, generator=torch.Generator().manual_seed(0)))
    cell = 8 if representation == "latent" else 1
    whole = drawn(made, 96 * cell, 80 * cell)
    part = drawn(made, 24 * cell, 20 * cell, **region(0.25, 0.5, 0.5, 0.75))
    assert part.shape[1:3] == (20, 24)
    assert torch.allclose(part, whole[:, 40:60, 24:48], atol=1e-5)
    assert not torch.allclose(part, whole[:, 20:40, 24:48], atol=1e-3)


def test_a_region_with_a_scale_keeps_its_own_proportions() -> None:
    made = born()
    part = drawn(made, scale=4.0, **region(0.5, 0.0, 0.75, 0.5))
    assert part.shape == (1, 80, 96, 3)
    assert torch.allclose(part, drawn(made, scale=4.0)[:, :80, 192:288], atol=1e-5)


def test_a_large_region_is_drawn_in_tiles() -> None:
    made = born("siren", batch=2)
    part = drawn(made, 700, 520, **region(0.0, 0.5, 0.5, 1.0))
    member = replace(made, generator=made.generator[1])
    assert torch.allclose(part[1:], drawn(member, 700, 520, **region(0.0, 0.5, 0.5, 1.0)), atol=1e-5)
    frame = made.generator[1].render(View(1040, 1400, (520, 0, 520, 700))).detach().movedim(1, -1)
    assert torch.allclose(part[1:], frame, atol=1e-5)


class Whole(Generator):
    """A generator from elsewhere, that knows no windows."""

    kind = "whole"

    def __init__(self) -> None:
        super().__init__()
        self.inner = Pixels(8, 8)
        with torch.no_grad():
            self.inner.values.copy_(torch.linspace(0, 1, 192).reshape(1, 3, 8, 8))

    @property
    def canvas(self) -> Canvas:
        return self.inner.canvas

    def config(self) -> dict:
        return {}

    def render(self, view: View) -> Tensor:
        return self.inner.render(View(view.height, view.width))


def test_what_knows_no_windows_is_drawn_whole_and_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    made = HostGenerator(Whole())
    assert torch.allclose(drawn(made, 4, 4, **region(0.5, 0.5, 1.0, 1.0)), drawn(made)[:, 4:, 4:], atol=1e-6)
    monkeypatch.setattr(memory, "available_memory", lambda: 10**8)
    with pytest.raises(ValueError, match="size: got 10000x10000"):
        drawn(made, 100, 100, **region(0.5, 0.5, 0.51, 0.51))
    assert drawn(born(), 100, 100, **region(0.5, 0.5, 0.51, 0.51)).shape == (1, 100, 100, 3)


WRONG = {
    "turned round": (region(0.5, 0, 0.25, 1), r"region: got \(0.5, 0, 0.25, 1\)"),
    "empty": (region(0, 1, 1, 1), "region: got"),
    "outside": (region(-0.1, 0, 1, 1), "left: got -0.1; allowed is a finite number from 0 to 1"),
    "NaN": (region(0, 0, float("nan"), 1), "right: got nan"),
    "too small": (region(0, 0, 1e-320, 1), "region: got .* of a whole picture of infx80"),
    "too fine": (region(0, 0, 1e-6, 1), "region: got .* of a whole picture of 8e\\+08x80; allowed are 8388608"),
    "negative": ({"scale": -1.0}, "scale: got -1.0"),
    "infinite": ({"scale": float("inf")}, "scale: got inf"),
    "huge": ({"scale": 200.0}, r"scale: got 200, which makes 19200x8000; allowed are sides up to 16384"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named(case: str) -> None:
    inputs, told = WRONG[case]
    with pytest.raises(ValueError, match=told):
        drawn(born(), 800, 80, **inputs)
