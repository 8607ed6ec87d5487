"""nodes/host.py against the host's own sampling path."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from msd_pack.msd_core.model import device_of
from msd_pack.nodes import host
from msd_pack.nodes.axis import Axis
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.room import unit_of
from msd_pack.nodes.vae import thaw
from tiny_models import KINDS, conditioning, tiny_model, tiny_vae

POSITIVE, NEGATIVE = conditioning(3), conditioning(4)


def guider_of(model: object, cfg: float = 3.0) -> comfy.samplers.CFGGuider:
    return make_guider(model, POSITIVE, NEGATIVE, cfg)


def latent(batch: int = 1, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 4, side, side, generator=torch.Generator().manual_seed(seed))


def euler(denoiser: host.HostDenoiser, z: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Euler in z = x0 + σ n, written down independently of msd_core."""
    sigmas = denoiser.axis.sigma(levels)
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        z = z + (following - sigma) * (z - denoiser(z, sigma)) / sigma
    return z


@pytest.mark.parametrize("kind", KINDS)
def test_denoiser_walks_the_path_of_the_stock_sampler(kind: str) -> None:
    model = tiny_model(kind)
    levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 6)[1:]
    noise = latent()
    with torch.inference_mode():
        stock = comfy.sample.sample_custom(
            model,
            noise.clone(),
            3.0,
            comfy.samplers.sampler_object("euler"),
            levels,
            POSITIVE,
            NEGATIVE,
            torch.zeros_like(noise),
            disable_pbar=True,
            seed=0,
        )

    def loop(session: host.Session) -> torch.Tensor:
        z = noise * session.denoiser.axis.sigma(levels[0])
        return euler(session.denoiser, z, levels)

    ours = host.run(guider_of(model), loop, 8, 8) / model.get_model_object("latent_format").scale_factor
    assert torch.allclose(ours, stock, rtol=1e-4, atol=1e-4 * float(stock.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_with_its_own_sigmas_equals_a_loop(kind: str) -> None:
    sigmas = torch.tensor([0.3, 1.0, 4.0])

    def loop(session: host.Session) -> tuple[torch.Tensor, torch.Tensor]:
        z = latent(3)
        one_by_one = torch.cat([session.denoiser(z[i : i + 1], sigmas[i]) for i in range(3)])
        return session.denoiser(z, sigmas), one_by_one

    batch, singles = host.run(guider_of(tiny_model(kind)), loop, 8, 8, rows=3)
    assert torch.allclose(batch, singles, atol=1e-4)
    assert not batch.is_inference() and not batch.requires_grad


def test_cost_is_what_the_network_was_asked() -> None:
    model = tiny_model()
    regional = make_guider(model, POSITIVE + conditioning(5), NEGATIVE, 3.0)

    def cost(guider: comfy.samplers.CFGGuider) -> tuple[int, int, int, int]:
        def loop(session: host.Session) -> tuple[int, int, int, int]:
            expected = session.denoiser.cost
            session.denoiser(latent(2), 1.0)
            off = session.denoiser.with_cfg(1.0)
            off(latent(2), 1.0)
            return expected, session.denoiser.cost, off.cost, session.denoiser.rows.total

        return host.run(guider, loop, 8, 8, rows=2)

    assert cost(guider_of(model)) == (2, 2, 1, 6)
    assert cost(regional)[1:] == (3, 2, 10)


def test_with_cfg_is_the_guider_at_that_cfg_and_leaves_it_alone() -> None:
    model = tiny_model()

    def at(cfg: float, changed: float | None = None) -> torch.Tensor:
        def loop(session: host.Session) -> torch.Tensor:
            denoiser = session.denoiser if changed is None else session.denoiser.with_cfg(changed)
            return denoiser(latent(), 2.0)

        return host.run(guider_of(model, cfg), loop, 8, 8)

    assert torch.equal(at(3.0, changed=-7.5), at(-7.5))
    assert not torch.allclose(at(3.0), at(-7.5))


def test_with_cfg_refuses_a_guider_without_one() -> None:
    guider = comfy.samplers.CFGGuider(tiny_model())
    guider.inner_set_conds({"positive": POSITIVE})
    with pytest.raises(ValueError, match="^negative: not connected, and"):
        host.run(guider, lambda session: session.denoiser.with_cfg(2.0), 8, 8)


def test_the_guider_handed_in_is_not_touched() -> None:
    guider = guider_of(tiny_model())
    before = (guider.model_patcher, guider.cfg, dict(guider.model_patcher.wrappers), dict(guider.original_conds))
    host.run(guider, lambda session: session.denoiser(latent(), 1.0), 8, 8, vae=tiny_vae())
    assert (
        guider.model_patcher,
        guider.cfg,
        dict(guider.model_patcher.wrappers),
        dict(guider.original_conds),
    ) == before
    assert not guider.model_patcher.additional_models


def test_a_patched_model_applies() -> None:
    model = tiny_model()
    patched = model.clone()
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    delta = torch.randn(model.model.state_dict()[key].shape, generator=torch.Generator().manual_seed(9))
    assert patched.add_patches({key: ("diff", (delta,))}, 1.0) == [key]

    def predict(patcher: object) -> torch.Tensor:
        return host.run(guider_of(patcher), lambda session: session.denoiser(latent(), 1.0), 8, 8)

    plain, changed, again = predict(model), predict(patched), predict(model)
    assert not torch.allclose(plain, changed, atol=1e-4)
    assert torch.equal(plain, again)


def test_masked_conditioning_applies() -> None:
    masked = [[POSITIVE[0][0], POSITIVE[0][1] | {"mask": torch.ones(1, 8, 8).tril(), "mask_strength": 1.0}]]
    model = tiny_model()

    def predict(positive: list) -> torch.Tensor:
        guider = make_guider(model, positive + conditioning(5), NEGATIVE, 3.0)
        return host.run(guider, lambda session: session.denoiser(latent(), 1.0), 8, 8)

    assert not torch.allclose(predict(masked), predict(POSITIVE), atol=1e-4)


@pytest.mark.parametrize("inference", [False, True])
def test_gradient_through_the_vae_equals_a_finite_difference(inference: bool) -> None:
    """In a node everything, the VAE's weights too, is born under inference mode."""
    with torch.inference_mode(inference):
        vae, model = tiny_vae(), tiny_model()
        if inference:
            assert next(vae.first_stage_model.parameters()).is_inference()

        def loop(session: host.Session) -> tuple[float, float]:
            generator = torch.Generator().manual_seed(0)
            image = torch.rand(1, 3, 32, 32, generator=generator).requires_grad_()
            weight = torch.randn(1, 4, 4, 4, generator=generator)
            direction = torch.randn(image.shape, generator=generator)
            (session.encode(image) * weight).sum().backward()
            slope = [float((session.encode(image.detach() + h * direction) * weight).sum()) for h in (1e-3, -1e-3)]
            return float((image.grad * direction).sum()), (slope[0] - slope[1]) / 2e-3

        exact, finite = host.run(guider_of(model), loop, 4, 4, vae=vae)
        assert exact == pytest.approx(finite, rel=2e-2)
        assert all(p.grad is None for p in vae.first_stage_model.parameters())
        vae.decode(torch.zeros(1, 4, 4, 4))  # the stock path still works


def test_encoder_equals_the_stock_one() -> None:
    vae, model = tiny_vae(), tiny_model()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours = host.run(guider_of(model), lambda session: session.encode(image).detach(), 4, 4, vae=vae)
    stock = model.get_model_object("latent_format").process_in(vae.encode(image.movedim(1, -1)))
    assert torch.allclose(ours, stock, atol=1e-5)


def test_decoder_equals_the_stock_one() -> None:
    vae, model = tiny_vae(), tiny_model()
    ours = host.run(guider_of(model), lambda session: session.decode(latent(side=4)), 4, 4, vae=vae)
    stock = vae.decode(model.get_model_object("latent_format").process_out(latent(side=4)))
    assert torch.allclose(ours.movedim(1, -1), stock, atol=1e-5)


def test_thaw_keeps_values_and_storage_and_is_idempotent() -> None:
    with torch.inference_mode():
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    before = {name: (t.clone(), t.data_ptr()) for name, t in module.state_dict().items()}
    assert thaw(module) == len(before)
    assert thaw(module) == 0
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name][0]) and tensor.data_ptr() == before[name][1]
    assert not any(p.requires_grad or p.is_inference() for p in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_axis_is_inverted_by_itself(kind: str) -> None:
    axis = Axis.of(tiny_model(kind).get_model_object("model_sampling"))
    sigmas = torch.tensor([0.01, 0.5, 3.0, 80.0])
    assert torch.allclose(axis.sigma(axis.level(sigmas)), sigmas, rtol=1e-4)
    assert axis.flow == (kind == "flow")


def test_cancel_ends_before_the_next_evaluation_and_the_host_goes_on() -> None:
    model, calls = tiny_model(), []

    def loop(session: host.Session) -> None:
        for _ in range(10):
            calls.append(session.denoiser(latent(), 1.0))
            if len(calls) == 3:
                comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        host.run(guider_of(model), loop, 8, 8)
    assert len(calls) == 3
    host.run(guider_of(model), lambda session: session.denoiser(latent(), 1.0), 8, 8)


def test_wrong_inputs_name_the_fix() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match="model and positive: not connected"):
        make_guider(None, None, NEGATIVE, 2.0)
    with pytest.raises(ValueError, match="negative: not connected"):
        make_guider(model, POSITIVE, None, 2.0)
    with pytest.raises(ValueError, match=r"20×32 cannot be encoded, both sides must be multiples of 8"):
        host.run(guider_of(model), lambda s: s.encode(torch.zeros(1, 3, 32, 20)), 4, 4, vae=tiny_vae())
    vae = tiny_vae()
    vae.latent_channels = 16
    with pytest.raises(ValueError, match="encodes to 16 channels, the model works on 4"):
        host.run(guider_of(model), lambda session: None, 4, 4, vae=vae)


