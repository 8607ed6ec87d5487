"""What the kinds of pipelines differ in: how a prompt is encoded, how the network is called, and what it predicts.

    kind                     network        conditions                            predicts
    Stable Diffusion 1, 2    unet           text                                  epsilon, v or EDM's, by its scheduler
    Stable Diffusion XL      unet           text, pooled text, sizes              the same
    Stable Diffusion 3       transformer    text, pooled text                     the flow's velocity n - y
    Flux                     transformer    text, pooled text, guidance           the same, on latents in pairs

Encoding and calling are the library's own, by its pipeline's methods and modules, so that LoRA, IP adapters and
offloading that were set up on a pipeline stay in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

SIDE = 512
"""Pixels a side of a picture, of a model whose configuration does not say."""
Conditions = Mapping[str, Tensor]
"""Rows of what the network is told beside x and t, by name; (B, ...) each."""


@dataclass(frozen=True)
class StableDiffusion:
    """Stable Diffusion 1 and 2: one text encoder, a UNet."""

    pipe: Any
    pairs: ClassVar[int] = 1
    """Cells of a side that the network takes together: sizes must be multiples."""
    spare: ClassVar[tuple[str, ...]] = ()
    """Parts that a pipeline can do without."""
    flows: ClassVar[bool] = False
    """Whether the network predicts a flow's velocity, whatever the scheduler."""

    @property
    def overflows(self) -> bool:
        """Whether the autoencoder has to stay in float32 beside networks in float16."""
        return False

    @property
    def network(self) -> Any:  # noqa: ANN401 - the library's module
        """The denoising network."""
        return self.pipe.unet

    def scaled(self, latent: Tensor) -> Tensor:
        """x of the autoencoder's latent, (B, C, h, w) both."""
        config = self.pipe.vae.config
        return (latent - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    def unscaled(self, x: Tensor) -> Tensor:
        """The way back."""
        config = self.pipe.vae.config
        return x / config.scaling_factor + (config.get("shift_factor") or 0.0)

    @property
    def cells(self) -> int:
        """Cells a side of a latent at which it draws best."""
        for known in (self.network.config.get("sample_size"), getattr(self.pipe, "default_sample_size", None)):
            if isinstance(known, int):
                return known
        return SIDE // int(self.pipe.vae_scale_factor)

    def encode(self, prompts: Sequence[str]) -> Conditions:
        """What ``prompts`` condition the network on."""
        text, _ = self.pipe.encode_prompt(list(prompts), self.device, 1, False)
        return {"text": text}

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes, whatever is offloaded."""
        return self.pipe._execution_device  # noqa: SLF001 - the library has no other name for it

    def __call__(self, x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        """The network's prediction (B, C, h, w) of x at t (B,)."""
        return self.network(x, t, encoder_hidden_states=told["text"], return_dict=False)[0]


@dataclass(frozen=True)
class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL: two text encoders; the network is told the size of the picture, uncropped."""

    @property
    def overflows(self) -> bool:
        return bool(self.pipe.vae.config.get("force_upcast", False))

    def scaled(self, latent: Tensor) -> Tensor:
        mean, std = self._moments(latent)
        return (latent - mean) * self.pipe.vae.config.scaling_factor / std

    def unscaled(self, x: Tensor) -> Tensor:
        mean, std = self._moments(x)
        return x * std / self.pipe.vae.config.scaling_factor + mean

    def _moments(self, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Mean and deviation of a latent by channel, (C, 1, 1), where the autoencoder says both: Playground 2.5's."""
        config = self.pipe.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return config.get("shift_factor") or 0.0, 1.0
        return like.new_tensor(mean).view(-1, 1, 1), like.new_tensor(std).view(-1, 1, 1)

    def encode(self, prompts: Sequence[str]) -> Conditions:
        text, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def __call__(self, x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        height, width = (side * self.pipe.vae_scale_factor for side in x.shape[-2:])
        sizes = x.new_tensor([[height, width, 0, 0, height, width]]).expand(len(x), -1)
        added = {"text_embeds": told["pooled"], "time_ids": sizes}
        options = {"added_cond_kwargs": added, "return_dict": False}
        return self.network(x, t, encoder_hidden_states=told["text"], **options)[0]


@dataclass(frozen=True)
class StableDiffusion3(StableDiffusion):
    """Stable Diffusion 3: a transformer, and up to three text encoders."""

    pairs: ClassVar[int] = 2
    spare: ClassVar[tuple[str, ...]] = ("text_encoder_3", "tokenizer_3")
    flows: ClassVar[bool] = True

    @property
    def network(self) -> Any:  # noqa: ANN401 - the library's module
        return self.pipe.transformer

    @property
    def shift(self) -> float:
        """What its scheduler multiplies the levels of its chain by, for a picture of the model's own size."""
        config = self.pipe.scheduler.config
        if not config.get("use_dynamic_shifting"):
            return float(config.get("flow_shift" if config.get("use_flow_sigmas") else "shift", 1.0))
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        mu = low + (high - low) * ((self.cells // self.pairs) ** 2 - few) / (many - few)
        return mu if config.get("time_shift_type") == "linear" else math.exp(mu)

    def encode(self, prompts: Sequence[str]) -> Conditions:
        words = list(prompts)
        text, _, pooled, _ = self.pipe.encode_prompt(
            words, words, words, device=self.device, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def __call__(self, x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        steps = self.pipe.scheduler.config.num_train_timesteps
        return self.network(
            hidden_states=x,
            timestep=t * steps,
            encoder_hidden_states=told["text"],
            pooled_projections=told["pooled"],
            return_dict=False,
        )[0]


@dataclass(frozen=True)
class Flux(StableDiffusion3):
    """Flux: latents in pairs of cells.

    ``guidance`` is the scale that the distilled model is told, which is not the cfg between two prompts.
    """

    spare: ClassVar[tuple[str, ...]] = ()
    guidance: float = 3.5

    def encode(self, prompts: Sequence[str]) -> Conditions:
        words = list(prompts)
        text, pooled, _ = self.pipe.encode_prompt(words, words, device=self.device)
        return {"text": text, "pooled": pooled}

    def __call__(self, x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        rows, channels, height, width = x.shape
        packed = self.pipe._pack_latents(x, rows, channels, height, width)  # noqa: SLF001 - as the library has it
        places = self.pipe._prepare_latent_image_ids(rows, height // 2, width // 2, x.device, x.dtype)  # noqa: SLF001
        guidance = x.new_full((rows,), self.guidance) if self.network.config.guidance_embeds else None
        found = self.network(
            hidden_states=packed,
            timestep=t,
            guidance=guidance,
            pooled_projections=told["pooled"],
            encoder_hidden_states=told["text"],
            txt_ids=x.new_zeros(told["text"].shape[1], 3),
            img_ids=places,
            return_dict=False,
        )[0]
        return unpacked(found, height, width)


def unpacked(packed: Tensor, height: int, width: int) -> Tensor:
    """(B, h/2 w/2, 4 C) back to (B, C, h, w)."""
    rows, _, four = packed.shape
    cells = packed.reshape(rows, height // 2, width // 2, four // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(rows, four // 4, height, width)


FAMILIES: dict[str, type[StableDiffusion]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
}
"""By the name of the library's class."""


def family_of(pipe: object) -> StableDiffusion:
    """What a pipeline is, by its class or what that is derived from.

    Raises:
        ValueError: it is none that is known.
    """
    return family_class(type(pipe))(pipe)


def family_class(kind: type) -> type[StableDiffusion]:
    """What pipelines of a class of the library are.

    Raises:
        ValueError: it is none that is known.
    """
    for base in kind.__mro__:
        if base.__name__ in FAMILIES:
            return FAMILIES[base.__name__]
    raise ValueError(
        f"pipe: got a {kind.__name__}; allowed are {', '.join(FAMILIES)} of diffusers, which draw a picture from "
        "text. Load one of these."
    )
