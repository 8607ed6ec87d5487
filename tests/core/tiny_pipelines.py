"""Small random pipelines of the diffusers library, made on the spot: one of each kind that is supported."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from msd_core.research.random_pipeline import WIDTH, clip, clip_tokenizer, scheduler, stable_diffusion, unet, vae

PAD, UNKNOWN = "<pad>", "<unk>"
KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")
EDM = ("playground", "cosxl")
"""SDXL with the schedulers of Playground 2.5 and CosXL; the first one's autoencoder says the moments of its latents."""


def t5_tokenizer() -> PreTrainedTokenizerFast:
    words = {PAD: 0, UNKNOWN: 1, "a": 2, "red": 3, "blue": 4, "cup": 5, "cat": 6}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, model_max_length=16)


def pipeline(kind: str, folder: Path) -> object:
    """A pipeline of a kind; ``folder`` is for its tokenizer's files."""
    if kind in ("sd1", "sd2"):
        made = stable_diffusion(folder, "epsilon" if kind == "sd1" else "v_prediction")
    elif kind in EDM:
        made = pipeline("sdxl", folder)
        if kind == "cosxl":
            options = {"sigma_schedule": "exponential", "prediction_type": "v_prediction"}
            made.scheduler = EDMEulerScheduler(sigma_max=120.0, sigma_data=1.0, **options)
        else:
            made.scheduler = EDMDPMSolverMultistepScheduler(sigma_max=80.0, sigma_data=0.5)
            moments = {"latents_mean": [-0.2, 0.3, -0.1, 0.25], "latents_std": [1.4, 0.8, 1.1, 0.7]}
            made.vae.register_to_config(scaling_factor=0.5, **moments)
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
