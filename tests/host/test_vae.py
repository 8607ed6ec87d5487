"""nodes/vae.py: which VAE is differentiated, above all where the host loads weights dynamically.

Dynamic loading needs a graphics card; what it leaves at the layers is planted by hand, and the resident weights that it
would hand to a layer are handed to it here.
"""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.ops
import comfy.samplers
import comfy.sd
import pytest
import torch
from comfy import latent_formats
from comfy.ldm.models.autoencoder import AutoencoderKL
from msd_pack.nodes import host
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.vae import check_vae, decoder, encoder, plain_patcher, shared_room, thaw, vae_bytes, vae_room
from tiny_models import VAE, conditioning, fill, tiny_model, tiny_vae
from torch._subclasses.fake_tensor import FakeTensorMode

MODEL = tiny_model()
FORMAT = MODEL.get_model_object("latent_format")
CONFIG = {"params": {"ddconfig": VAE, "embed_dim": 4}}


def gradient(encode: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 16, 16, generator=generator).requires_grad_()
    (encode(image) * torch.randn(1, 4, 2, 2, generator=generator)).sum().backward()
    return image.grad


def run_gradient(vae: comfy.sd.VAE) -> torch.Tensor:
    guider = make_guider(MODEL, conditioning(3), conditioning(4), 3.0)
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


def test_a_plain_vae_is_its_own_and_a_dynamic_one_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the host offers a plain twin, whose weights may be of another type than the VAE computes in."""
    vae, twin = tiny_vae(), tiny_vae(seed=2)
    assert plain_patcher(vae) is vae.patcher
    monkeypatch.setattr(vae.patcher, "is_dynamic", lambda: True, raising=False)
    monkeypatch.setattr(vae.patcher, "get_non_dynamic_delegate", lambda: twin.patcher, raising=False)
    monkeypatch.setattr(vae.patcher, "cached_patcher_init", (object(), ()), raising=False)
    copied = plain_patcher(vae).model
    assert copied not in (vae.first_stage_model, twin.first_stage_model)
    assert torch.equal(run_gradient(vae), run_gradient(tiny_vae()))


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
        ({"latent_dim": 3}, r"its latents have 3 dimensions, as of video, those of this model \(SD15\) 2"),
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
        host.run(make_guider(MODEL, conditioning(3)), lambda session: None, 4, 4, vae=vae)


class Elsewhere(torch.nn.Module):
    """A VAE's network on a device of its own."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.encode = torch.nn.Conv2d(3, 4, 8, 8, device=device)
        self.decode = torch.nn.ConvTranspose2d(4, 3, 8, 8, device=device)


def test_a_vae_on_another_device_gives_its_results_where_they_are_asked() -> None:
    """As with `--cpu-vae`, or Select VAE Device; torch's tensors without numbers tell two devices apart."""
    vae = tiny_vae()
    vae.device = torch.device("cuda:0")
    with FakeTensorMode():
        module = Elsewhere(vae.device)
        image, x = torch.rand(1, 3, 16, 16, requires_grad=True), torch.zeros(1, 4, 2, 2)
        latent, picture = encoder(vae, FORMAT, module)(image), decoder(vae, FORMAT, module)(x)
        assert latent.device == picture.device == torch.device("cpu")
        assert latent.requires_grad and latent.shape == x.shape and picture.shape == image.shape
        with pytest.raises(RuntimeError, match="two different devices"):  # what they would meet otherwise
            _ = x + module.encode(image.to(vae.device))


def test_the_room_of_a_vae_is_the_host_s_estimate() -> None:
    """Of one picture; of all where a backward pass keeps them, and none of the card's for one beside it."""
    vae = tiny_vae()
    encode = vae.memory_used_encode((1, 3, 64, 64), vae.vae_dtype)
    decode = vae.memory_used_decode((1, 4, 8, 8), vae.vae_dtype)
    assert vae_room(vae, 64, 64) == vae_room(vae, 64, 64, n=3) == max(encode, decode)
    assert vae_room(vae, 64, 64, latent=True) == decode
    assert vae_room(vae, 64, 64, backward=True) == max(2 * encode, decode)
    assert vae_room(vae, 64, 64, backward=True, n=3) == 6 * encode
    assert vae_bytes(vae, 64, 64) == shared_room(vae, MODEL, 64, 64) == max(encode, decode)
    card = MODEL.clone()
    card.load_device = torch.device("cuda:0")
    assert shared_room(vae, card, 64, 64, backward=True) == 0
    vae.device = torch.device("cuda:0")
    assert vae_bytes(vae, 64, 64) == 0 and shared_room(vae, card, 64, 64) == max(encode, decode)


NONE = "vae: this checkpoint contains none; connect a Load VAE"


def test_a_vae_that_is_none_is_refused() -> None:
    """The host loads a checkpoint without one to a VAE without anything in it."""
    for vae in (None, comfy.sd.VAE(sd={"weight": torch.zeros(1)})):
        with pytest.raises(ValueError, match=NONE):
            check_vae(vae, FORMAT)


@pytest.mark.parametrize(("kind", "dimensions"), [("Wan21", 3), ("StableAudio1", 1)])
def test_models_without_pictures_are_refused_as_such(kind: str, dimensions: int) -> None:
    """Whatever else does not fit: such a model's VAE has three dimensions, too."""
    theirs, vae = getattr(latent_formats, kind)(), tiny_vae()
    vae.latent_dim = 3
    message = rf"model: its latents \({kind}\) have {dimensions} dimensions; models with 3-D latents \(video"
    with pytest.raises(ValueError, match=message):
        check_vae(vae, theirs)
    model = tiny_model()
    model.add_object_patch("latent_format", theirs)
    with pytest.raises(ValueError, match=message):
        make_guider(model, conditioning(3))
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": conditioning(3)})
    with pytest.raises(ValueError, match=message):
        make_guider(guider=guider)
    with pytest.raises(ValueError, match=message):
        host.run(guider, lambda session: None, 4, 4)


def test_the_model_of_a_session_knows_its_own_cell() -> None:
    guider = make_guider(MODEL, conditioning(3))
    assert host.run(guider, lambda session: session.model().cell, 4, 4) == 8
