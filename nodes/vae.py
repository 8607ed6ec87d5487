"""The host's VAE as an encoder that autograd goes through, and as a decoder.

- A loaded module's weights are inference tensors, which autograd refuses. `thaw` replaces them by aliases on the same
  storage, at no cost in memory.
- Under the host's dynamic VRAM a layer's weights are cast on the fly into buffers that it keeps (`_v_weight`), which
  are inference tensors again. Such a VAE is not differentiated itself: `plain_patcher` gives a private copy of its
  layers, which the host then loads like any model. (The host's own plain twin keeps the types of the file's weights,
  and nothing casts them to the one that the VAE computes in.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.model_management
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor, nn

from .cells import cell_of
from .fits import check_dimensions
from .room import Room

ENCODER_RESERVE = 2.0  # activations kept for the backward pass, in units of the host's estimate for the forward pass
OF_LOADING = {
    *("_v", "_v_weight", "_v_bias", "_v_signature", "_v_block", "_v_block_faulted", "_prefetch", "_pin", "_pin_state"),
    *("comfy_cast_weights", "prev_comfy_cast_weights", "comfy_force_cast_weights", "comfy_patched_weights", "seed_key"),
    *(f"{name}{kind}" for name in ("weight", "bias") for kind in ("_function", "_lowvram_function")),
    *("dynamic_vbars", "dynamic_pins", "dynamic_patchers", "current_patcher", "device", "model_lowvram"),
    *("model_loaded_weight_memory", "model_offload_buffer_memory", "current_weight_patches_uuid"),
    "lowvram_patch_counter",
}
"""Attributes that a patcher leaves at a model and its layers: what was loaded, and where to."""


def thaw(module: nn.Module) -> int:
    """Let autograd differentiate *through* a host module; returns how many tensors were replaced.

    Each inference-mode parameter and buffer is replaced by an ordinary tensor on the same storage, with
    `requires_grad=False`: no copy, no change of value, harmless to stock nodes. To be repeated after every load by the
    host, which makes inference tensors again.
    """
    count = 0
    with torch.inference_mode(False), torch.no_grad():
        for part in module.modules():
            for table in (part._parameters, part._buffers):
                for name, tensor in table.items():
                    if tensor is None:
                        continue
                    if tensor.is_inference():
                        table[name] = _alias(tensor)
                        count += 1
                    elif tensor.requires_grad:
                        tensor.requires_grad_(False)
    return count


def _alias(tensor: Tensor) -> Tensor:
    """An ordinary tensor on the same storage, with the attributes that the host has put on this one."""
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    if isinstance(tensor, nn.Parameter):
        alias = nn.Parameter(alias, requires_grad=False)
    alias.__dict__.update(tensor.__dict__)
    return alias


def plain_patcher(vae: VAE) -> ModelPatcher:
    """The patcher whose model to load and to differentiate: the VAE's own unless its weights are loaded dynamically."""
    patcher = vae.patcher
    if not getattr(patcher, "is_dynamic", bool)():
        return patcher
    with torch.inference_mode(False), torch.no_grad():
        twin = _private(vae.first_stage_model)
    return ModelPatcher(twin, load_device=patcher.load_device, offload_device=patcher.offload_device)


def _private(module: nn.Module) -> nn.Module:
    """A copy of a module as if it had never been loaded; its weights share storage where their type is right.

    A file's weights may be kept in another type than the layer computes in, which the host would cast them to.
    """
    twin = copy.copy(module)
    twin.__dict__.clear()
    twin.__dict__.update((name, value) for name, value in module.__dict__.items() if name not in OF_LOADING)
    for table in ("_parameters", "_buffers"):
        tensors = module.__dict__[table].items()
        twin.__dict__[table] = {name: _computed_in(module, name, tensor) for name, tensor in tensors}
    parts = module._modules.items()
    twin.__dict__["_modules"] = {name: None if part is None else _private(part) for name, part in parts}
    return twin


def _computed_in(module: nn.Module, name: str, tensor: Tensor | None) -> Tensor | None:
    if tensor is None:
        return None
    dtype = getattr(module, f"{name}_comfy_model_dtype", None) or tensor.dtype
    if dtype == tensor.dtype:
        return _alias(tensor)
    cast = tensor.detach().to(dtype)
    return nn.Parameter(cast, requires_grad=False) if isinstance(tensor, nn.Parameter) else cast


@contextmanager
def training() -> Iterator[None]:
    """Within, the host's layers keep to what autograd knows, where the host has such a switch."""
    management = comfy.model_management
    before = getattr(management, "in_training", None)
    if before is None:
        yield
        return
    management.in_training = True
    try:
        yield
    finally:
        management.in_training = before


