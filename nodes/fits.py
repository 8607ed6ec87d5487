"""What belongs together: a model, its conditioning and its latents; what does not is refused by name.

A conditioning of the wrong width cannot be told beforehand, since every architecture takes its text its own way: where
the network refuses one, `explain_width` says which, and what the model takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from comfy.latent_formats import LatentFormat
from comfy.samplers import CFGGuider
from torch import Tensor

from .beside import NEGATIVE, SOURCE, UNCOND

MATRICES = re.compile(r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)")
STATED = ("context_dim", "context_in_dim")
"""Where a model's configuration states the width of its text."""


def check_dimensions(latent_format: LatentFormat) -> None:
    """Refuse a model whose latents are not those of pictures.

    Raises:
        ValueError: they have three dimensions, as a video's, or one, as sound's.
    """
    if latent_format.latent_dimensions != 2:
        raise ValueError(
            f"model: its latents ({type(latent_format).__name__}) have {latent_format.latent_dimensions} dimensions; "
            "models with 3-D latents (video, and Qwen-Image) are not supported, nor those of audio; allowed are "
            "models of pictures with latents (B, C, H, W), as Stable Diffusion and Flux; load one"
        )


def check_channels(samples: Tensor, guider: CFGGuider) -> None:
    """Refuse the latent (B, C, H, W) of a generator that has not the model's channels."""
    own = guider.model_patcher.get_model_object("latent_format")
    if samples.shape[1] != own.latent_channels:
        raise ValueError(
            f"generator: its latent has {samples.shape[1]} channels, the model ({type(own).__name__}) works on "
            f"{own.latent_channels}; set channels to {own.latent_channels} in Neural Image Generator"
        )


def check_conditioning(name: str, conditioning: list) -> None:
    """Refuse a CONDITIONING that holds none: the host would take zeros for the prediction under it."""
    if len(conditioning) == 0:
        raise ValueError(f"{name}: is empty, it holds no prompt; connect one from a CLIP Text Encode")


def check_guider(guider: CFGGuider) -> None:
    """Refuse a guider with a side that holds no conditioning."""
    for side, conds in guider.original_conds.items():
        check_conditioning(side, conds)


def check_latent_format(met: LatentFormat | None, guider: CFGGuider) -> None:
    """Refuse a latent generator that was optimised with a model of other latents: ``met`` is their format."""
    own = guider.model_patcher.get_model_object("latent_format")
    if met is not None and (type(met), _scale(met)) != (type(own), _scale(own)):
        raise ValueError(
            f"generator: its latent was made with a model of {type(met).__name__} latents, this model's are "
            f"{type(own).__name__}; begin with a new one, or use the model that it was made with"
        )


def _scale(latent_format: LatentFormat) -> float:
    return float(getattr(latent_format, "scale_factor", 1.0))


def explain_width(error: RuntimeError, guider: CFGGuider, prompt: str | None, beside: Mapping[str, object]) -> None:
    """Refuse the conditioning whose width made the network fail with ``error``, if it was that.

    Args:
        error: what the network raised.
        guider: as it was when it was asked.
        prompt: which of ``beside`` was asked; None: the guider's own.
        beside: what the guider carries beside its own.

    Raises:
        ValueError: for the conditioning, with both widths.
    """
    found = MATRICES.search(str(error))
    if found is None:
        return
    model = guider.model_patcher.model
    config = getattr(model.model_config, "unet_config", {})
    stated = next((config[key] for key in STATED if isinstance(config.get(key), int)), None)
    for side, width in _widths(guider.conds):
        if width != stated if stated is not None else width == int(found[1]):
            takes = int(found[2]) if stated is None else stated
            raise ValueError(
                f"{_socket(side, prompt, beside)}: its text has width {width}, the model "
                f"({type(model.model_config).__name__}) takes {takes}; encode the prompt with the CLIP that belongs to "
                "the model"
            ) from error


def _widths(conds: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, int]]:
    """Side and width of every text."""
    for side, entries in conds.items():
        for entry in entries:
            if entry.get("cross_attn") is not None:
                yield side, entry["cross_attn"].shape[-1]


def _socket(side: str, prompt: str | None, beside: Mapping[str, object]) -> str:
    """The socket of a step that the side of a guider came from."""
    if prompt is not None and side == "positive":
        return {SOURCE: "source_positive", NEGATIVE: "negative", UNCOND: "negative"}[prompt]
    return "unconditional" if side == "negative" and NEGATIVE in beside else side
