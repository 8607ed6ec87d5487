"""Neural Image Generator and Render Generator: where a distilled picture is born, and where it is drawn at any size."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.model_management
import torch
from comfy.latent_formats import LatentFormat
from comfy.sd import VAE
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor
from torch.nn import functional as F

from ..msd_core.generators.batch import Batch
from ..msd_core.generators.registry import GENERATORS, generator_for_size
from ..msd_core.generators.tiles import render_tiles, tiles_of
from ..msd_core.memory import check_distillation, check_fits, check_render
from . import host
from .bandwidth import CATEGORY
from .fits import check_decodes
from .host import CELL
from .progress import Progress

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas, Generator

GeneratorSocket = io.Custom("MSD_GENERATOR")
PREVIEW_LARGEST = 2048  # pixels of the longer side of the picture that is shown in the node


@dataclass(frozen=True, eq=False)
class HostGenerator:
    """What travels on an MSD_GENERATOR socket: a generator, which knows the canvas that it is optimised on.

    Never mutated: a step node returns a new one. `latent_format` is that of the model that a latent generator was last
    optimised with, None before.
    """

    generator: Generator
    latent_format: LatentFormat | None = None

    @property
    def canvas(self) -> Canvas:
        """Size in pixels, cell and space."""
        return self.generator.canvas

    def get_ram_usage(self) -> int:
        """Bytes, for the host's cache."""
        return sum(tensor.nbytes for tensor in self.generator.state_dict().values())


class NeuralImageGenerator(io.ComfyNode):
    """`msd_core.generator_for_size` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MSD_NeuralImageGenerator",
            display_name="Neural Image Generator",
            category=CATEGORY,
            description="A picture as a small coordinate network, as pixels or as a latent: what a step optimises.",
            inputs=[
                io.Combo.Input(
                    "representation",
                    options=list(GENERATORS),
                    default="fourier",
                    tooltip="fourier, siren, hashgrid: a neural image, drawn at any size afterwards. pixels: a plain "
                    "grid. latent: the model's own latent, which needs no VAE.",
                ),
                io.Int.Input("width", default=512, min=8, max=8192, step=8, tooltip="Optimised at this size, pixels."),
                io.Int.Input("height", default=512, min=8, max=8192, step=8, tooltip="Optimised at this size, pixels."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, tooltip="Of the first parameters."),
                io.Int.Input("hidden", default=64, min=1, max=4096, tooltip="Units a layer, of a neural image."),
                io.Int.Input("layers", default=3, min=1, max=64, tooltip="Hidden layers, of a neural image."),
                io.Int.Input(
                    "channels",
                    default=4,
                    min=1,
                    max=256,
                    tooltip="Of a latent: 4 for SD 1.5 and SDXL, 16 for SD 3 and Flux.",
                ),
                io.Int.Input(
                    "batch",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="Pictures side by side, with the seeds seed, seed + 1, ...: a step moves all of them in "
                    "one pass, each as it would move alone.",
                ),
            ],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
        )

    @classmethod
    def execute(
        cls,
        representation: str,
        width: int,
        height: int,
        seed: int,
        hidden: int,
        layers: int,
        channels: int,
        batch: int = 1,
    ) -> io.NodeOutput:
        check_size(width, height)
        kind = GENERATORS.find("representation", representation)
        takes = inspect.signature(kind).parameters
        options = {name: value for name, value in (("hidden", hidden), ("layers", layers)) if name in takes}
        check_distillation(representation, width, height, n=batch, hidden=hidden, layers=layers)
        with host.grad_mode():
            made = [
                generator_for_size(representation, width, height, seed=own, channels=channels, cell=CELL, **options)
                for own in range(seed, seed + batch)
            ]
            return io.NodeOutput(HostGenerator(made[0] if batch == 1 else Batch(made)))


def check_size(width: int, height: int) -> None:
    """Refuse a side that a VAE cannot encode."""
    for name, side in (("width", width), ("height", height)):
        if side < CELL or side % CELL:
            raise ValueError(
                f"{name}: got {side}; allowed are multiples of {CELL}, the side of a latent's cell; "
                f"use {max(CELL, round(side / CELL) * CELL)}"
            )


class RenderGenerator(io.ComfyNode):
    """A generator drawn at any size, as IMAGE and as LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MSD_RenderGenerator",
            display_name="Render Generator",
            category=CATEGORY,
            is_output_node=True,
            description="Draws a generator at any size. The VAE decodes a latent generator, and encodes every other.",
            inputs=[
                GeneratorSocket.Input("generator"),
                io.Int.Input("width", default=512, min=1, max=16384, tooltip="Pixels."),
                io.Int.Input("height", default=512, min=1, max=16384, tooltip="Pixels."),
                io.Vae.Input("vae", optional=True, tooltip="For the output that is not the generator's own."),
            ],
            outputs=[io.Image.Output("image", display_name="image"), io.Latent.Output("latent", display_name="latent")],
        )

    @classmethod
    def execute(cls, generator: HostGenerator, width: int, height: int, vae: VAE | None = None) -> io.NodeOutput:
        if generator.generator.space == "latent":
            latent = render_latent(generator, width, height)
            if vae is not None:
                check_decodes(vae, generator.latent_format)
            image = blocked(cls, "image", "decode the latent") if vae is None else vae.decode(latent["samples"])
        else:
            image = render_image(generator, width, height)
            latent = blocked(cls, "latent", "encode the image") if vae is None else encoded(vae, image)
        empty = vae is None and generator.generator.space == "latent"
        shown = None if empty else ui.PreviewImage(bounded(image), cls=cls)
        return io.NodeOutput(image, latent, ui=shown)