def check_there(vae: VAE | None) -> VAE:
    """Refuse what a loader gives in the place of a VAE where a checkpoint has none; returns it."""
    if vae is None or vae.first_stage_model is None:
        raise ValueError("vae: this checkpoint contains none; connect a Load VAE, with the model's own")
    return vae


def check_vae(vae: VAE | None, latent_format: LatentFormat) -> None:
    """Refuse a VAE that is none, is not this model's, or does not work on pictures of three colours."""
    check_dimensions(latent_format)
    vae = check_there(vae)
    name, cell = type(latent_format).__name__, cell_of(latent_format)
    if vae.latent_channels != latent_format.latent_channels:
        raise ValueError(
            f"vae: encodes to {vae.latent_channels} channels, the model works on {latent_format.latent_channels}; "
            "connect the VAE that belongs to this model"
        )
    if vae.latent_dim != 2:
        raise ValueError(
            f"vae: its latents have {vae.latent_dim} dimensions, as of video, those of this model ({name}) 2; "
            "connect the VAE that belongs to this model"
        )
    if vae.output_channels != 3:
        raise ValueError(
            f"vae: works on pictures of {vae.output_channels} channels; allowed are 3, red, green and blue; connect a "
            "VAE without transparency"
        )
    if vae.spacial_compression_encode() != cell:
        raise ValueError(
            f"vae: makes a latent's cell of {vae.spacial_compression_encode()} pixels a side, this model ({name}) has "
            f"cells of {cell}; connect the VAE that belongs to this model"
        )


def encoder(vae: VAE, latent_format: LatentFormat, module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Differentiable image (B, 3, H, W) in [0, 1] → the model's latent (B, C, H/cell, W/cell), float32.

    The result is where the image is, whatever the VAE's own device. `module` is the one of `plain_patcher`, loaded. Not
    `vae.encode`: that falls back to tiles when memory is short, and
    tiles are not differentiable.
    """
    thaw(module)
    factor, room = vae.spacial_compression_encode(), Room("VAE's encoder")

    def encode(image: Tensor) -> Tensor:
        if any(side % factor for side in image.shape[-2:]):
            raise ValueError(
                f"image: {image.shape[-1]}×{image.shape[-2]} cannot be encoded, both sides must be multiples of "
                f"{factor}; change width and height of the generator"
            )
        pixels = vae.process_input(image).to(device=vae.device, dtype=vae.vae_dtype)
        with training():
            unit = len(pixels) if torch.is_grad_enabled() else 1  # what the backward pass needs is kept of all parts
            latent = room.ask(lambda part: module.encode(pixels[part]), len(pixels), unit)
        return latent_format.process_in(latent.to(image.device).float())

    return encode


def decoder(vae: VAE, latent_format: LatentFormat, module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model's latent (B, C, h, w) → image (B, 3, H, W) in [0, 1] on its device, without gradient.

    `module` as for `encoder`.
    """
    room = Room("VAE's decoder")

    @torch.no_grad()
    def decode(x: Tensor) -> Tensor:
        latent = latent_format.process_out(x).to(device=vae.device, dtype=vae.vae_dtype)
        image = room.ask(lambda part: module.decode(latent[part]).float(), len(latent))
        return vae.process_output(image.to(x.device))

    return decode


def vae_room(vae: VAE, height: int, width: int, *, backward: bool = False, latent: bool = False, n: int = 1) -> float:
    """Bytes that the VAE takes by the host's own estimate, which is of one picture.

    Args:
        vae: on any device.
        height, width: in pixels.
        backward: the encoder is differentiated, so that what it computes is kept, of all pictures.
        latent: nothing is encoded.
        n: pictures at once; without a pass backwards they go through one by one where memory is short.
    """
    factor = vae.spacial_compression_encode()
    encode = 0.0 if latent else vae.memory_used_encode((n, 3, height, width), vae.vae_dtype)
    cells = (n, vae.latent_channels, height // factor, width // factor)
    return max(encode * (ENCODER_RESERVE * n if backward else 1.0), vae.memory_used_decode(cells, vae.vae_dtype))


def vae_bytes(vae: VAE, height: int, width: int, *, backward: bool = False, latent: bool = False, n: int = 1) -> float:
    """`vae_room`; 0 where the VAE does not run on the processor: a graphics card's memory is the host's affair, and
    running out of it kills nothing.
    """
    if vae.device.type != "cpu":
        return 0.0
    return vae_room(vae, height, width, backward=backward, latent=latent, n=n)


def shared_room(vae: VAE, model: ModelPatcher, height: int, width: int, *, backward: bool = False, n: int = 1) -> float:
    """`vae_room` as far as it is the memory of the model's device; 0 for a VAE on the processor beside a card."""
    if vae.device.type == "cpu" and model.load_device.type != "cpu":
        return 0.0
    return vae_room(vae, height, width, backward=backward, n=n)
