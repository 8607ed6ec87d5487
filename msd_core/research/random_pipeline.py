"""Random pipelines of the diffusers library, made on the spot: for tests, and to measure speed with."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..pipelines.model import library
from ..randomness import draw_normal, seeded

WIDTH = 32
"""Of the text encoder."""
SMALL: dict[str, Any] = {
    "sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1, "attention_head_dim": (2, 4),
    "cross_attention_dim": WIDTH,
}  # fmt: skip


@torch.no_grad()
def drawn(module: nn.Module, seed: int) -> Any:  # noqa: ANN401 - the library's
    """``module`` with weights N(0, 1/fan-in) of a seed, and biases of 0; the library's own come of torch's state."""
    rng = seeded(seed)
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            weight.copy_(draw_normal(weight, rng)[0] / weight[0].numel() ** 0.5)
        elif name.endswith("bias"):
            weight.zero_()
    return module.eval()


def clip_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - the library's
    """Letters as words; ``folder`` is for its files."""
    letters = "abcdefghijklmnopqrstuvwxyz,"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    library_of_text: Any = importlib.import_module("transformers")
    return library_of_text.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def clip(projected: bool = False, seed: int = 0) -> Any:  # noqa: ANN401 - the library's
    """A text encoder."""
    library_of_text: Any = importlib.import_module("transformers")
    config = library_of_text.CLIPTextConfig(
        vocab_size=64, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    kind = library_of_text.CLIPTextModelWithProjection if projected else library_of_text.CLIPTextModel
    return drawn(kind(config), seed)


def vae(channels: int = 4, **options: Any) -> Any:  # noqa: ANN401 - of the library's configuration
    """An autoencoder with cells of two pixels."""
    made = library().AutoencoderKL(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=8,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, sample_size=32, **options,
    )  # fmt: skip
    return drawn(made, 1)


def unet(**options: Any) -> Any:  # noqa: ANN401 - of the library's configuration
    """A UNet of two levels."""
    made = library().UNet2DConditionModel(
        norm_num_groups=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True, **(SMALL | options),
    )  # fmt: skip
    return drawn(made, 2)


def scheduler(prediction: str = "epsilon") -> Any:  # noqa: ANN401 - the library's
    """DDIM on the levels of Stable Diffusion."""
    return library().DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction,
    )  # fmt: skip


def stable_diffusion(folder: Path, prediction: str = "epsilon", **options: Any) -> Any:  # noqa: ANN401
    """A pipeline of Stable Diffusion's kind; ``options`` of its UNet, ``folder`` is for the tokenizer's files."""
    return library().StableDiffusionPipeline(
        vae(), clip(), clip_tokenizer(folder), unet(**options), scheduler(prediction), None, None,
        requires_safety_checker=False,
    )  # fmt: skip
