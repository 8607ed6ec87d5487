"""The demo model as host objects gives the numbers of the headless one, through the stock nodes' own code."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from msd_pack.msd_core.demo.model import DemoModel
from msd_pack.msd_core.demo.solids.model import SolidModel
from msd_pack.msd_core.generators import View
from msd_pack.nodes import host
from msd_pack.nodes.demo_model import clip_of, model_of, vae_of
from msd_pack.nodes.distill import MeanShiftDistillStep
from msd_pack.nodes.generators import NeuralImageGenerator
from msd_pack.nodes.guiders import make_guider

PROMPT = "a large red circle on a blue background"


def filled(kind: type[DemoModel]) -> DemoModel:
    """Random weights, in half precision as in the file; zero-initialised layers are filled, to say something."""
    model = kind.random(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1 and not weight.any():
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
            weight.copy_(weight.half())
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def demo() -> DemoModel:
    return filled(DemoModel)


@pytest.fixture(scope="module")
def solids() -> DemoModel:
    return filled(SolidModel)


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_the_solid_world_is_the_headless_one_too(solids: DemoModel, size: tuple[int, int]) -> None:
    """Its stem is wider than the host's UNets have one."""
    clip, model = clip_of(solids), model_of(solids)
    text = "a large red cube with a blue back on a white background, left side view"
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(words)) for words in (text, ""))
    assert torch.allclose(positive[0][0], solids.context([text]), atol=1e-4)
    guider = make_guider(model, positive, negative, 3.0)
    sigmas = solids.schedule.sigmas[[10, 400, 990]]
    z = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0)) * sigmas.reshape(3, 1, 1, 1)
    ours = host.run(guider, lambda session: session.denoiser(z, sigmas), *size, rows=3)
    headless = solids.denoiser(text, cfg=3.0)(z, sigmas)
    assert torch.allclose(ours, headless, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(headless, z, atol=1e-2)
    with pytest.raises(ValueError, match="words that the solid world does not know: boat"):
        clip.tokenize("a red boat")


@pytest.mark.parametrize("prompt", [PROMPT, ""])
def test_clip_equals_the_headless_text_encoder(demo: DemoModel, prompt: str) -> None:
    with torch.inference_mode():
        clip = clip_of(demo)
        cond = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0][0]
    assert torch.allclose(cond, demo.context([prompt]), atol=1e-4)


def test_prompt_weights_apply_and_unknown_words_are_named(demo: DemoModel) -> None:
    clip = clip_of(demo)
    weighted = clip.encode_from_tokens_scheduled(clip.tokenize("a large (red:1.5) circle on a blue background"))[0][0]
    assert not torch.allclose(weighted, demo.context([PROMPT]), atol=1e-3)
    with pytest.raises(ValueError, match="words that the demo model does not know: astronaut"):
        clip.tokenize("an astronaut on a blue background")


def test_vae_equals_the_headless_autoencoder(demo: DemoModel) -> None:
    with torch.inference_mode():
        vae = vae_of(demo)
        image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
        encoded = vae.encode(image)
        decoded = vae.decode(encoded)
    x = demo.encode(image.movedim(-1, 1))
    assert torch.allclose(encoded * 0.18215, x, atol=1e-4)
    assert torch.allclose(decoded.movedim(-1, 1), demo.decode(x), atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_model_equals_the_headless_denoiser_at_the_trained_levels(demo: DemoModel, size: tuple[int, int]) -> None:
    """At sizes that the UNet cannot halve, too. Between the levels the host rounds to the nearest timestep and the
    headless model interpolates.
    """
    clip, model = clip_of(demo), model_of(demo)
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (PROMPT, ""))
    guider = make_guider(model, positive, negative, 3.0)
    sigmas = demo.schedule.sigmas[[10, 400, 990]]
    z = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0)) * sigmas.reshape(3, 1, 1, 1)
    ours = host.run(guider, lambda session: session.denoiser(z, sigmas), *size, rows=3)
    headless = demo.denoiser(PROMPT, cfg=3.0)(z, sigmas)
    assert torch.allclose(ours, headless, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(headless, z, atol=1e-2)


def test_no_preview_in_the_colours_of_another_autoencoder(demo: DemoModel) -> None:
    latent_format = model_of(demo).get_model_object("latent_format")
    assert host.latent_colours(torch.zeros(1, 4, 8, 8), latent_format) is None
    assert latent_format.scale_factor == pytest.approx(0.18215)


def test_a_latent_without_vae_and_colours_gives_no_picture_and_says_so(demo: DemoModel) -> None:
    clip, model = clip_of(demo), model_of(demo)
    settings = {"steps": 2, "seed": 0, "cfg": 1.0, "learning_rate": 0.01, "optimizer": "adam"}
    settings |= {"estimator": "one-step", "solver": "ddim", "solver_steps": 1, "samples": 1}
    with torch.inference_mode():
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
        start = NeuralImageGenerator.execute("latent", 64, 64, 0, 64, 3, 4).args[0]
        made, picture, plot, _ = MeanShiftDistillStep.execute(start, **settings, model=model, positive=positive).args
    assert isinstance(picture, ExecutionBlocker)
    assert picture.message == "Mean-Shift Distill Step: picture needs the VAE to decode the latent; connect one."
    assert made.canvas.view == View(8, 8) and plot.shape[-1] == 3


def test_the_stock_sampler_runs_on_it(demo: DemoModel) -> None:
    clip, model = clip_of(demo), model_of(demo)
    with torch.inference_mode():
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
        latent = torch.zeros(1, 4, 8, 8)
        sampler = comfy.samplers.KSampler(model, 3, "cpu", "euler", "normal", 1.0)
        out = sampler.sample(
            torch.randn(latent.shape), positive, positive, cfg=2.0, latent_image=latent, disable_pbar=True
        )
    assert out.shape == latent.shape and bool(out.isfinite().all())
