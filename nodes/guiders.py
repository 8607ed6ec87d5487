"""The guider of a node, and what has to fit its model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from torch import Tensor

from .cells import grid_of
from .fits import check_conditioning, check_dimensions, check_guider

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas

Conditioning = list


def make_guider(
    model: ModelPatcher | None = None,
    positive: Conditioning | None = None,
    negative: Conditioning | None = None,
    cfg: float = 1.0,
    guider: CFGGuider | None = None,
    hint: str = "negative may stay empty at cfg = 1",
) -> CFGGuider:
    """The guider of a node: `guider` if one is connected, else the stock one of model, positive, negative and cfg.

    `hint` is what an error adds where one is missing.
    """
    patcher = model if guider is None else guider.model_patcher
    if patcher is not None:
        check_dimensions(patcher.get_model_object("latent_format"))
    if guider is not None:
        check_guider(guider)
        return guider
    missing = [name for name, value in (("model", model), ("positive", positive)) if value is None]
    if negative is None and cfg != 1:
        missing.append("negative")
    if missing:
        raise ValueError(
            f"{' and '.join(missing)}: not connected; connect model, positive and negative, or a guider instead of "
            f"them ({hint})"
        )
    for name, value in (("positive", positive), ("negative", negative)):
        if value is not None:
            check_conditioning(name, value)
    guider = CFGGuider(model)
    guider.inner_set_conds({"positive": positive} if negative is None else {"positive": positive, "negative": negative})
    guider.set_cfg(cfg)
    return guider


def check_latent(samples: Tensor, guider: CFGGuider) -> Tensor:
    """Refuse a LATENT's `samples` that the guider's model cannot work on; returns them."""
    latent_format = guider.model_patcher.get_model_object("latent_format")
    if samples.ndim != 4 or samples.shape[1] != latent_format.latent_channels:
        raise ValueError(
            f"latent: has shape {tuple(samples.shape)}, the model works on (B, {latent_format.latent_channels}, H, W); "
            "use a latent made for this model"
        )
    return samples


def latent_grid(guider: CFGGuider, canvas: Canvas) -> tuple[int, int]:
    """Height and width of the latents that the guider's model has for a canvas; errors of `grid_of`."""
    return grid_of(canvas, guider.model_patcher.get_model_object("latent_format"))
