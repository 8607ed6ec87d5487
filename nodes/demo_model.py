"""The demo model in the host's own classes: MODEL, CLIP and VAE for every stock node."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import comfy.clip_model
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel

from ..msd_core.demo.autoencoder import DDCONFIG, NORM_CHANNELS
from ..msd_core.demo.model import LATENT_SCALE, DemoModel
from ..msd_core.demo.text import CONTEXT_LENGTH
from ..msd_core.demo.unet import UNET_CONFIG
from ..msd_core.memory import MODEL

Device = torch.device | str


class DemoLatent(comfy.latent_formats.SD15):
    """SD1.5's scale; its preview colours and decoder belong to another autoencoder."""

    latent_rgb_factors = None
    taesd_decoder_name = None

    def __init__(self) -> None:
        self.scale_factor = LATENT_SCALE


class DemoConfig(comfy.supported_models.SD15):
    """SD1.5's configuration (ε-prediction, its noise schedule and latent scale) at the demo model's widths."""

    unet_extra_config = {key: UNET_CONFIG[key] for key in ("num_heads", "num_head_channels")}
    latent_format = DemoLatent
    memory_usage_factor = 0.2

    def get_model(
        self, state_dict: dict[str, torch.Tensor], prefix: str = "", device: Device | None = None
    ) -> comfy.model_base.BaseModel:
        """The host's model around `DemoUNet`."""
        return comfy.model_base.BaseModel(
            self, model_type=self.model_type(state_dict, prefix), device=device, unet_model=DemoUNet
        )


class DemoUNet(UNetModel):
    """The host's UNet, its first and last convolutions as wide as the stage beside them.

    In the host's they have ``model_channels``, which is the same where ``channel_mult`` begins with 1.
    """

    def __init__(self, *, operations: Any, device: Device | None = None, **config: Any) -> None:  # noqa: ANN401 - the host's
        super().__init__(operations=operations, device=device, **config)
        narrow = config["model_channels"]
        width = narrow * config["channel_mult"][0]
        if width == narrow:
            return
        given = {"dtype": self.dtype, "device": device}
        self.input_blocks[0][0] = operations.conv_nd(2, config["in_channels"], width, 3, padding=1, **given)
        self.out[2] = operations.conv_nd(2, width, config["out_channels"], 3, padding=1, **given)
        for block in (self.input_blocks[1], self.output_blocks[-1]):
            own, more = block[0], width - narrow
            block[0] = ResBlock(
                own.channels + more,
                own.emb_channels,
                own.dropout,
                out_channels=own.out_channels,
                operations=operations,
                **given,
            )


def model_of(demo: DemoModel) -> comfy.model_patcher.ModelPatcher:
    """MODEL: the demo UNet in the host's own UNet class."""
    management = comfy.model_management
    weights, device = demo.unet.state_dict(), management.get_torch_device()
    parameters = sum(weight.numel() for weight in weights.values())
    config = DemoConfig(dict(demo.configs["unet"]))
    dtype = management.unet_dtype(
        model_params=parameters, supported_dtypes=list(config.supported_inference_dtypes), weight_dtype=torch.float32
    )
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, config.supported_inference_dtypes))
    offload = management.unet_offload_device()
    model = config.get_model(weights, "", device=offload)
    model.load_model_weights(dict(weights), "")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def vae_of(demo: DemoModel) -> comfy.sd.VAE:
    """VAE: the demo autoencoder in the host's own class, which takes far less than the host expects of one, and whose
    normalisation has 32 groups unless told otherwise.
    """
    vae = comfy.sd.VAE(sd=demo.autoencoder.state_dict(), config={"params": {"ddconfig": DDCONFIG, "embed_dim": 4}})
    for module in vae.first_stage_model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = module.num_channels // NORM_CHANNELS
    vae.memory_used_encode = lambda shape, dtype: MODEL * shape[-2] * shape[-1]
    vae.memory_used_decode = lambda shape, dtype: MODEL * shape[-2] * shape[-1] * vae.downscale_ratio**2
    return vae