def test_the_model_is_where_the_guider_has_it() -> None:
    """There the core puts the state of a run, and a picture that is changed: on a card, not on the processor."""

    def loop(session: host.Session) -> torch.device:
        return device_of(replace(session, device=torch.device("meta")).model())

    assert host.run(guider_of(tiny_model("eps")), loop, 8, 8).type == "meta"
    assert host.run(guider_of(tiny_model("eps")), lambda session: device_of(session.model()), 8, 8).type == "cpu"


def test_a_conditioning_s_own_pictures_are_those_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host cuts the pictures of an inpainting model to the batch that it is told of."""
    model = tiny_model("eps")
    monkeypatch.setattr(model.model, "concat_keys", ("mask", "masked_image"))
    pictures = {"concat_latent_image": latent(3), "concat_mask": torch.ones(3, 8, 8)}
    positive = [[entry, {**options, **pictures}] for entry, options in POSITIVE]
    guider = make_guider(model, positive, None, 1.0)

    def loop(session: host.Session) -> tuple[int, torch.Tensor]:
        (entry,) = session.denoiser._conds["positive"]
        return unit_of(session.denoiser._conds), entry["model_conds"]["c_concat"].cond

    unit, concat = host.run(guider, loop, 8, 8, rows=3, pictures=3)
    assert unit == 3 and len(concat) == 3 and not torch.equal(concat[0], concat[2])
    assert len(host.run(guider, loop, 8, 8)[1]) == 1, "planted: of one picture they are cut"