def blocked(node: type[io.ComfyNode], output: str, purpose: str) -> ExecutionBlocker:
    """An output that cannot be given; whatever is connected to it says why."""
    name = node.define_schema().display_name
    return ExecutionBlocker(f"{name}: {output} needs the VAE to {purpose}; connect one.")


def render_image(generator: HostGenerator, width: int, height: int) -> Tensor:
    """IMAGE (B, height, width, 3) of an image generator, one picture a member, drawn tile by tile on the host's device.

    Each tile gives way to the host's Cancel, and moves the node's progress bar.
    """
    drawn = generator.generator
    check_render(width, height, whole=not drawn.windows, n=drawn.rows)
    device = comfy.model_management.get_torch_device()
    if any(tensor.device != device for tensor in drawn.state_dict().values()):
        drawn = copy.deepcopy(drawn).to(device)
    progress = Progress(len(tiles_of(drawn, height, width)))
    image = torch.empty(drawn.rows, height, width, 3)
    for top, left, tile in render_tiles(drawn, height, width):
        rows, columns = tile.shape[-2:]
        image[:, top : top + rows, left : left + columns] = tile.movedim(1, -1).clamp(0, 1)
        progress.update()
    return image


def encoded(vae: VAE, image: Tensor) -> dict[str, Tensor]:
    """LATENT of an IMAGE (B, H, W, 3).

    Raises:
        ValueError: it would take more memory than there is.
    """
    height, width = image.shape[1:3]
    fix = "Draw a smaller picture, or disconnect the VAE: the image needs none."
    check_fits("vae", f"a picture of {width}x{height}", host.vae_bytes(vae, height, width, n=len(image)), fix)
    return {"samples": vae.encode(image)}


def bounded(image: Tensor) -> Tensor:
    """IMAGE (B, H, W, 3) with no side above `PREVIEW_LARGEST`, averaged down in proportion where one is."""
    height, width = image.shape[1:3]
    share = PREVIEW_LARGEST / max(height, width)
    if share >= 1:
        return image
    size = [max(1, round(side * share)) for side in (height, width)]
    return F.adaptive_avg_pool2d(image.movedim(-1, 1), size).movedim(1, -1)


def render_latent(generator: HostGenerator, width: int, height: int) -> dict[str, Tensor]:
    """LATENT of a latent generator, in the host's own scale."""
    check_size(width, height)
    if generator.latent_format is None:
        raise ValueError(
            "generator: this latent has not met a model yet, so its scale is unknown; put a step node before it"
        )
    with torch.no_grad():
        x = generator.generator.render(generator.generator.frame(height // CELL, width // CELL))
        return {"samples": generator.latent_format.process_out(x).float().cpu()}


NODES = [NeuralImageGenerator, RenderGenerator]
