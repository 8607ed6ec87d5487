"""A checkpoint of Stable Diffusion 1.5's exact shape, with random weights, from the host's own classes.

    COMFYUI_PATH=… python tests/host/full_size.py checkpoint.safetensors

2.1 GB in half precision. The stock loader cannot tell it from the real one.
"""

from __future__ import annotations

import os
import sys

from conftest import import_host

import_host(os.environ["COMFYUI_PATH"])

import comfy.ops  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from comfy.sd1_clip import SD1ClipModel  # noqa: E402
from tiny_models import UNET as TINY_UNET  # noqa: E402
from tiny_models import VAE as TINY_VAE  # noqa: E402
from tiny_models import fill  # noqa: E402
from torch import Tensor, nn  # noqa: E402

UNET = TINY_UNET | {
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "num_heads": 8,
    "context_dim": 768,
}
VAE = TINY_VAE | {"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2}
NOT_IN_FILES = ("logit_scale", "text_projection.weight")


def weights(module: nn.Module, seed: int, prefix: str) -> dict[str, Tensor]:
    """State dict of the module, filled at random, in half precision."""
    state = fill(module, seed).state_dict()
    return {prefix + key: value.half().contiguous() for key, value in state.items()}


def checkpoint() -> dict[str, Tensor]:
    """The three parts under the names that SD1.5's file has."""
    half, operations = torch.float16, comfy.ops.disable_weight_init
    unet = UNetModel(**UNET, dtype=half, device="cpu", operations=operations)
    autoencoder = AutoencoderKL(ddconfig=VAE, embed_dim=4).half()
    text = weights(SD1ClipModel(device="cpu", dtype=half), 2, "")
    return (
        weights(unet, 0, "model.diffusion_model.")
        | weights(autoencoder, 1, "first_stage_model.")
        | {
            key.replace("clip_l.", "cond_stage_model.", 1): value
            for key, value in text.items()
            if not key.endswith(NOT_IN_FILES)
        }
    )


if __name__ == "__main__":
    safetensors.torch.save_file(checkpoint(), sys.argv[1])
