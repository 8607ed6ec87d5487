"""Inpaint and Restore, and what they share with Edit: `msd_core.manipulation` with the host's model, a picture of the
batch after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.manipulation.tasks import TASKS, measurement_of
from ..msd_core.measurement import Observation
from ..msd_core.memory import check_fits
from ..msd_core.posterior import INVERSE_SOLVERS
from ..msd_core.validation import check_choice
from . import host
from .bandwidth import CATEGORY
from .beside import is_stock
from .cells import cell_of
from .dream import temperature_input
from .grad import owned
from .guiders import Conditioning, make_guider
from .precision import is_bfloat16
from .progress import Progress
from .room import is_out_of_memory, out_of_memory, rows_of
from .schema import FOLDED, schema, seed_input
from .vae import check_vae, vae_bytes

if TYPE_CHECKING:
    from ..msd_core.manipulation import Manipulated
    from ..msd_core.model import Model

SOLVERS = [name for name, kind in INVERSE_SOLVERS.items() if not getattr(kind, "backwards", False)]
"""The host evaluates the network in inference mode, so those that go backwards through it are left out."""
SPACES = ("latents", "pixels")
SEED = seed_input("Of the noise.")


def model_inputs(prompt: str) -> list[io.Input]:
    """The sockets of the model."""
    return [
        io.Model.Input("model", optional=True),
        io.Conditioning.Input("positive", optional=True, tooltip=prompt),
        io.Conditioning.Input("negative", optional=True),
        io.Guider.Input("guider", optional=True, tooltip="Replaces model, positive, negative and cfg."),
    ]


def steps_input(default: int, cost: str) -> io.Input:
    """Of a sampler whose steps take ``cost``, in words."""
    return io.Int.Input("steps", default=default, min=1, max=1000, tooltip=f"Of the sampler; {cost} each.")


def cfg_input(name: str = "cfg", tooltip: str = "1 = no guidance.", **more: Any) -> io.Input:  # noqa: ANN401
    """A guidance scale, off by default."""
    return io.Float.Input(name, default=1.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=tooltip, **more)


def decimal(name: str, default: float, high: float, tooltip: str, **more: Any) -> io.Input:  # noqa: ANN401
    """A number from 0 up to ``high``."""
    return io.Float.Input(name, default=default, min=0.0, max=high, step=0.01, round=0.001, tooltip=tooltip, **more)


def feather_input() -> io.Input:
    """Of the paste."""
    words = "Pixels over which the step at the edge of the mask is taken out; 0 leaves it."
    return decimal("feather", 4.0, 256.0, words, optional=True, extra_dict=FOLDED)


def picture_outputs() -> list[io.Output]:
    """The picture, and how well it kept what it was given."""
    kept = "dB: how well the model's own picture agreed with what was to stay or was given; -1 where nothing was."
    return [
        io.Image.Output("image", display_name="image"),
        io.Float.Output("kept", display_name="kept", tooltip=kept),
    ]


def run_each(
    guider: CFGGuider,
    vae: VAE,
    image: Tensor,
    make: Callable[[Tensor, int, Model], Manipulated],
    *,
    size: tuple[int, int],
    evaluations: int,
    in_float32: bool = False,
    smaller: str = "scale the image down before",
) -> io.NodeOutput:
    """``make(picture (1, 3, H, W), number, model)`` of each picture of ``image`` (B, H, W, 3), inside the host.

    ``size`` is height and width of the result, in pixels; ``in_float32``: computed so, whatever the model's type;
    ``smaller``: what takes less memory, in words.
    """
    latent_format = guider.model_patcher.get_model_object("latent_format")
    check_vae(vae, latent_format)
    _check_alike(guider, len(image))
    cell, shown = cell_of(latent_format), f"a picture of {size[1]}x{size[0]}"
    if any(side % cell or side < cell for side in size):
        raise ValueError(
            f"image: makes a picture of {size[1]}x{size[0]}; allowed are multiples of {cell}, the model's cell; crop "
            "or scale it before"
        )
    check_fits("image", shown, vae_bytes(vae, *size), f"{smaller[0].upper()}{smaller[1:]}.")
    progress = Progress(len(image) * evaluations)

    def loop(session: host.Session) -> list[Manipulated]:
        watched = replace(session, denoiser=replace(session.denoiser, watch=progress.update)).model()
        own = owned(image[..., :3], session.device).movedim(-1, 1).float().clamp(0, 1)
        with session.in_float32() if in_float32 and session.in_float32 is not None else nullcontext():
            return [make(own[i : i + 1], i, watched) for i in range(len(own))]

    try:
        found = host.run(guider, loop, size[0] // cell, size[1] // cell, vae=vae, in_float32=in_float32)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(None, shown, [smaller], "image") from error
    pictures = torch.cat([one.picture for one in found]).movedim(1, -1).cpu()
    return io.NodeOutput(pictures, mean_kept([one.kept for one in found]))


def mean_kept(kept: list[float | None]) -> float:
    """The mean over the pictures where something was to be kept, dB; -1 where nothing was."""
    measured = [one for one in kept if one is not None]
    return sum(measured) / len(measured) if measured else -1.0


def _check_alike(guider: CFGGuider, pictures: int) -> None:
    """Refuse conditionings of a batch for several pictures, which go through the model one by one."""
    rows = max((rows_of(entry) for entries in guider.original_conds.values() for entry in entries), default=1)
    if pictures > 1 and rows > 1:
        raise ValueError(
            f"image: got {pictures} pictures with a conditioning of {rows} (prompts, masks or hints); allowed is one "
            "conditioning for all, since the pictures go through the model one by one; connect them one by one"
        )


def mask_of(mask: Tensor | None, number: int, like: Tensor) -> Tensor | None:
    """That of the picture numbered so, (1, 1, H, W); one mask is for all."""
    if mask is None:
        return None
    own = owned(mask, like.device).float()
    return own[number if len(own) > 1 else 0][None, None].clamp(0, 1)


def check_masks(mask: Tensor | None, image: Tensor) -> None:
    """Refuse a MASK that is neither one for all images nor one an image."""
    if mask is not None and (mask.ndim != 3 or len(mask) not in (1, len(image))):
        raise ValueError(
            f"mask: got shape {tuple(mask.shape)} for {len(image)} images; allowed is one mask, or one an image"
        )


class Inpaint(io.ComfyNode):
    """`msd_core.inpaint`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_Inpaint",
            display_name="Kalman Inpaint",
            category=CATEGORY,
            description="A hole filled so that it agrees with the rest, which comes back to the bit. Any model, no "
            "inpainting checkpoint.",
            search_aliases=["inpaint", "fill", "outpaint", "remove object", "posterior", "DreamSampler Inpaint"],
            inputs=[
                io.Image.Input("image"),
                io.Mask.Input("mask", tooltip="The hole; what was in it plays no part."),
                io.Vae.Input("vae"),
                SEED,
                steps_input(16, "1 + cg_steps evaluations, or one with another solver"),
                cfg_input(),
                *model_inputs("What the whole picture shows."),
                io.Int.Input("cg_steps", default=2, min=1, max=10, optional=True, tooltip="Of the Kalman gain."),
                io.Int.Input(
                    "grow", default=1, min=0, max=64, optional=True, extra_dict=FOLDED, tooltip="Cells around the hole "
                    "that are drawn anew: the encoder has seen the hole through them.",
                ),
                feather_input(),
                io.Combo.Input(
                    "solver", options=SOLVERS, default="kalman", optional=True, extra_dict=FOLDED, tooltip="How the "
                    "rest acts. All but kalman take one evaluation a step. PiGDM, DPS and PSLD go backwards through "
                    "the network, which a host's prompt does not allow: see `msd inpaint --solver`.",
                ),
                io.Combo.Input(
                    "space",
                    options=list(SPACES),
                    default="latents",
                    optional=True,
                    tooltip="pixels: nearer to what was hidden, one evaluation, one decoding and two encodings a step; "
                    "cg_steps, grow and solver play no part.",
                ),
                temperature_input(),
            ],
            outputs=picture_outputs(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        image: Tensor,
        mask: Tensor,
        vae: VAE,
        seed: int,
        steps: int,
        cfg: float,
        model: ModelPatcher | None = None,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        guider: CFGGuider | None = None,
        cg_steps: int = 2,
        grow: int = 1,
        feather: float = 4.0,
        solver: str = "kalman",
        space: str = "latents",
        temperature: float = 1.0,
    ) -> io.NodeOutput:
        from ..msd_core.manipulation import inpaint
        from ..msd_core.posterior.conditional import OfConditional
        from ..msd_core.posterior.kalman import Kalman

        check_masks(mask, image)
        check_choice("space", space, SPACES)
        guider = make_guider(model, positive, negative, cfg, guider)
        solver = "proximal" if space == "pixels" else solver
        chosen = Kalman(cg_steps) if solver == "kalman" else INVERSE_SOLVERS.made("solver", solver)
        calls, guided = chosen.rows, False
        if isinstance(chosen, Kalman) and is_stock(guider) and "negative" in guider.original_conds and guider.cfg != 1:
            chosen, calls, guided = OfConditional(chosen), calls + 1, True
        options = {"steps": steps, "solver": chosen, "grow": grow, "feather": feather}
        options |= {"space": space, "temperature": temperature}

        def make(picture: Tensor, number: int, known: Model) -> Manipulated:
            hole = mask_of(mask, number, picture)
            return inpaint(picture, hole, "", model=known, seed=(seed + number) % 2**64, **options)

        precise = guided and is_bfloat16(guider.model_patcher.model)  # where guidance multiplies what is rounded
        size = tuple(image.shape[1:3])
        return run_each(guider, vae, image, make, size=size, evaluations=steps * calls, in_float32=precise)


