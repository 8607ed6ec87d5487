"""What does not belong together is refused by name: prompts, latents and VAEs of another model."""

from __future__ import annotations

from dataclasses import replace

import comfy.latent_formats
import comfy.samplers
import pytest
import torch
from msd_pack.nodes.generators import RenderGenerator
from test_bridge import NEGATIVE, POSITIVE
from test_steps import born, step, values
from tiny_models import tiny_model, tiny_vae

WIDE = [[torch.randn(1, 77, 48), {"pooled_output": None}]]


def silent(model: object) -> object:
    """``model`` with a configuration that does not state the width of its text."""
    config = model.model.model_config
    config.unet_config = {key: value for key, value in config.unet_config.items() if key != "context_dim"}
    return model


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize(
    ("method", "inputs", "socket"),
    [
        ("msd", {"positive": WIDE}, "positive"),
        ("msd", {"negative": WIDE}, "negative"),
        ("dds", {"source_positive": WIDE}, "source_positive"),
        ("nfsd", {"unconditional": WIDE}, "unconditional"),
        ("nfsd", {"negative": WIDE}, "negative"),
        ("ism", {"negative": WIDE}, "negative"),
    ],
)
def test_a_prompt_of_the_wrong_width_is_named(method: str, inputs: dict, socket: str, states: bool) -> None:
    model = tiny_model() if states else silent(tiny_model())
    with pytest.raises(ValueError, match=rf"^{socket}: its text has width 48, the model \(TinyConfig\) takes 32; enc"):
        step(method, born(), model=model, **inputs)


def test_another_failure_of_the_network_stays_what_it_is() -> None:
    """Two matrices that do not fit, neither of them a text."""
    broken = tiny_model()
    broken.set_model_sampler_post_cfg_function(lambda args: torch.ones(2, 3) @ torch.ones(4, 5))
    for model in (broken, silent(broken)):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            step("msd", born(), model=model)


@pytest.mark.parametrize(
    ("method", "inputs", "socket"),
    [
        ("msd", {"positive": []}, "positive"),
        ("sds", {"negative": []}, "negative"),
        ("dds", {"source_positive": []}, "source_positive"),
        ("nfsd", {"unconditional": []}, "unconditional"),
    ],
)
def test_an_empty_conditioning_is_refused(method: str, inputs: dict, socket: str) -> None:
    with pytest.raises(ValueError, match=f"^{socket}: is empty, it holds no prompt; connect one"):
        step(method, born(), **inputs)


def test_a_guider_with_an_empty_side_is_refused() -> None:
    guider = comfy.samplers.CFGGuider(tiny_model())
    guider.set_conds([], NEGATIVE)
    with pytest.raises(ValueError, match="^positive: is empty"):
        step("msd", born(), guider=guider)
    guider.set_conds(POSITIVE, NEGATIVE)
    step("msd", born(), guider=guider, steps=1)


def test_a_latent_of_another_model_is_refused() -> None:
    """Its numbers mean other colours there; of the same model it goes on, and so does a picture with any."""
    made = step("msd", born("latent"), steps=1)[0]
    assert not torch.equal(values(step("msd", made, steps=1)[0]), values(made))
    theirs = replace(made, latent_format=comfy.latent_formats.SDXL())
    with pytest.raises(ValueError, match="generator: its latent was made with a model of SDXL latents, this model's"):
        step("msd", theirs)
    scaled = comfy.latent_formats.SD15()
    scaled.scale_factor = 1.0
    with pytest.raises(ValueError, match="generator: its latent was made with a model of SD15 latents"):
        step("msd", replace(made, latent_format=scaled))
    picture = replace(born(), latent_format=comfy.latent_formats.SDXL())
    step("msd", picture, steps=1)


def test_a_vae_that_cannot_decode_a_latent_is_refused() -> None:
    made, vae = step("msd", born("latent"), steps=1)[0], tiny_vae()
    with torch.inference_mode():
        RenderGenerator.execute(made, 32, 16, vae)
        vae.latent_channels = 16
        with pytest.raises(ValueError, match="vae: encodes to 16 channels, the model works on 4; connect the VAE"):
            RenderGenerator.execute(made, 32, 16, vae)
