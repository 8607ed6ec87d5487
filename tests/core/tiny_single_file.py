"""The weights of a small Stable Diffusion pipeline in a single file, under the names of the first release."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
VAE = {
    "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out", "downsamplers.0": "downsample",
    "upsamplers.0": "upsample", "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v",
    "to_out.0": "proj_out",
}  # fmt: skip


def of_unet(name: str) -> str:
    """A name of the UNet: of two levels, one layer a block."""
    for ours, theirs in ENDS.items():
        if name.startswith(ours + "."):
            return name.replace(ours, theirs, 1)
    for ours, theirs in RESNET.items():
        name = re.sub(rf"(resnets\.\d+)\.{ours}\.", rf"\1.{theirs}.", name)
    for ours, theirs in (("resnets.0", "0"), ("attentions.0", "1"), ("resnets.1", "2")):
        name = name.replace(f"mid_block.{ours}", f"middle_block.{theirs}")
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{2 * int(m[1]) + 2}.0.op", name)
    name = re.sub(r"down_blocks\.(\d)\.resnets\.0", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.0", name)
    name = re.sub(r"down_blocks\.(\d)\.attentions\.0", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.1", name)
    name = name.replace("up_blocks.0.upsamplers.0", "output_blocks.1.2")
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.0", name)
    return re.sub(r"up_blocks\.(\d)\.attentions\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.1", name)


def of_vae(name: str) -> str:
    """A name of the autoencoder: of two levels."""
    for ours, theirs in VAE.items():
        name = re.sub(rf"(?<![a-z_0-9]){re.escape(ours)}\.", f"{theirs}.", name)
    name = re.sub(r"down_blocks\.(\d)\.", r"down.\1.", name)
    name = re.sub(r"up_blocks\.(\d)\.", lambda m: f"up.{1 - int(m[1])}.", name)
    return re.sub(r"resnets\.(\d)\.", r"block.\1.", name)


def single_file(pipe: Any, path: Path) -> None:  # noqa: ANN401 - the library's
    """Write the weights of ``pipe``."""
    told: dict[str, Tensor] = {f"model.diffusion_model.{of_unet(k)}": v for k, v in pipe.unet.state_dict().items()}
    told |= {f"first_stage_model.{of_vae(k)}": v for k, v in pipe.vae.state_dict().items()}
    words = pipe.text_encoder.state_dict().items()
    told |= {f"cond_stage_model.transformer.text_model.{k.removeprefix('text_model.')}": v for k, v in words}
    save_file({name: weight.contiguous().clone() for name, weight in told.items()}, path)
