"""Neural Image Generator and Render Generator: where a distilled picture is born, and where it is drawn at any size."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor
from torch.nn import functional as F

from ..msd_core.generators.base import View, on_device
from ..msd_core.generators.batch import Batch
from ..msd_core.generators.neural_image import NeuralImageSettings
from ..msd_core.generators.registry import GENERATORS, generator_for_size
from ..msd_core.generators.tiles import render_part, render_tiles, tiles_of
from ..msd_core.memory import check_distillation, check_fits, check_render
from ..msd_core.settings import settings_of
from ..msd_core.validation import check_choice
from . import fitted, views
from .bandwidth import CATEGORY
from .cells import CELL, check_size
from .grad import grad_mode
from .named import note_all
from .progress import Progress, tell
from .schema import FOLDED, schema, seed_input
from .schema import GeneratorSocket as GeneratorSocket
from .vae import check_there, check_vae, vae_bytes
from .widgets import widget

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas, Generator

T = TypeVar("T", bound="Generator")
ELSEWHERE = ("vector", "pixel-art", "sticker", "volume")
"""Kinds that have a node of their own."""
PREVIEW_LARGEST = 2048  # pixels of the longer side of the picture that is shown in the node


@dataclass(frozen=True, eq=False)
class HostGenerator:
    """What travels on an MSD_GENERATOR socket: a generator, which knows the canvas that it is optimised on.

    Never mutated: a step node returns a new one. `latent_format` is that of the model that a latent generator was last
    optimised with, None before. `about` says how it was made: what the step was, or what the file says that it is from.
    `noted` are the settings of the steps that moved it, by their node, for the workflow of later pictures.
    """

    generator: Generator
    latent_format: LatentFormat | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    noted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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
        return schema(
            node_id="MSD_NeuralImageGenerator",
            display_name="Neural Image Generator",
            category=CATEGORY,
            description="A picture as a small coordinate network, as pixels or as a latent: what a step optimises.",
            search_aliases=["mean-shift distillation", "neural field", "implicit image", "siren", "hash grid"],
            inputs=[
                io.Combo.Input(
                    "representation",
                    options=[kind for kind in GENERATORS if kind not in ELSEWHERE],
                    default="fourier",
                    tooltip="fourier, siren, hashgrid: a neural image, drawn at any size afterwards. pixels: a plain "
                    "grid. latent: the model's own latent, which needs no VAE.",
                ),
                io.Int.Input("width", default=512, min=8, max=8192, step=8, tooltip="Optimised at this size, pixels."),
                io.Int.Input("height", default=512, min=8, max=8192, step=8, tooltip="Optimised at this size, pixels."),
                seed_input("Of the first parameters."),
                io.Int.Input(
                    "hidden",
                    default=64,
                    min=1,
                    max=4096,
                    tooltip="Units a layer, of a neural image.",
                    extra_dict=FOLDED,
                ),
                io.Int.Input(
                    "layers", default=3, min=1, max=64, tooltip="Hidden layers, of a neural image.", extra_dict=FOLDED
                ),
                io.Int.Input(
                    "channels",
                    default=4,
                    min=1,
                    max=256,
                    tooltip="Of a latent: 4 for SD 1.5 and SDXL, 16 for SD 3 and Flux, 128 for Flux 2.",
                    extra_dict=FOLDED,
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
                io.Int.Input(
                    "cell",
                    default=CELL,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="Pixels a side of the model's latent cell: 8 for most models, 16 for Flux 2, 32 for "
                    "HunyuanImage 2.1, 1 for models that work on pixels. Width and height are multiples of it.",
                    extra_dict=FOLDED,
                ),
                *fitted.inputs(),
                *repeats(),
            ],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
            hidden=[io.Hidden.unique_id],
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
        cell: int = CELL,
        image: Tensor | None = None,
        fit_steps: int = fitted.STEPS,
        aspect: str = fitted.AS_SET,
        vae: VAE | None = None,
        model: ModelPatcher | None = None,
        **repeated: str | int,
    ) -> io.NodeOutput:
        width, height = fitted.size_for(aspect, width, height, image, cell)
        check_size(width, height, cell)
        check_choice("representation", representation, [kind for kind in GENERATORS if kind not in ELSEWHERE])
        kind = GENERATORS[representation]
        takes = inspect.signature(kind).parameters
        options = {name: value for name, value in (("hidden", hidden), ("layers", layers)) if name in takes}
        options |= _repeated(representation, repeated)
        check_distillation(representation, width, height, n=batch, options={"hidden": hidden, "layers": layers})
        with grad_mode():
            made = [
                generator_for_size(representation, width, height, seed=own, channels=channels, cell=cell, **options)
                for own in ((seed + i) % 2**64 for i in range(batch))
            ]
            latent_format = fitted.latent_format_of(model, channels, cell) if representation == "latent" else None
            if image is not None:
                pictures = fitted.check_image(image, batch)
                encode = fitted.stock_encoder(vae, latent_format) if representation == "latent" else None
                node_id = cls.hidden.unique_id if cls.hidden else None
                made = fitted.fit_all(made, pictures, fit_steps, encode, node_id)
            return io.NodeOutput(HostGenerator(made[0] if batch == 1 else Batch(made), latent_format))


def repeats() -> list[io.Input]:
    """Tile and symmetry of a neural image."""
    return [widget(entry, name, optional=True) for name, entry in settings_of(NeuralImageSettings).items()]


def _repeated(representation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What ``given`` says of tile and symmetry, for a neural image.

    Raises:
        ValueError: it says something to a kind that has neither.
    """
    if getattr(GENERATORS[representation], "settings", None) is NeuralImageSettings:
        return dict(given)
    for name in ("tile", "symmetry"):
        if given.get(name, "none") != "none":
            raise ValueError(
                f"{name}: got {given[name]!r} with the representation {representation!r}; allowed is 'none' there; "
                "choose fourier, siren or hashgrid"
            )
    return {}


