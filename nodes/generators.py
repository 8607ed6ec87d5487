"""Neural Image Generator and Render Generator: where a distilled picture is born, and where it is drawn at any size."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from comfy.latent_formats import LatentFormat
from comfy.sd import VAE
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..msd_core.generators.registry import GENERATORS, generator_for_size
from . import host
from .bandwidth import CATEGORY
from .host import CELL

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas, Generator

GeneratorSocket = io.Custom("MSD_GENERATOR")


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
            ],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
        )

    @classmethod
    def execute(
        cls, representation: str, width: int, height: int, seed: int, hidden: int, layers: int, channels: int
    ) -> io.NodeOutput:
        check_size(width, height)
        kind = GENERATORS.find("representation", representation)
        takes = inspect.signature(kind).parameters
        options = {name: value for name, value in (("hidden", hidden), ("layers", layers)) if name in takes}
        with host.grad_mode():
            made = generator_for_size(representation, width, height, seed=seed, channels=channels, cell=CELL, **options)
        return io.NodeOutput(HostGenerator(made))


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
            image = blocked(cls, "image", "decode the latent") if vae is None else vae.decode(latent["samples"])
        else:
            image = render_image(generator, width, height)
            latent = blocked(cls, "latent", "encode the image") if vae is None else {"samples": vae.encode(image)}
        shown = None if vae is None and generator.generator.space == "latent" else ui.PreviewImage(image, cls=cls)
        return io.NodeOutput(image, latent, ui=shown)


def blocked(node: type[io.ComfyNode], output: str, purpose: str) -> ExecutionBlocker:
    """An output that cannot be given; whatever is connected to it says why."""
    name = node.define_schema().display_name
    return ExecutionBlocker(f"{name}: {output} needs the VAE to {purpose}; connect one.")


def render_image(generator: HostGenerator, width: int, height: int) -> Tensor:
    """IMAGE (1, height, width, 3) of an image generator."""
    with torch.no_grad():
        picture = generator.generator.render(generator.generator.frame(height, width))
        return picture.movedim(1, -1).clamp(0, 1).float().cpu()


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
