"""Measurement: what is known of a picture, for any guider.

    b = A y + s ξ      A: a mask, a mean over blocks, a blur, grey; in pixels through the VAE, or in latents

The sampler's picture is y: it is of the prompt, and agrees with b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy.latent_formats import LatentFormat
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.manipulation.tasks import TASKS, measurement_of
from ..msd_core.measurement import MEASUREMENTS, Measurement, Observation
from ..msd_core.memory import check_fits
from ..msd_core.validation import check_choice
from .bandwidth import CATEGORY
from .cells import cell_of
from .existing import decimal
from .grad import grad_mode, owned
from .guiders import make_guider
from .measured import Latents, Pixels, measured, pixels_of
from .precision import difference_for
from .schema import FOLDED, schema
from .vae import check_vae, vae_bytes

if TYPE_CHECKING:
    from ..msd_core.posterior import Gain

SPACES = ("pixels", "latents")
GAINS_HERE = ("kalman", "proximal", "replacement")
"""Those without a pass backwards through the network, which the host evaluates in inference mode."""
MASK = "The hole, white: what is not known. Grey is drawn anew, too; with noise, it is known less well."


class MeasurementNode(io.ComfyNode):
    """`measured.measured` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_Measurement",
            display_name="Measurement",
            category=CATEGORY,
            description="What is known of a picture, for any guider: whatever sampler runs on it makes a picture of "
            "the prompt that agrees. For SamplerCustomAdvanced, with full denoise and the latent from here.",
            search_aliases=["inverse problem", "posterior", "inpaint guider", "super resolution", "deblur", "DPS"],
            inputs=[
                io.Guider.Input("guider", tooltip="Any: CFGGuider, DualCFGGuider, PerpNegGuider, BasicGuider."),
                io.Vae.Input("vae"),
                io.Image.Input("image", tooltip="What is known: the picture with a hole, the small, the blurred one."),
                io.Combo.Input(
                    "task",
                    options=["mask", *TASKS],
                    default="mask",
                    tooltip="What is known of the picture: all but a hole; the picture some times smaller; blurred; "
                    "with noise; without colour.",
                ),
                io.Mask.Input("mask", optional=True, tooltip=MASK),
                decimal("width", 4.0, 256.0, "Of the blur: standard deviation in pixels.", optional=True),
                decimal(
                    "noise", 0.0, 10.0, "In what is known, of 0 to 1. Blur: 0.01 or more; noise: 0.1.", optional=True
                ),
                io.Combo.Input(
                    "space",
                    options=list(SPACES),
                    default="pixels",
                    optional=True,
                    tooltip="pixels: one evaluation, one decoding and two encodings a step. latents: for masks "
                    "alone; no VAE in between, and whole cells are known or not.",
                ),
                io.Combo.Input(
                    "gain",
                    options=list(GAINS_HERE),
                    default="kalman",
                    optional=True,
                    tooltip="In latents: how what is known acts on the rest. kalman: by the model's own covariance, "
                    "1 + cg_steps evaluations. The others take one.",
                    extra_dict=FOLDED,
                ),
                io.Int.Input(
                    "cg_steps",
                    default=2,
                    min=1,
                    max=10,
                    optional=True,
                    tooltip="Of the Kalman gain, an evaluation each. 1 to 3 are usual.",
                    extra_dict=FOLDED,
                ),
                io.Int.Input(
                    "grow",
                    default=1,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="In latents: cells around the hole that are drawn anew; the encoder has seen the hole "
                    "through them. 1 is usual.",
                    extra_dict=FOLDED,
                ),
            ],
            outputs=[
                io.Guider.Output("guider", display_name="guider"),
                io.Latent.Output("latent", display_name="latent", tooltip="An empty one of the picture's size."),
            ],
        )

    @classmethod
    def execute(
        cls,
        guider: CFGGuider,
        vae: VAE,
        image: Tensor,
        task: str,
        mask: Tensor | None = None,
        width: float = 4.0,
        noise: float = 0.0,
        space: str = "pixels",
        gain: str = "kalman",
        cg_steps: int = 2,
        grow: int = 1,
    ) -> io.NodeOutput:
        from ..msd_core.posterior import GAINS

        make_guider(guider=guider)
        _check(task, space, mask, image)
        latent_format = guider.model_patcher.get_model_object("latent_format")
        check_vae(vae, latent_format)
        cell = cell_of(latent_format)
        with grad_mode(), torch.no_grad():
            picture = owned(image[..., :3]).movedim(-1, 1).clamp(0, 1)
            hole = None if mask is None else owned(mask).reshape(-1, 1, *mask.shape[-2:]).clamp(0, 1)
            measurement, factor = (None, 1) if task == "mask" else measurement_of(task, width, noise)
            rows, columns = (side * factor for side in picture.shape[-2:])
            _check_size(columns, rows, cell)
            smaller = f"Scale the image down before{', or choose a task of a smaller factor' if factor > 2 else ''}."
            check_fits("image", f"a picture of {columns}x{rows}", vae_bytes(vae, rows, columns), smaller)
            if space == "latents":
                own = {"steps": cg_steps, "difference": difference_for(guider.model_patcher.model)}
                made = GAINS["kalman"](**own) if gain == "kalman" else GAINS.made("gain", gain)
                known = _latents(picture, hole, vae, latent_format, noise, made, grow)
            else:
                known = _pixels(picture, hole, measurement, noise, vae, guider)
            empty = torch.zeros(len(picture), latent_format.latent_channels, rows // cell, columns // cell)
        return io.NodeOutput(measured(guider, known, empty.shape), {"samples": empty})


def _check(task: str, space: str, mask: Tensor | None, image: Tensor) -> None:
    """Refuse what does not belong together.

    Raises:
        ValueError: a mask without its task, or the task without one; a mask that does not fit, or without a hole or
            without anything known; latents for a task that they do not have.
    """
    check_choice("task", task, ("mask", *TASKS))
    check_choice("space", space, SPACES)
    if image.ndim != 4 or image.numel() == 0 or image.shape[-1] not in ((1, 3, 4) if task == "grey" else (3, 4)):
        raise ValueError(f"image: got shape {tuple(image.shape)}; allowed is (B, H, W, 3), not empty; connect an IMAGE")
    if (task == "mask") != (mask is not None):
        got = "not connected, and task is 'mask'" if mask is None else f"connected, and task is {task!r}"
        raise ValueError(f"mask: is {got}; allowed are both or neither; choose the task, or change the connection")
    if task != "mask" and space == "latents":
        raise ValueError(
            f"space: got 'latents' with task {task!r}; allowed there is 'pixels', since an encoded picture does not "
            "become smaller, blurred or grey as its pixels do; choose pixels"
        )
    if mask is None:
        return
    shape = tuple(mask.shape)
    if mask.ndim not in (2, 3) or shape[-2:] != tuple(image.shape[1:3]) or mask.numel() == 0:
        raise ValueError(
            f"mask: got shape {shape} for a picture of {image.shape[2]}x{image.shape[1]}; allowed is one of its size; "
            "scale the mask"
        )
    if mask.ndim == 3 and len(mask) not in (1, len(image)):
        raise ValueError(f"mask: got {len(mask)} of them for {len(image)} images; allowed is one, or one an image")
    if not bool((mask > 0).any()) or not bool((mask < 1).any()):
        value, lacks = (1, "nothing is known") if bool((mask > 0).any()) else (0, "nothing is to be drawn")
        raise ValueError(
            f"mask: is {value} everywhere, so that {lacks}; allowed is a hole, white, in a picture that is known; "
            "paint it"
        )


def _check_size(width: int, height: int, cell: int) -> None:
    if any(side % cell or side < cell for side in (width, height)):
        raise ValueError(
            f"image: makes a picture of {width}x{height}; allowed are multiples of {cell}, the model's cell; crop or "
            "scale it before"
        )


def _trust(hole: Tensor, noise: float) -> Measurement:
    """Known is what is no hole: wholly, or with noise by how little it is one."""
    return MEASUREMENTS["mask"](1 - hole if noise > 0 else (hole <= 0).to(hole.dtype))


def _pixels(
    picture: Tensor, hole: Tensor | None, measurement: Measurement | None, noise: float, vae: VAE, guider: CFGGuider
) -> Pixels:
    if measurement is None:
        assert hole is not None  # noqa: S101 - checked
        measurement = _trust(hole, noise)
        picture = measurement.apply(picture)
    elif picture.shape[1] == 3 and isinstance(measurement, MEASUREMENTS["grey"]):
        picture = measurement.apply(picture)
    return pixels_of(Observation(measurement, picture, noise), vae, guider)


def _latents(
    picture: Tensor, hole: Tensor, vae: VAE, latent_format: LatentFormat, noise: float, gain: Gain, grow: int
) -> Latents:
    from ..msd_core.manipulation.inpainting import without
    from ..msd_core.manipulation.result import cells_of

    cell = cell_of(latent_format)
    seen = torch.cat([without(one[None], hole[i if len(hole) > 1 else 0][None]) for i, one in enumerate(picture)])
    with torch.inference_mode():
        encoded = vae.encode(seen.movedim(1, -1))
    x = latent_format.process_in(owned(encoded, picture.device))
    measurement = _trust(cells_of(hole, cell, grow, soft=True), noise)
    return Latents(Observation(measurement, measurement.apply(x), noise), gain)


NODES = [MeasurementNode]
