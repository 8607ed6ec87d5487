"""What a manipulation gives back, and what all of them need: the model's levels, its latents, and a paste.

Pixels that were to stay come back as they were, to the bit: latents do not keep them. The step between them and what is
new is taken out by a membrane. With d = old - new, known where nothing changes, and k the indicator of that,

    new + w (G * (k d)) / (G * k),   w = min(1, 2 G * k)          in the hole, G a Gaussian

continues d into the hole and lets it fade there. What was in the hole before plays no part.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..finite import check_finite
from ..generators.picture import check_picture
from ..measurement import Measurement
from ..measurement.blur import Blur
from ..measurement.decoded import Decoded
from ..model import Model, check_model, decoder_of, device_of, encoder_of
from ..validation import as_mask, check_number

WIDEST_FEATHER = 256


class Manipulated(NamedTuple):
    """``picture`` (1, 3, H, W) in [0, 1]; the network rows it took; ``kept``, in dB: how well the model's own result
    agrees with what was to stay, before it was put back (None where nothing was)."""

    picture: Tensor
    evaluations: int
    kept: float | None


def fitting(model: Model, picture: object) -> Tensor:
    """The picture (1, 3, H, W) in [0, 1], checked, in float32 on the model's device.

    Raises:
        ValueError: for no picture, or sides that are no multiples of the model's cell.
    """
    check_model(model)
    found = check_picture("picture", picture).to(device_of(model), torch.float32)
    height, width = found.shape[-2:]
    if height % model.cell or width % model.cell:
        raise ValueError(
            f"picture: got {width}x{height}; allowed are multiples of the model's cell, {model.cell}. Cut it, with "
            "msd_core.generators.cover(picture, width, height)."
        )
    return found


def encoded(model: Model, picture: Tensor) -> Tensor:
    """x of a picture (1, 3, H, W) in [0, 1]."""
    return encoder_of(model)(picture)


def decoded(model: Model, x: Tensor) -> Tensor:
    """The picture of x, (1, 3, H, W) in [0, 1].

    Raises:
        NonFiniteError: it is not finite, or x is not.
    """
    picture = decoder_of(model)(x)
    check_finite("model", [x, picture], "result", "Run it in float32, or lower cfg.")
    return picture.clamp(0, 1)


def through(model: Model, measurement: Measurement) -> Decoded:
    """``measurement``, of pictures, as one of the model's x."""
    return Decoded(measurement, getattr(model, "decode_unclamped", None) or decoder_of(model), encoder_of(model))


def mask_for(name: str, mask: object, picture: Tensor) -> Tensor:
    """``mask`` as (1, 1, H, W), 1 where the picture may change.

    Raises:
        ValueError: it is no mask, of another size, or empty.
    """
    found = as_mask(name, mask).to(picture)
    if found.shape != (1, 1, *picture.shape[-2:]):
        raise ValueError(
            f"{name}: got shape {tuple(found.shape)} for a picture of {picture.shape[-1]}x{picture.shape[-2]}; allowed "
            "is one mask of its size. Resize it."
        )
    if not bool((found > 0).any()):
        raise ValueError(f"{name}: is 0 everywhere; allowed is a mask with a part that may change. Paint one white.")
    return found


def cells_of(mask: Tensor, cell: int, grow: int, *, soft: bool = False) -> Tensor:
    """Cells of the latent, of ``cell`` pixels a side, that the mask (B, 1, H, W) touches, and ``grow`` more around.

    As 0 and 1; or, ``soft``, as the most that the mask has there.
    """
    touched = F.max_pool2d(mask if soft else (mask > 0).to(mask.dtype), cell)
    return F.max_pool2d(touched, 2 * grow + 1, stride=1, padding=grow) if grow else touched


def check_feather(feather: object) -> None:
    """Refuse a width that is negative, or wider than a picture's edge is of use."""
    check_number("feather", feather, "4 is usual; 0 leaves the step as it is.", low=0, high=WIDEST_FEATHER)


def pasted(new: Tensor, old: Tensor, mask: Tensor, feather: float) -> tuple[Tensor, float | None]:
    """``new`` in the mask and ``old`` outside, with the membrane of the module; and how well they agree there, in dB.

    Where the mask is soft the two are mixed by it. A ``feather`` of 0 leaves the step at the edge.
    """
    check_feather(feather)
    keep = (mask <= 0).to(new.dtype)
    if not bool(keep.any()):
        return mask * new + (1 - mask) * old, None
    error = float(((new - old).square() * keep).cpu().double().sum() / (3 * keep.cpu().double().sum()))
    drift = float("inf") if error == 0 else float(-10 * torch.tensor(error).log10())
    whole = new
    if feather > 0:
        blur = Blur(feather)
        near = blur.apply(keep)
        step = blur.apply(keep * (old - new)) / near.clamp(min=1e-6)
        whole = (new + (2 * near).clamp(max=1) * step).clamp(0, 1)
    return torch.where(mask > 0, mask * whole + (1 - mask) * old, old), drift