class RenderGenerator(io.ComfyNode):
    """A generator drawn at any size, as IMAGE and as LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_RenderGenerator",
            display_name="Render Generator",
            category=CATEGORY,
            is_output_node=True,
            description="Draws a generator at any size. The VAE decodes a latent generator, and encodes every other.",
            search_aliases=["mean-shift distillation", "upscale", "zoom", "draw neural image"],
            inputs=[
                GeneratorSocket.Input("generator"),
                io.Int.Input("width", default=512, min=1, max=16384, tooltip="Pixels."),
                io.Int.Input("height", default=512, min=1, max=16384, tooltip="Pixels."),
                io.Vae.Input("vae", optional=True, tooltip="For the output that is not the generator's own."),
                *views.inputs(),
                io.Int.Input(
                    "repeat",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="Tiles a side: a generator with tile, drawn so often beside itself: how it repeats.",
                    extra_dict=FOLDED,
                ),
            ],
            outputs=[io.Image.Output("image", display_name="image"), io.Latent.Output("latent", display_name="latent")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        generator: HostGenerator,
        width: int,
        height: int,
        vae: VAE | None = None,
        scale: float = 0.0,
        left: float = 0.0,
        top: float = 0.0,
        right: float = 1.0,
        bottom: float = 1.0,
        repeat: int = 1,
    ) -> io.NodeOutput:
        note_all(cls.hidden.extra_pnginfo if cls.hidden else None, generator)
        across = repeats_of(generator, repeat)
        vae = None if vae is None else check_there(vae)
        latent_space = generator.generator.space == "latent"
        if latent_space and not scale:
            check_size(width, height, generator.canvas.cell)
        view = views.view_of(generator.canvas, width, height, scale, (left, top, right, bottom))
        if not scale and (stretched := views.stretch_of(generator.canvas, view)):
            tell(cls.hidden.unique_id if cls.hidden else None, stretched)
        if vae is not None and not latent_space:
            check_encoding(vae, across[1] * view.box[2], across[0] * view.box[3], generator.generator.rows)
        if latent_space:
            latent = draw_latent(generator, view)
            if vae is not None:
                check_vae(vae, generator.latent_format)
            image = blocked(cls, "image", "decode the latent") if vae is None else vae.decode(latent["samples"]).float()
        else:
            image = repeated(draw_image(generator, view), across)
            latent = blocked(cls, "latent", "encode the image") if vae is None else encoded(vae, image)
        empty = vae is None and latent_space
        shown = None if empty else ui.PreviewImage(bounded(image), cls=cls)
        return io.NodeOutput(image, latent, ui=shown)


def repeats_of(generator: HostGenerator, repeat: int) -> tuple[int, int]:
    """How often a picture stands beside itself, across and down, where it repeats along both or one of these.

    Raises:
        ValueError: it repeats along neither.
    """
    drawn = generator.generator
    one = drawn[0] if isinstance(drawn, Batch) else drawn
    axes = str(one.config().get("tile", "none")).replace("none", "")
    if repeat > 1 and not axes:
        raise ValueError(
            f"repeat: got {repeat} for a picture that does not repeat; allowed is 1 there; set tile in Neural Image "
            "Generator to x, y or xy"
        )
    return repeat if "x" in axes else 1, repeat if "y" in axes else 1


def repeated(image: Tensor, across: tuple[int, int]) -> Tensor:
    """IMAGE (B, H, W, 3) so often beside itself, across and down.

    Raises:
        ValueError: it would take more memory than there is.
    """
    if across == (1, 1):
        return image
    height, width = image.shape[1:3]
    check_render(across[0] * width, across[1] * height, n=len(image))
    return image.repeat(1, across[1], across[0], 1)


def blocked(node: type[io.ComfyNode], output: str, purpose: str) -> ExecutionBlocker:
    """An output that cannot be given; whatever is connected to it says why."""
    name = node.define_schema().display_name
    return ExecutionBlocker(f"{name}: {output} needs the VAE to {purpose}; connect one.")


def render_image(generator: HostGenerator, width: int, height: int) -> Tensor:
    """IMAGE (B, height, width, 3) of an image generator, all of it."""
    return draw_image(generator, View(height, width))


def draw_image(generator: HostGenerator, view: View) -> Tensor:
    """IMAGE (B, h, w, 3) of a view's window, one picture a member, drawn tile by tile on the host's device.

    Each tile gives way to the host's Cancel, and moves the node's progress bar where there are several.
    """
    drawn, (height, width) = generator.generator, view.box[2:]
    if drawn.windows:
        check_render(width, height, n=drawn.rows)
    else:
        check_render(view.width, view.height, whole=True, n=drawn.rows)
    drawn = on_host(drawn)
    tiles = len(tiles_of(drawn, height, width))
    given_way = (
        Progress(tiles).update if tiles > 1 else comfy.model_management.throw_exception_if_processing_interrupted
    )
    image = torch.empty(drawn.rows, height, width, 3)
    for top, left, tile in render_tiles(drawn, view.height, view.width, window=view.window):
        rows, columns = tile.shape[-2:]
        image[:, top : top + rows, left : left + columns] = tile.movedim(1, -1).clamp(0, 1)
        given_way()
    return image


def on_host(generator: T) -> T:
    """A generator on the host's device: itself if it is there, else a copy."""
    return on_device(generator, comfy.model_management.get_torch_device())