def clip_of(demo: DemoModel) -> comfy.sd.CLIP:
    """CLIP: the demo text encoder in the host's own class, with the demo model's words."""
    clip = comfy.sd.CLIP(target=comfy.supported_models_base.ClipTarget(*text_classes(type(demo))))
    missing, unexpected = clip.load_sd(demo.text.state_dict())
    if unexpected or set(missing) - {"text_projection.weight"}:
        raise RuntimeError(f"the host's CLIP has changed: missing {missing}, unexpected {unexpected}")
    return clip


@cache
def text_classes(kind: type[DemoModel]) -> tuple[type[DemoTokenizer], type[DemoClip]]:
    """The tokenizer and the text encoder of a kind of demo model."""
    vocabulary = type("WordVocabulary", (WordVocabulary,), {"kind": kind})
    tokenizer = type("WordTokenizer", (WordTokenizer,), {"vocabulary": vocabulary})
    text_model = type("DemoTextModel", (DemoTextModel,), {"kind": kind})
    return (
        type("DemoTokenizer", (DemoTokenizer,), {"tokenizer_class": tokenizer}),
        type("DemoClip", (DemoClip,), {"text_model": text_model}),
    )


class WordVocabulary:
    """The part of a Hugging Face tokenizer that the host's SDTokenizer uses, over the demo model's words."""

    kind: ClassVar[type[DemoModel]] = DemoModel

    @classmethod
    def from_pretrained(cls, path: str, **_: object) -> WordVocabulary:
        return cls()

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self.kind.token_ids(text)}

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.kind.vocabulary)}


class WordTokenizer(comfy.sd1_clip.SDTokenizer):
    """The host's tokenizer, weights such as (red:1.2) included, over the demo model's words."""

    vocabulary: ClassVar[type[WordVocabulary]] = WordVocabulary

    def __init__(self, embedding_directory: str | list[str] | None = None, tokenizer_data: dict | None = None) -> None:
        super().__init__(
            tokenizer_path="",
            tokenizer_class=self.vocabulary,
            max_length=CONTEXT_LENGTH,
            embedding_directory=embedding_directory,
            embedding_size=self.vocabulary.kind.configs["text"]["hidden_size"],
            tokenizer_data=tokenizer_data or {},
        )


class DemoTokenizer(comfy.sd1_clip.SD1Tokenizer):
    """SD1's prompt handling around `WordTokenizer`."""

    tokenizer_class: ClassVar[type[WordTokenizer]] = WordTokenizer

    def __init__(self, embedding_directory: str | list[str] | None = None, tokenizer_data: dict | None = None) -> None:
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=self.tokenizer_class)


class WordTransformer(comfy.clip_model.CLIPTextModel):
    """The host's CLIP text transformer, whose vocabulary is fixed at CLIP's 49,408, with the demo model's instead."""

    def __init__(self, config: dict, dtype: torch.dtype, device: torch.device, operations: type) -> None:
        super().__init__(config, dtype, device, operations)
        words = operations.Embedding(config["vocab_size"], config["hidden_size"], dtype=dtype, device=device)
        self.set_input_embeddings(words)
        torch.nn.init.eye_(self.text_projection.weight)  # not in the file: the pooled output is not used


class DemoTextModel(comfy.sd1_clip.SDClipModel):
    """The host's wrapper of a text transformer, at the demo model's size."""

    kind: ClassVar[type[DemoModel]] = DemoModel

    def __init__(
        self, device: Device = "cpu", dtype: torch.dtype | None = None, model_options: dict | None = None
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            max_length=CONTEXT_LENGTH,
            textmodel_json_config=dict(self.kind.configs["text"]),
            model_class=WordTransformer,
            special_tokens={"start": 0, "end": 1, "pad": 1},
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class DemoClip(comfy.sd1_clip.SD1ClipModel):
    """SD1's single text encoder, being `DemoTextModel`."""

    text_model: ClassVar[type[DemoTextModel]] = DemoTextModel

    def __init__(
        self, device: Device = "cpu", dtype: torch.dtype | None = None, model_options: dict | None = None
    ) -> None:
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=self.text_model)
