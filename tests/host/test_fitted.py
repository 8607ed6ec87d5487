"""Neural Image Generator from an IMAGE: fitted, encoded or copied; and its menu of aspect ratios."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from msd_pack.msd_core.generators import View
from msd_pack.msd_core.generators.picture import cover
from msd_pack.nodes import fitted, progress
from msd_pack.nodes.fitted import RATIOS, size_for
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator, RenderGenerator
from tiny_models import tiny_model, tiny_vae
from torch import Tensor


def picture(height: int = 16, width: int = 32, shift: float = 0.0) -> Tensor:
    """A smooth IMAGE (1, height, width, 3), of which no flip is the same."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(5 * x + y + shift), 0.2 + 0.6 * y, 0.3 + 0.5 * x * y], dim=-1)[None]


def born(representation: str = "pixels", image: Tensor | None = None, **inputs: object) -> HostGenerator:
    settings = {"width": 32, "height": 16, "seed": 0, "hidden": 16, "layers": 1, "channels": 4}
    with torch.inference_mode():
        given = None if image is None else image.clone()
        return NeuralImageGenerator.execute(representation, **settings | {"image": given} | inputs).args[0]


def rows(made: HostGenerator) -> Tensor:
    """The generator's pictures as IMAGE."""
    view = made.canvas.view
    with torch.no_grad():
        return made.generator.render(made.generator.frame(view.height, view.width)).movedim(1, -1)


def error(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean())


# --- beginning with an image ------------------------------------------------------------------------------------------


def test_pixels_copy_it() -> None:
    made = born(image=picture())
    assert torch.equal(rows(made), picture())
    parameters = list(made.generator.parameters())
    assert not any(p.is_inference() for p in parameters) and made.generator.render(made.canvas.view).requires_grad
    assert not torch.equal(rows(born()), picture()), "without the image it begins grey"
    assert torch.equal(rows(born(image=2 * picture() - 0.5)), (2 * picture() - 0.5).clamp(0, 1))


@pytest.mark.parametrize("representation", ["fourier", "siren", "hashgrid"])
def test_a_neural_image_is_fitted(representation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The more steps, the nearer; each moves the bar and gives way to Cancel, and the node says how near."""
    bar, told = [], []
    monkeypatch.setattr(progress.Progress, "update", lambda self, picture=None: bar.append(picture().shape))
    monkeypatch.setattr(fitted, "tell", lambda node_id, text: told.append(text))
    few, many = (born(representation, picture(), fit_steps=steps) for steps in (3, 60))
    assert error(rows(many), picture()) < 1e-3 < error(rows(born(representation)), picture())
    assert error(rows(many), picture()) < error(rows(few), picture())
    assert error(rows(many), picture()) < error(rows(many), picture().flip(2)) / 10
    assert set(bar) == {(1, 3, 16, 32)} and 4 + 2 < len(bar) <= 4 + 61
    assert told[0].startswith("0/3   PSNR") and told[-1].startswith("begins with the image, 32×16: PSNR ")
    comfy.model_management.interrupt_current_processing()
    monkeypatch.undo()
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            born(representation, picture())
    finally:
        comfy.model_management.interrupt_current_processing(False)


def test_a_latent_is_encoded_in_the_scale_of_its_model() -> None:
    model, vae = tiny_model(), tiny_vae()
    made = born("latent", picture(), model=model, vae=vae)
    with torch.inference_mode():
        encoded = vae.encode(picture())
        expected = model.get_model_object("latent_format").process_in(encoded)
        image, latent = RenderGenerator.execute(made, 32, 16, vae).args
    assert torch.equal(made.generator.values.detach(), expected) and not torch.equal(expected, encoded)
    assert torch.allclose(latent["samples"], encoded, rtol=1e-5, atol=1e-6) and image.shape == (1, 16, 32, 3)
    assert born("latent", model=model).latent_format is not None and born("latent").latent_format is None


def test_its_middle_is_cut_out() -> None:
    tall = picture(48, 32)
    assert torch.equal(rows(born(image=tall)), tall[:, 16:32])
    assert torch.equal(
        rows(born(image=picture(64, 32), width=16)), cover(picture(64, 32).movedim(-1, 1), 16, 16).movedim(1, -1)
    )


def test_a_batch_begins_with_one_image_or_with_its_own() -> None:
    both = torch.cat([picture(), picture(shift=1.0)])
    assert torch.equal(rows(born(image=both, batch=2)), both)
    assert torch.equal(rows(born(image=picture(), batch=2)), picture().expand(2, -1, -1, -1))


# --- aspect -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aspect", RATIOS)
def test_a_ratio_keeps_the_area(aspect: str) -> None:
    width, height = size_for(aspect, 512, 512, None, 8)
    assert width % 8 == height % 8 == 0
    assert abs(width * height / 512**2 - 1) < 0.02
    assert abs(width / height / RATIOS[aspect] - 1) < 0.02
    across, down = (int(side) for side in aspect.split(":"))
    assert RATIOS[aspect] == across / down


def test_as_set_and_from_the_image() -> None:
    assert size_for("as set", 40, 24, picture(), 8) == (40, 24)
    assert size_for("from the image", 64, 64, picture(100, 400), 8) == (128, 32)
    assert size_for("9:16", 64, 64, None, 16) == (48, 80), "cells of the model"
    made = born(image=picture(24, 24), aspect="from the image", width=24, height=24)
    assert torch.equal(rows(made), picture(24, 24))
    assert (born(aspect="2:3", width=64, height=96).canvas.width, born(aspect="1:1").canvas.view) == (64, View(24, 24))


# --- wrong input ------------------------------------------------------------------------------------------------------

WRONG = {
    "alpha": ({"image": torch.rand(1, 16, 32, 4)}, r"image: got shape \(1, 16, 32, 4\); .* without transparency"),
    "no batch": ({"image": torch.rand(16, 32, 3)}, r"image: got shape \(16, 32, 3\)"),
    "empty": ({"image": torch.rand(1, 0, 32, 3)}, r"image: got shape \(1, 0, 32, 3\)"),
    "too many": ({"image": torch.rand(3, 16, 32, 3)}, "image: got 3 of them for a batch of 1; .* set batch to 3"),
    "NaN": ({"image": torch.full((1, 16, 32, 3), torch.nan)}, "image: NaN or infinity"),
    "no VAE": ({"representation": "latent", "image": picture()}, "vae and model: not connected; a latent"),
    "channels": ({"representation": "latent", "model": tiny_model(), "channels": 16}, "channels: got 16; allowed is 4"),
    "cell": ({"representation": "latent", "model": tiny_model(), "cell": 16}, "cell: got 16; allowed is 8"),
    "no image": ({"aspect": "from the image"}, "aspect: got 'from the image', and no image is connected"),
    "a strip": (
        {"aspect": "from the image", "image": torch.rand(1, 1, 9000, 3), "width": 512, "height": 512},
        "aspect: .* up to 8192",
    ),
    "a word": ({"aspect": "wide"}, "aspect: got 'wide'; allowed are 'as set', '1:1'"),
    "no steps": ({"representation": "fourier", "image": picture(), "fit_steps": 0}, "steps: got 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named(case: str) -> None:
    inputs, told = WRONG[case]
    with pytest.raises(ValueError, match=told):
        born(**{"representation": "pixels"} | inputs)