def check_encoding(vae: VAE, height: int, width: int, n: int) -> None:
    """Refuse to encode pictures that would take more memory than there is.

    Raises:
        ValueError: it would.
    """
    fix = "Draw a smaller picture, or disconnect the VAE: the image needs none."
    check_fits("vae", f"a picture of {width}x{height}", vae_bytes(vae, height, width, n=n), fix)


def encoded(vae: VAE, image: Tensor) -> dict[str, Tensor]:
    """LATENT of an IMAGE (B, H, W, 3); errors of `check_encoding`."""
    check_encoding(vae, *image.shape[1:3], len(image))
    return {"samples": vae.encode(image).float()}  # the host may be told to keep half precision


def bounded(image: Tensor) -> Tensor:
    """IMAGE (B, H, W, 3) with no side above `PREVIEW_LARGEST`, averaged down in proportion where one is."""
    height, width = image.shape[1:3]
    share = PREVIEW_LARGEST / max(height, width)
    if share >= 1:
        return image
    size = [max(1, round(side * share)) for side in (height, width)]
    return F.adaptive_avg_pool2d(image.movedim(-1, 1), size).movedim(1, -1)


def render_latent(generator: HostGenerator, width: int, height: int) -> dict[str, Tensor]:
    """LATENT of a latent generator at a size in pixels, in the host's own scale."""
    cell = generator.canvas.cell
    check_size(width, height, cell)
    return draw_latent(generator, View(height // cell, width // cell))


def draw_latent(generator: HostGenerator, view: View) -> dict[str, Tensor]:
    """LATENT of a view's window, in latent cells, in the host's own scale."""
    if generator.latent_format is None:
        raise ValueError(
            "generator: this latent has not met a model yet, so its scale is unknown; put a step node before it, or "
            "connect the model to Neural Image Generator"
        )
    with torch.no_grad():
        x = render_part(generator.generator, view)
        return {"samples": generator.latent_format.process_out(x).float().cpu()}


NODES = [NeuralImageGenerator, RenderGenerator]
