"""Product Sampler and Mean-Shift Refine: the core's mathematics under the host's samplers, and what is refused."""

from __future__ import annotations

import logging

import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from comfy import latent_formats
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from msd_pack.msd_core.mean_shift import ESTIMATORS
from msd_pack.msd_core.product import ProductDenoiser
from msd_pack.msd_core.sampling import ddim_sample
from msd_pack.nodes import host
from msd_pack.nodes.nearby import MeanShiftRefine, NearSampler, ProductSampler
from test_bridge import NEGATIVE, POSITIVE, guider_of, latent
from test_rescue import overflowing
from tiny_models import KINDS, tiny_model

EULER = comfy.samplers.sampler_object("euler")


def near(picture: torch.Tensor, bandwidth: float, sampler: object = EULER) -> object:
    with torch.inference_mode():
        return ProductSampler.execute(sampler, {"samples": picture}, bandwidth).args[0]


def sampled(model: object, sampler: object, steps: int = 12, batch: int = 1, seed: int = 3) -> torch.Tensor:
    levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    empty = {"samples": torch.zeros(batch, 4, 8, 8)}
    with torch.inference_mode():
        return SamplerCustomAdvanced.execute(Noise_RandomNoise(seed), guider_of(model), sampler, levels, empty).args[0][
            "samples"
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_it_walks_the_path_of_the_core_s_product_denoiser(kind: str) -> None:
    """Euler in the host, and DDIM of the core, on the same levels from the same noise."""
    model, picture = tiny_model(kind), 4 * latent(seed=5)
    found = sampled(model, near(picture, 1.5))
    levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 12)
    noise = Noise_RandomNoise(3).generate_noise({"samples": torch.zeros(1, 4, 8, 8)})

    def loop(session: host.Session) -> torch.Tensor:
        axis = session.denoiser.axis
        own = axis.sigma(levels.clamp(max=0.999) if axis.flow else levels)
        x = session.latent_format.process_in(picture)
        z = noise * own[0] if axis.flow else noise * float(torch.sqrt(1.0 + own[0] ** 2))  # the host's full denoise
        return session.latent_format.process_out(ddim_sample(z, ProductDenoiser(session.denoiser, x, 1.5), own))

    wanted = host.run(guider_of(model), loop, 8, 8)
    assert torch.allclose(found, wanted, atol=2e-2 * float(wanted.std())), (found - wanted).abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_bandwidth_is_how_far_a_variation_goes(kind: str) -> None:
    model, picture = tiny_model(kind), 4 * latent(seed=5)
    scale = model.get_model_object("latent_format").scale_factor
    far = [float((sampled(model, near(picture, width), batch=2) - picture).std()) * scale for width in (0.05, 0.5, 5.0)]
    assert far[0] < 0.12 and far[0] < far[1] < far[2]
    free = sampled(model, EULER)
    assert torch.allclose(sampled(model, near(picture, 1e5)), free, atol=0.05 * float(free.std()))


@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "euler_ancestral", "dpmpp_sde", "uni_pc", "lcm"])
def test_every_sampler_takes_it(name: str) -> None:
    model, picture = tiny_model(), latent(seed=5)
    found = sampled(model, near(picture, 0.1, comfy.samplers.sampler_object(name)), steps=6)
    assert bool(found.isfinite().all())
    assert float((found - picture).std()) * 0.18215 < 1.0


