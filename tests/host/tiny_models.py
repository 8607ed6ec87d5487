"""Tiny models built from the host's own classes: ε-, v- and flow-predicting UNets, a KL autoencoder, conditioning.

The weights are random but fixed by a seed; the networks are real ones, so everything the host does to a model happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.model_base import ModelType

CONTEXT = 32
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
    "num_heads": 2,
    "num_head_channels": -1,
    "context_dim": CONTEXT,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_checkpoint": False,
    "legacy": False,
    "adm_in_channels": None,
}
TWO_LEVELS = UNET | {
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
}
"""With a half-sized, twice as wide level: for what depends on one."""
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
KINDS = {"eps": ModelType.EPS, "v": ModelType.V_PREDICTION, "flow": ModelType.FLOW}


class TinyConfig(comfy.supported_models.SD15):
    """SD1.5's configuration at 32 channels."""

    unet_extra_config = {"num_heads": 2, "num_head_channels": -1}
    memory_usage_factor = 0.1


def fill(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random weights of unit gain: the host's layers leave theirs uninitialised."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim >= 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
            elif name.endswith("weight"):
                weight.fill_(1.0)
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)
    return module


def tiny_model(kind: str = "eps", seed: int = 0, unet: Mapping[str, object] = UNET) -> comfy.model_patcher.ModelPatcher:
    """MODEL of kind "eps", "v" or "flow"."""
    config = TinyConfig(dict(unet))
    config.unet_config["dtype"] = torch.float32
    if kind == "flow":
        config.sampling_settings = {"shift": 1.0}
    model = comfy.model_base.BaseModel(config, KINDS[kind], device="cpu")
    fill(model.diffusion_model, seed)
    with torch.no_grad():
        model.diffusion_model.out[2].weight.mul_(
            0.05
        )  # a smooth field, as a trained network's is: solvers converge on it
    return comfy.model_patcher.ModelPatcher(
        model, comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    )


def tiny_vae(seed: int = 1) -> comfy.sd.VAE:
    """A KL autoencoder of factor 8 and 4 channels."""
    config = {"params": {"ddconfig": VAE, "embed_dim": 4}}
    return comfy.sd.VAE(sd=dict(_weights_of_vae(seed)), config=config)


@cache
def _weights_of_vae(seed: int) -> dict[str, torch.Tensor]:
    return fill(AutoencoderKL(ddconfig=VAE, embed_dim=4), seed).state_dict()


def conditioning(seed: int, tokens: int = 77) -> list:
    """CONDITIONING without a text encoder."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, tokens, CONTEXT, generator=generator), {"pooled_output": None}]]
