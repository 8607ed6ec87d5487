"""Small random pipelines of the diffusers library, made on the spot: one of each kind that is supported."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WIDTH, PAD, UNKNOWN = 32, "<pad>", "<unk>"
KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Letters as words."""
    letters = "abcdefghijklmnopqrstuvwxyz,"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def t5_tokenizer() -> PreTrainedTokenizerFast:
    words = {PAD: 0, UNKNOWN: 1, "a": 2, "red": 3, "blue": 4, "cup": 5, "cat": 6}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, model_max_length=16)


def clip(projected: bool = False, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=64, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def vae(channels: int = 4, **options: float) -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=8,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, sample_size=32, **options,
    ).eval()  # fmt: skip


def unet(**options: object) -> UNet2DConditionModel:
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, **({"cross_attention_dim": WIDTH} | options),
    ).eval()  # fmt: skip


def scheduler(prediction: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction,
    )  # fmt: skip


def pipeline(kind: str, folder: Path) -> object:
    """A pipeline of a kind; ``folder`` is for its tokenizer's files."""
    if kind in ("sd1", "sd2"):
        made = StableDiffusionPipeline(
            vae(), clip(), clip_tokenizer(folder), unet(), scheduler("epsilon" if kind == "sd1" else "v_prediction"),
            None, None, requires_safety_checker=False,
        )  # fmt: skip
    elif kind == "sdxl":
        added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "transformer_layers_per_block": 1}
        network = unet(cross_attention_dim=2 * WIDTH, projection_class_embeddings_input_dim=48 + WIDTH, **added)
        made = StableDiffusionXLPipeline(
            vae(), clip(), clip(True, 5), clip_tokenizer(folder), clip_tokenizer(folder), network, scheduler(),
            add_watermarker=False,
        )  # fmt: skip
    elif kind == "sd3":
        torch.manual_seed(3)
        network = SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
            caption_projection_dim=32, joint_attention_dim=2 * WIDTH, pooled_projection_dim=2 * WIDTH, out_channels=4,
        )  # fmt: skip
        words = clip_tokenizer(folder)
        encoders = clip(True, 4), words, clip(True, 5), words, None, None
        flow = FlowMatchEulerDiscreteScheduler()
        made = StableDiffusion3Pipeline(network.eval(), flow, vae(shift_factor=0.06), *encoders)
    else:
        torch.manual_seed(3)
        network = FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
        t5 = T5EncoderModel(T5Config(vocab_size=16, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=1, num_heads=4)).eval()
        flow = FlowMatchEulerDiscreteScheduler()
        encoders = clip(), clip_tokenizer(folder), t5, t5_tokenizer(), network.eval()
        made = FluxPipeline(flow, vae(shift_factor=0.06), *encoders)
        made.tokenizer_max_length = 16
    made.set_progress_bar_config(disable=True)
    return made
