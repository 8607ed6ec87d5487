"""A small model of each family that the pack works with, of the host's own classes, with a VAE and conditioning to it.

The families differ in everything that the bridge has to get right: prediction, latent channels, the size of a cell, the
shift of the levels, how a latent of odd size is padded, what conditioning carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.model_base import ModelType
from tiny_models import CONTEXT, TWO_LEVELS, VAE, TinyConfig, fill

SDXL = TWO_LEVELS | {"num_classes": "sequential", "adm_in_channels": 2816}
MMDIT = {
    "input_size": None,
    "in_channels": 16,
    "depth": 2,
    "patch_size": 2,
    "num_patches": 32**2,
    "pos_embed_max_size": 32,
    "adm_in_channels": CONTEXT,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": CONTEXT, "out_features": 128},
    },
}
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": CONTEXT,
    "context_in_dim": CONTEXT,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
FLUX2 = FLUX | {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "vec_in_dim": None,
    "axes_dim": [8, 8, 8, 8],
    "theta": 2000,
    "patch_size": 1,
    "qkv_bias": False,
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
}


class TinySDXL(comfy.supported_models.SDXL):
    """SDXL's configuration at 32 channels."""

    unet_extra_config = TinyConfig.unet_extra_config
    memory_usage_factor = 0.1


@dataclass(frozen=True)
class Family:
    """What a family is made of; `last` names the layer whose weights are made small, so that the field is smooth."""

    config: type
    network: dict
    model: type
    type: ModelType
    channels: int = 4
    cell: int = 8
    pooled: int | None = None
    last: str = "out.2"


supported, base = comfy.supported_models, comfy.model_base
LINEAR = "final_layer.linear"
FAMILIES = {
    "sd15": Family(TinyConfig, TWO_LEVELS, base.BaseModel, ModelType.EPS),
    "sd2-v": Family(TinyConfig, TWO_LEVELS, base.BaseModel, ModelType.V_PREDICTION),
    "sdxl": Family(TinySDXL, SDXL, base.SDXL, ModelType.EPS, pooled=1280),
    "sd3": Family(supported.SD3, MMDIT, base.SD3, ModelType.FLOW, 16, pooled=CONTEXT, last=LINEAR),
    "flux": Family(supported.Flux, FLUX, base.Flux, ModelType.FLUX, 16, pooled=CONTEXT, last=LINEAR),
    "flux2": Family(supported.Flux2, FLUX2, base.Flux2, ModelType.FLUX, 128, 16, last=LINEAR),
}


def model_of(name: str, seed: int = 0) -> comfy.model_patcher.ModelPatcher:
    """MODEL of a family."""
    family = FAMILIES[name]
    config = family.config(dict(family.network))
    config.unet_config["dtype"] = torch.float32
    model = family.model(config, family.type, device="cpu")
    fill(model.diffusion_model, seed)
    with torch.no_grad():
        model.diffusion_model.get_submodule(family.last).weight.mul_(0.05)
        for buffer in model.diffusion_model.buffers():  # the positions of SD3's patches
            buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(seed)))
    management = comfy.model_management
    return comfy.model_patcher.ModelPatcher(model, management.get_torch_device(), management.unet_offload_device())


def vae_of(name: str, seed: int = 1) -> comfy.sd.VAE:
    """A KL autoencoder of the family's channels and factor."""
    family = FAMILIES[name]
    levels = [1, 1, 2, 2] if family.cell == 8 else [1, 1, 1, 2, 2]
    config = {"params": {"ddconfig": VAE | {"z_channels": family.channels, "ch_mult": levels}}}
    config["params"]["embed_dim"] = family.channels
    vae = comfy.sd.VAE(sd=fill(AutoencoderKL(**config["params"]), seed).state_dict(), config=config)
    vae.latent_channels, vae.downscale_ratio, vae.upscale_ratio = family.channels, family.cell, family.cell
    return vae


def conditioning_of(name: str, seed: int) -> list:
    """CONDITIONING without a text encoder, pooled where the family wants that."""
    family, generator = FAMILIES[name], torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 16, CONTEXT, generator=generator)
    pooled = None if family.pooled is None else torch.randn(1, family.pooled, generator=generator)
    return [[tokens, {"pooled_output": pooled}]]


def sampling_of(kind: ModelType, **settings: object) -> torch.nn.Module:
    """The host's `model_sampling` of a model type."""
    config = SimpleNamespace(sampling_settings=settings)
    return comfy.model_base.model_sampling(config, kind)
