"""A generator that begins with an IMAGE: its size by an aspect ratio, and the fit with progress, Cancel and PSNR.

    width = sqrt(area r),  height = sqrt(area / r),   each rounded to whole cells

The image is cut to the shape that comes of it, in its middle, and resampled. A latent is encoded by the VAE, in the
scale of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import comfy.model_management
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.memory import check_fits
from ..msd_core.validation import as_finite, check_choice
from .cells import cell_of
from .fits import check_dimensions
from .grad import owned
from .progress import PREVIEW_SIZE, Progress, tell
from .schema import FOLDED
from .vae import check_vae, vae_bytes

if TYPE_CHECKING:
    from ..msd_core.generators.base import Generator
    from ..msd_core.generators.fit import Fitted

STEPS = 300
LARGEST = 8192
"""Pixels of a side that a generator is made for."""
AS_SET, FROM_IMAGE = "as set", "from the image"
RATIOS = {"1:1": 1.0, "3:2": 3 / 2, "2:3": 2 / 3, "4:3": 4 / 3, "3:4": 3 / 4, "16:9": 16 / 9, "9:16": 9 / 16}
"""Width over height."""


def inputs() -> list[io.Input]:
    """What a generator needs to begin with an image, and the menu of aspect ratios."""
    return [
        io.Image.Input(
            "image",
            optional=True,
            tooltip="The generator begins with this picture: cut to the generator's shape in its middle, resampled to "
            "its size, clamped to [0, 1]. Pixels copy it, a neural image is fitted to it, a latent needs vae and "
            "model. One, or one a picture of the batch.",
        ),
        io.Int.Input(
            "fit_steps",
            default=STEPS,
            min=1,
            max=10000,
            optional=True,
            tooltip="Steps at most of fitting a neural image to the image; it ends before where nothing is gained. "
            "More come nearer to a detailed picture; 100 to 1000 are usual.",
            extra_dict=FOLDED,
        ),
        io.Combo.Input(
            "aspect",
            options=[AS_SET, *RATIOS, FROM_IMAGE],
            default=AS_SET,
            optional=True,
            tooltip="Width to height. Other than 'as set', it replaces width and height by sides of this ratio and of "
            "the same area, rounded to whole cells of the latent.",
        ),
        io.Vae.Input("vae", optional=True, tooltip="Encodes the image for a latent; nothing else needs it here."),
        io.Model.Input(
            "model",
            optional=True,
            tooltip="Tells a latent the scale of its model; nothing else needs it here.",
        ),
    ]


def size_for(aspect: str, width: int, height: int, image: Tensor | None, cell: int) -> tuple[int, int]:
    """Width and height of an aspect ratio, multiples of ``cell``, with the area of the two that are given.

    Raises:
        ValueError: for an unknown ratio, that of an image that is not there, or one so far from 1 that a side is
            above `LARGEST`.
    """
    check_choice("aspect", aspect, (AS_SET, *RATIOS, FROM_IMAGE))
    if aspect == AS_SET:
        return width, height
    if aspect == FROM_IMAGE and image is None:
        raise ValueError(
            f"aspect: got {aspect!r}, and no image is connected; allowed are 'as set' and the ratios without one; "
            "connect an image, or choose another"
        )
    ratio = image.shape[2] / image.shape[1] if aspect == FROM_IMAGE and image is not None else RATIOS[aspect]
    area = width * height
    found = tuple(max(1, round(math.sqrt(part) / cell)) * cell for part in (area * ratio, area / ratio))
    if max(found) > LARGEST:
        raise ValueError(
            f"aspect: got {aspect!r} ({ratio:.4g}), which makes {found[0]}x{found[1]}; allowed are sides up to "
            f"{LARGEST}; lower width and height, or crop the image"
        )
    return found[0], found[1]


def check_image(image: Tensor, count: int, name: str = "image") -> Tensor:
    """The IMAGE ``name`` (B, H, W, 3) as (B, 3, H, W) in [0, 1], B = 1 or ``count``. Call inside `grad_mode()`.

    Raises:
        ValueError: it has another shape or number, or holds NaN or infinity.
    """
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[-1] != 3 or not image.numel():
        raise ValueError(
            f"{name}: got shape {shape}; allowed is (B, H, W, 3), not empty; connect an IMAGE without transparency"
        )
    if shape[0] not in (1, count):
        raise ValueError(
            f"{name}: got {shape[0]} of them for a batch of {count}; allowed is one, or one a picture of the batch; "
            f"take one out, or set batch to {shape[0]}"
        )
    return as_finite(name, owned(image)).movedim(-1, 1).clamp(0, 1)


def stock_encoder(vae: VAE | None, latent_format: LatentFormat | None) -> Callable[[Tensor], Tensor]:
    """Image (1, 3, H, W) in [0, 1] to the model's latent, by the host's own encoding.

    Raises:
        ValueError: there is no VAE, no model, or not the memory.
    """
    missing = [name for name, given in (("vae", vae), ("model", latent_format)) if given is None]
    if vae is None or latent_format is None:
        raise ValueError(
            f"{' and '.join(missing)}: not connected; a latent that begins with an image needs the VAE to encode it "
            "and the model for its scale; connect them, or choose another representation"
        )
    check_vae(vae, latent_format)

    def encode(picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        fix = "Lower width and height."
        check_fits("image", f"a picture of {width}x{height}", vae_bytes(vae, height, width), fix)
        with torch.inference_mode():
            x = latent_format.process_in(vae.encode(picture.movedim(1, -1)).float())
        return owned(x, torch.device("cpu"))

    return encode


def fit_all(
    generators: Sequence[Generator],
    image: Tensor,
    steps: int,
    encode: Callable[[Tensor], Tensor] | None,
    node_id: str | None,
) -> list[Generator]:
    """The generators of one size, each fitted to its picture of ``image`` (B, 3, H, W); shown, and stopped by Cancel.

    Call inside `grad_mode()`.
    """
    from ..msd_core.generators.fit import fit
    from ..msd_core.generators.picture import cover

    device = torch.device("cpu") if encode is not None else comfy.model_management.get_torch_device()
    width, height = generators[0].canvas.width, generators[0].canvas.height
    progress, last = Progress(len(generators) * (steps + 1)), []
    for i, first in enumerate(generators):
        found = None
        for found in fit(
            first.to(device), cover(image[i % len(image)][None], width, height), steps=steps, encode=encode
        ):
            tell(node_id, f"{found.step}/{steps}   {quality(found)}")
            progress.update(lambda: preview(found.generator))  # noqa: B023  (called at once)
        assert found is not None  # noqa: S101 - a fit has at least one step
        progress.to((i + 1) * (steps + 1))
        last.append(found)
    tell(node_id, f"begins with the image, {width}×{height}: " + ", ".join(map(quality, last)))
    return [found.generator.cpu() for found in last]


def quality(found: Fitted) -> str:
    """How near a fit has come, in words."""
    if found.psnr is None:
        return "encoded"
    return "exact" if found.psnr == math.inf else f"PSNR {found.psnr:.1f} dB"


def preview(generator: Generator) -> Tensor | None:
    """The picture of an image generator, small enough to be shown; None of a latent."""
    if generator.space != "image":
        return None
    share = min(1.0, PREVIEW_SIZE / max(generator.canvas.width, generator.canvas.height))
    size = (max(1, round(side * share)) for side in (generator.canvas.height, generator.canvas.width))
    with torch.no_grad():
        return generator.render(generator.frame(*size)).clamp(0, 1)


def latent_format_of(model: ModelPatcher | None, channels: int, cell: int) -> LatentFormat | None:
    """That of a MODEL, for the scale of its latents; None without one.

    Raises:
        ValueError: its latents have other channels, or other cells.
    """
    if model is None:
        return None
    found = model.get_model_object("latent_format")
    check_dimensions(found)
    for name, value, wanted in (("channels", channels, found.latent_channels), ("cell", cell, cell_of(found))):
        if value != wanted:
            raise ValueError(
                f"{name}: got {value}; allowed is {wanted}, as in the latents of this model; set {name} to {wanted}"
            )
    return found