def test_the_evaluations_are_the_sampler_s_own() -> None:
    model, counted = tiny_model(), []
    guider = guider_of(model)
    own = type(guider).predict_noise

    def counting(self: object, x: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        counted.append(len(x))
        return own(self, x, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.samplers.CFGGuider, "predict_noise", counting)
        sampled(model, near(latent(seed=5), 1.0), steps=7)
    assert counted == [1] * 7


def test_a_wrong_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latent: has shape \(1, 4, 4, 4\), and what is sampled \(1, 4, 8, 8\)"):
        sampled(tiny_model(), near(torch.zeros(1, 4, 4, 4), 1.0))
    with pytest.raises(ValueError, match=r"latent: has shape \(1, 4, 2, 8, 8\); allowed is \(B, C, H, W\)"):
        ProductSampler.execute(EULER, {"samples": torch.zeros(1, 4, 2, 8, 8)}, 1.0)
    video = tiny_model()
    video.add_object_patch("latent_format", latent_formats.Wan21())
    stock = comfy.samplers.CFGGuider(video)
    stock.inner_set_conds({"positive": POSITIVE, "negative": NEGATIVE})
    noise, levels = torch.zeros(1, 16, 1, 8, 8), torch.tensor([2.0, 0.0])
    with torch.inference_mode(), pytest.raises(ValueError, match=r"model: its latents \(Wan21\) have 3 dimensions"):
        stock.sample(noise, noise.clone(), near(latent(), 1.0), levels, disable_pbar=True)
    with pytest.raises(ValueError, match="bandwidth: got 0"):
        ProductSampler.execute(EULER, {"samples": torch.zeros(1, 4, 8, 8)}, 0.0)
    assert isinstance(near(latent(), 1.0), NearSampler)


# --- refine -----------------------------------------------------------------------------------------------------------


def refined(picture: torch.Tensor, kind: str = "eps", **changes: object) -> torch.Tensor:
    given = {"steps": 4, "start": 2.0, "end": 0.5, "cfg": 2.0, "seed": 1}
    sockets = {"model": tiny_model(kind), "positive": POSITIVE, "negative": NEGATIVE}
    latent_image = changes.pop("latent", {"samples": picture})
    with torch.inference_mode():
        return MeanShiftRefine.execute(latent_image, **{**given, **sockets, **changes}).args[0]["samples"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_the_core_s_mean(kind: str) -> None:
    """x' = D(x; λ) by the one-step estimator, in the host's scale."""
    picture = 4 * latent(seed=5)

    def loop(session: host.Session) -> torch.Tensor:
        x = session.latent_format.process_in(picture)
        return session.latent_format.process_out(session.denoiser(x, 0.8))

    wanted = host.run(guider_of(tiny_model(kind), 2.0), loop, 8, 8)
    found = refined(picture, kind, steps=1, start=0.8, estimator="one-step")
    assert torch.allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("estimator", list(ESTIMATORS))
def test_every_estimator_of_the_menu(estimator: str) -> None:
    found = refined(4 * latent(seed=5), steps=2, estimator=estimator)
    assert bool(found.isfinite().all())


def test_it_depends_on_the_seed_alone_and_a_batch_is_a_loop() -> None:
    pictures = 4 * latent(2, seed=5)
    both = refined(pictures)
    assert torch.equal(both, refined(pictures)) and not torch.equal(both, refined(pictures, seed=9))
    second = refined(pictures[1:], seed=2)
    assert torch.allclose(both[1:], second, atol=1e-2)


@pytest.mark.parametrize(("masks", "pictures"), [(3, 1), (3, 2), (2, 3), (1, 2)])
def test_a_noise_mask_of_another_batch_is_repeated_or_cut_as_in_the_hosts_samplers(masks: int, pictures: int) -> None:
    picture = 4 * torch.cat([latent(seed=seed) for seed in range(5, 5 + pictures)])
    mask = torch.rand(masks, 64, 64, generator=torch.Generator().manual_seed(1)).round()
    found = refined(picture, latent={"samples": picture, "noise_mask": mask})
    wanted = comfy.sampler_helpers.prepare_mask(mask, picture.shape, torch.device("cpu"))[:, :1].flatten(1)
    assert found.shape == picture.shape
    spelled = mask[[i % masks for i in range(pictures)]]
    assert torch.equal(found, refined(picture, latent={"samples": picture, "noise_mask": spelled}))
    for i in range(pictures):
        same = torch.nn.functional.interpolate(mask[None], (8, 8), mode="bilinear")[0, i % masks].flatten()
        assert torch.equal(wanted[i], same), "the host takes them in this order"


def test_a_noise_mask_is_heeded() -> None:
    picture = 4 * latent(seed=5)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1.0
    found = refined(picture, latent={"samples": picture, "noise_mask": mask})
    assert torch.allclose(found[..., 4:], picture[..., 4:], atol=1e-5)
    assert not torch.allclose(found[..., :4], picture[..., :4], atol=1e-2)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_broken_model_is_named_and_half_precision_is_tried_again(
    steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model()
    model.set_model_sampler_post_cfg_function(lambda given: given["denoised"] * torch.nan)
    with pytest.raises(ValueError, match="^model: NaN or infinity in .* of the mean shift"):
        refined(latent(), steps=steps, model=model)
    with pytest.raises(ValueError, match="^latent: NaN or infinity"):
        refined(latent() * torch.nan, steps=steps)
    with caplog.at_level(logging.WARNING):
        assert bool(refined(latent(), steps=steps, model=overflowing()).isfinite().all())
    assert "all steps are done again in float32" in caplog.text


def test_wrong_input_to_refine() -> None:
    with pytest.raises(ValueError, match="latent: has shape"):
        refined(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="end: got 3"):
        refined(latent(), start=2.0, end=3.0)
    with pytest.raises(ValueError, match="positive: not connected"):
        refined(latent(), positive=None)
