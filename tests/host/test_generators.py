"""Neural Image Generator and Render Generator."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from msd_pack.msd_core import memory
from msd_pack.msd_core.generators import GENERATORS, View
from msd_pack.nodes import generators, progress
from msd_pack.nodes.generators import ELSEWHERE, HostGenerator, NeuralImageGenerator, RenderGenerator, bounded
from msd_pack.nodes.vae import vae_bytes
from tiny_models import tiny_model, tiny_vae

MENU = [kind for kind in GENERATORS if kind not in ELSEWHERE]
LATENT_FORMAT = tiny_model().get_model_object("latent_format")


def born(representation: str = "fourier", **inputs: object) -> HostGenerator:
    settings = {"width": 32, "height": 16, "seed": 0, "hidden": 8, "layers": 1, "channels": 4}
    with torch.inference_mode():
        return NeuralImageGenerator.execute(representation, **settings | inputs).args[0]


def drawn(generator: HostGenerator, width: int = 40, height: int = 24, vae: object = None) -> tuple:
    with torch.inference_mode():
        return RenderGenerator.execute(generator, width, height, vae).args


@pytest.mark.parametrize("representation", MENU)
def test_a_generator_is_born_able_to_learn(representation: str) -> None:
    made = born(representation)
    parameters = list(made.generator.parameters())
    assert parameters and not any(p.is_inference() for p in parameters)
    assert made.generator.render(made.canvas.view).requires_grad
    assert made.get_ram_usage() >= sum(p.nbytes for p in parameters)
    view = made.canvas.view
    assert (view.height, view.width) == ((2, 4) if representation == "latent" else (16, 32))


@pytest.mark.parametrize("representation", MENU)
def test_the_seed_decides(representation: str) -> None:
    def values(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in born(representation, seed=seed).generator.parameters()])

    assert torch.equal(values(1), values(1))
    if representation != "pixels":  # those begin grey
        assert not torch.equal(values(1), values(2))


@pytest.mark.parametrize("representation", [kind for kind in MENU if kind != "latent"])
def test_an_image_is_drawn_at_any_size(representation: str) -> None:
    image, latent = drawn(born(representation), 41, 23)
    assert image.shape == (1, 23, 41, 3)
    assert 0 <= float(image.min()) and float(image.max()) <= 1
    assert isinstance(latent, ExecutionBlocker) and "connect one" in latent.message


def test_the_vae_encodes_an_image() -> None:
    assert drawn(born(), vae=tiny_vae())[1]["samples"].shape == (1, 4, 3, 5)


def test_a_latent_is_given_in_the_scale_of_the_host() -> None:
    met = replace(born("latent"), latent_format=LATENT_FORMAT)
    image, latent = drawn(met, 32, 16)
    assert torch.allclose(LATENT_FORMAT.process_in(latent["samples"]), met.generator.render(View(2, 4)))
    assert isinstance(image, ExecutionBlocker) and "decode the latent" in image.message
    assert drawn(met, 32, 16, tiny_vae())[0].shape == (1, 16, 32, 3)


def test_a_vae_in_half_precision_gives_full_precision_outputs() -> None:
    """As under the host's --fp16-intermediates."""
    vae = tiny_vae()
    encode, decode = vae.encode, vae.decode
    vae.encode, vae.decode = lambda image: encode(image).half(), lambda latent: decode(latent).half()
    assert drawn(born(), vae=vae)[1]["samples"].dtype == torch.float32
    image, latent = drawn(replace(born("latent"), latent_format=LATENT_FORMAT), 32, 16, vae)
    assert image.dtype == latent["samples"].dtype == torch.float32 and bool(image.isfinite().all())


def test_a_cell_of_another_size() -> None:
    made = born("latent", width=48, cell=16)
    assert (made.canvas.cell, made.generator.render(made.canvas.view).shape) == (16, (1, 4, 1, 3))
    latent = drawn(replace(made, latent_format=LATENT_FORMAT), 64, 32)[1]["samples"]
    assert latent.shape == (1, 4, 2, 4)
    assert born("pixels", width=33, height=17, cell=1).canvas.width == 33


def test_a_vae_of_another_model_is_refused_before_it_decodes() -> None:
    vae = tiny_vae()
    vae.latent_channels = 16
    with pytest.raises(ValueError, match="vae: encodes to 16 channels, the model works on 4"):
        drawn(replace(born("latent"), latent_format=LATENT_FORMAT), 32, 16, vae)


def test_drawing_does_not_change_the_generator() -> None:
    made = born()
    before = {name: tensor.clone() for name, tensor in made.generator.state_dict().items()}
    drawn(made)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.generator.state_dict().items())
    assert made.generator.render(View(4, 4)).requires_grad


def test_a_large_image_is_drawn_in_tiles_that_give_way_to_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = born(), []
    whole = made.generator.render(View(600, 1100)).movedim(1, -1)
    monkeypatch.setattr(progress.Progress, "update", lambda self, picture=None: seen.append(self.total))
    image, _ = drawn(made, 1100, 600)
    assert torch.allclose(image, whole.detach(), atol=1e-5) and seen == [6] * 6
    monkeypatch.undo()
    comfy.model_management.interrupt_current_processing()
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            drawn(made, 1100, 600)
    finally:
        comfy.model_management.interrupt_current_processing(False)


def test_what_cannot_be_encoded_is_refused_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = vae_bytes(tiny_vae(), 24, 40, n=2)
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    monkeypatch.setattr(generators, "draw_image", lambda *_: pytest.fail("drawn"))
    with pytest.raises(ValueError, match="vae: got a picture of 40x24, which .* Draw a smaller picture, or disconnect"):
        drawn(born(batch=2), vae=tiny_vae())
    monkeypatch.undo()
    monkeypatch.setattr(memory, "available_memory", lambda: 10**12)
    drawn(born(batch=2), vae=tiny_vae())


def test_the_preview_is_bounded_and_the_image_is_not() -> None:
    image, _ = drawn(born(), 2100, 8)
    assert image.shape == (1, 8, 2100, 3)
    assert bounded(image).shape == (1, 8, 2048, 3) and bounded(image[:, :, :2048]).shape == (1, 8, 2048, 3)
    assert bounded(torch.ones(1, 9000, 3000, 3)).shape == (1, 2048, 683, 3)
    assert torch.allclose(bounded(torch.full((1, 4096, 2, 3), 0.25)), torch.tensor(0.25))


def test_an_image_that_cannot_fit_is_refused_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    with pytest.raises(ValueError, match=r"size: got 16384x16384, which takes at least 3.22 GB .* to about"):
        drawn(born(), 16384, 16384)


def test_wrong_inputs() -> None:
    with pytest.raises(ValueError, match=r"width: got 20; .* use 16"):
        born(width=20)
    with pytest.raises(ValueError, match="height: got 0; .* use 8"):
        born(height=0)
    with pytest.raises(ValueError, match="has not met a model yet"):
        drawn(born("latent"), 32, 16)
    with pytest.raises(ValueError, match="width: got 36"):
        drawn(replace(born("latent"), latent_format=LATENT_FORMAT), 36, 16)
    with pytest.raises(ValueError, match="allowed are 'fourier'"):
        born("oil")
