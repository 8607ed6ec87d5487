"""nodes/vae.py: which VAE is differentiated, above all where the host loads weights dynamically.

Dynamic loading needs a graphics card; what it leaves at the layers is planted by hand, and the resident weights that it
would hand to a layer are handed to it here.
"""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.ops
import comfy.sd
import pytest
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from msd_pack.nodes import host
from msd_pack.nodes.vae import check_vae, encoder, plain_patcher, thaw
from tiny_models import VAE, conditioning, fill, tiny_model, tiny_vae

MODEL = tiny_model()
FORMAT = MODEL.get_model_object("latent_format")
CONFIG = {"params": {"ddconfig": VAE, "embed_dim": 4}}


def gradient(encode: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 16, 16, generator=generator).requires_grad_()
    (encode(image) * torch.randn(1, 4, 2, 2, generator=generator)).sum().backward()
    return image.grad


def run_gradient(vae: comfy.sd.VAE) -> torch.Tensor:
    guider = host.make_guider(MODEL, conditioning(3), conditioning(4), 3.0)
    with torch.inference_mode():
        return host.run(guider, lambda session: gradient(session.encode), 2, 2, vae=vae)


def make_dynamic(vae: comfy.sd.VAE, monkeypatch: pytest.MonkeyPatch) -> comfy.sd.VAE:
    """As after a stock decode: every layer holds a cached cast of its weights, and hands that out."""
    stock = comfy.ops.cast_bias_weight

    def resident(s: torch.nn.Module, *args: object, **kwargs: object) -> tuple:
        if not hasattr(s, "_v"):
            return stock(s, *args, **kwargs)
        return (s._v_weight, s._v_bias, (None, None, None))[: 3 if kwargs.get("offloadable") else 2]

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", resident)
    with torch.inference_mode():
        for layer in vae.first_stage_model.modules():
            if hasattr(layer, "comfy_cast_weights") and layer._parameters.get("weight") is not None:
                layer.comfy_cast_weights, layer._v, layer._v_signature = True, object(), 1
                layer._v_weight = layer.weight.to(vae.vae_dtype, copy=True)
                for name in ("weight", "bias"):
                    getattr(layer, name)._model_dtype = vae.vae_dtype
                    setattr(layer, f"{name}_comfy_model_dtype", vae.vae_dtype)
                layer._v_bias = layer.bias.to(vae.vae_dtype, copy=True)
    vae.first_stage_model.model_loaded_weight_memory = 10**6
    monkeypatch.setattr(vae.patcher, "is_dynamic", lambda: True, raising=False)
    return vae


def test_a_dynamic_vae_has_the_gradient_of_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run_gradient(tiny_vae())
    with torch.inference_mode():
        vae = make_dynamic(tiny_vae(), monkeypatch)
    assert torch.equal(run_gradient(vae), plain)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):  # what would happen without the twin
        gradient(encoder(vae, FORMAT, vae.first_stage_model))


def test_the_private_copy_computes_in_the_layers_type_and_leaves_the_vae_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's float32 weights are kept as they are, and cast to bfloat16 for the layer."""
    weights = fill(AutoencoderKL(**CONFIG["params"]), 1).state_dict()
    plain = comfy.sd.VAE(sd=weights, config=CONFIG, dtype=torch.bfloat16)
    with torch.inference_mode():
        vae = comfy.sd.VAE(sd=weights, config=CONFIG, dtype=torch.bfloat16)
        vae.first_stage_model.load_state_dict(weights, assign=True)
        make_dynamic(vae, monkeypatch)
    before = {name: set(vars(part)) for name, part in vae.first_stage_model.named_modules()}
    twin = plain_patcher(vae).model
    assert {p.dtype for p in twin.parameters()} == {torch.bfloat16}
    assert torch.equal(run_gradient(vae), run_gradient(plain))
    assert {name: set(vars(part)) for name, part in vae.first_stage_model.named_modules()} == before
    assert {p.dtype for p in vae.first_stage_model.parameters()} == {torch.float32}


def test_an_alias_keeps_what_the_host_wrote_on_the_tensor() -> None:
    with torch.inference_mode():
        module = torch.nn.Linear(3, 4)
        module.weight._model_dtype = torch.bfloat16
    assert thaw(module) == 2
    assert module.weight._model_dtype is torch.bfloat16 and not module.weight.is_inference()
    assert not hasattr(module.bias, "_model_dtype")


def test_the_hosts_own_plain_twin_is_taken_where_it_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, twin = tiny_vae(), tiny_vae(seed=2)
    assert plain_patcher(vae) is vae.patcher
    monkeypatch.setattr(vae.patcher, "is_dynamic", lambda: True, raising=False)
    monkeypatch.setattr(vae.patcher, "get_non_dynamic_delegate", lambda: twin.patcher, raising=False)
    monkeypatch.setattr(vae.patcher, "cached_patcher_init", None, raising=False)
    assert plain_patcher(vae).model is not twin.first_stage_model  # the host could not: it has no file to read
    vae.patcher.cached_patcher_init = (object(), ())
    assert plain_patcher(vae) is twin.patcher
    assert torch.equal(run_gradient(vae), run_gradient(twin))


def test_the_hosts_training_switch_is_on_around_the_encoder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    management, seen = comfy.model_management, []
    monkeypatch.setattr(management, "in_training", False, raising=False)

    class Module(torch.nn.Module):
        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(management.in_training)
            if len(seen) > 1:
                raise RuntimeError("broken")
            return pixels[:, :1].expand(-1, 4, -1, -1)[..., ::8, ::8]

    encode = encoder(tiny_vae(), FORMAT, Module())
    encode(torch.zeros(1, 3, 16, 16))
    assert seen == [True] and management.in_training is False
    with pytest.raises(RuntimeError, match="broken"):
        encode(torch.zeros(1, 3, 16, 16))
    assert seen == [True, True] and management.in_training is False
    monkeypatch.delattr(management, "in_training")
    assert not hasattr(management, "in_training")
    with pytest.raises(AttributeError):  # the module's own look at it: the encoder makes no such attribute
        encode(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latent_channels": 16}, "encodes to 16 channels, the model works on 4"),
        ({"latent_dim": 3}, r"its latents have 3 dimensions \(audio or video\)"),
        ({"output_channels": 4}, "works on pictures of 4 channels; allowed are 3"),
        ({"downscale_ratio": 16}, r"a latent's cell of 16 pixels a side, this model \(SD15\) has cells of 8"),
        ({"downscale_ratio": (None, 4, 4)}, "a latent's cell of 4 pixels a side"),
    ],
)
def test_a_foreign_vae_is_refused_by_name(changed: dict, message: str) -> None:
    vae = tiny_vae()
    check_vae(vae, FORMAT)
    for name, value in changed.items():
        setattr(vae, name, value)
    with pytest.raises(ValueError, match=f"vae: .*{message}"):
        check_vae(vae, FORMAT)
    with pytest.raises(ValueError, match=message):
        host.run(host.make_guider(MODEL, conditioning(3)), lambda session: None, 4, 4, vae=vae)


def test_the_model_of_a_session_knows_its_own_cell() -> None:
    guider = host.make_guider(MODEL, conditioning(3))
    assert host.run(guider, lambda session: session.model().cell, 4, 4) == 8