class Restore(io.ComfyNode):
    """`msd_core.restore`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_Restore",
            display_name="Restore Picture",
            category=CATEGORY,
            description="A small, blurred, noisy or grey picture restored: a sample of the prompt that agrees with it.",
            search_aliases=["upscale", "super resolution", "deblur", "denoise", "colorize", "inverse problem"],
            inputs=[
                io.Image.Input("image"),
                io.Vae.Input("vae"),
                io.Combo.Input("task", options=list(TASKS), default="x4", tooltip="What the picture suffers from."),
                SEED,
                steps_input(40, "one evaluation, one decoding and two encodings"),
                cfg_input(),
                *model_inputs("What the picture shows."),
                decimal("width", 4.0, 256.0, "Of the blur: standard deviation in pixels.", optional=True),
                decimal(
                    "noise",
                    0.0,
                    10.0,
                    "In the picture, of 0 to 1. Blur: 0.01 or more; noise: 0.1.",
                    optional=True,
                ),
                temperature_input(),
            ],
            outputs=picture_outputs(),
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        vae: VAE,
        task: str,
        seed: int,
        steps: int,
        cfg: float,
        model: ModelPatcher | None = None,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        guider: CFGGuider | None = None,
        width: float = 4.0,
        noise: float = 0.0,
        temperature: float = 1.0,
    ) -> io.NodeOutput:
        from ..msd_core.manipulation import restore

        measurement, factor = measurement_of(task, width, noise)
        height, across = (factor * side for side in image.shape[1:3])

        def make(picture: Tensor, number: int, known: Model) -> Manipulated:
            b = measurement.apply(picture) if task == "grey" else picture
            seen = Observation(measurement, b, noise)
            own = (seed + number) % 2**64
            return restore(seen, (across, height), "", model=known, steps=steps, seed=own, temperature=temperature)

        guider = make_guider(model, positive, negative, cfg, guider)
        smaller = "scale the image down before" + (", or choose a task of a smaller factor" if factor > 2 else "")
        return run_each(guider, vae, image, make, size=(height, across), evaluations=steps, smaller=smaller)


NODES = [Inpaint, Restore]
