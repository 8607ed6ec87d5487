"""Vector, Pixel Art and Sticker Generator: pictures of a kind that no model samples, and the files they are for.

The widgets are made from the settings of the kind (`VectorSettings`, `PixelArtSettings`, `StickerSettings`).
"""

from __future__ import annotations

import copy
import dataclasses
import io as streams
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..msd_core.atomic import replacing
from ..msd_core.echo import shown
from ..msd_core.generators.base import View
from ..msd_core.generators.batch import Batch
from ..msd_core.generators.pixel_art import PixelArtSettings, palette_from, png_of, sheet_of
from ..msd_core.generators.registry import checked_options, generator_for_size
from ..msd_core.generators.sticker import StickerSettings
from ..msd_core.generators.tiles import tiles
from ..msd_core.generators.vector.drawing import OWN
from ..msd_core.generators.vector.shapes import Vector, VectorSettings
from ..msd_core.generators.vector.svg_read import read_svg
from ..msd_core.memory import check_distillation, check_render
from ..msd_core.settings import settings_of
from . import fitted, stored
from .bandwidth import CATEGORY
from .generators import GeneratorSocket, HostGenerator, bounded, on_host, render_image
from .grad import grad_mode
from .named import note_all
from .progress import Progress, tell
from .schema import FOLDED, schema, seed_input
from .widgets import widget

if TYPE_CHECKING:
    from ..msd_core.generators.base import Generator


STROKES = ("strokes", "stroke_width", "fixed_width", "stroke_segments", "closed_strokes")
"""Settings of a vector picture that came later: their widgets stand last, where saved workflows know nothing."""


def _canvas() -> list[io.Input]:
    """Size, seed and batch."""
    at = "Pixels. Optimised at this size; drawn at any afterwards."
    return [
        io.Int.Input("width", default=512, min=8, max=8192, step=8, tooltip=at),
        io.Int.Input("height", default=512, min=8, max=8192, step=8, tooltip=at),
        seed_input("Of where it starts."),
        io.Int.Input(
            "batch",
            default=1,
            min=1,
            max=64,
            tooltip="Pictures side by side, with the seeds seed, seed + 1, ...: a sheet of variants in one run.",
        ),
    ]


def _own(owner: type, *later: str) -> list[io.Input]:
    """A widget for each setting of a kind, but for ``later`` ones."""
    return [widget(entry, entry.flag) for name, entry in settings_of(owner).items() if name not in later]


def _begin(tooltip: str) -> list[io.Input]:
    return [
        io.Image.Input("image", optional=True, tooltip=tooltip),
        io.Int.Input(
            "fit_steps",
            default=fitted.STEPS,
            min=1,
            max=10000,
            optional=True,
            tooltip="Steps at most of fitting to the image, 100 to 1000 are usual.",
            extra_dict=FOLDED,
        ),
    ]


def born(
    kind: str,
    size: tuple[int, int],
    seed: int,
    batch: int,
    options: dict[str, Any],
    begin: Callable[[list[Generator]], list[Generator]],
) -> io.NodeOutput:
    """The generators of a kind, as ``begin`` begins them, on a socket."""
    options = checked_options(kind, options)
    check_distillation(kind, *size, n=batch, options=options)
    with grad_mode():
        seeds = [(seed + i) % 2**64 for i in range(batch)]
        return _told(begin([generator_for_size(kind, *size, seed=own, **options) for own in seeds]))


def _told(made: list[Generator]) -> io.NodeOutput:
    """One generator, or several as a batch, on a socket."""
    return io.NodeOutput(HostGenerator(made[0] if len(made) == 1 else Batch(made)))


def _only(name: str, image: Tensor) -> Tensor:
    """The one picture of an IMAGE."""
    if len(image) > 1:
        raise ValueError(f"{name}: got {len(image)} of them; allowed is one; take one out of the batch")
    return fitted.check_image(image, 1, name)


def _fitting(
    node: type[io.ComfyNode], image: Tensor | None, steps: int
) -> Callable[[list[Generator]], list[Generator]]:
    """What fits generators to an IMAGE, if there is one."""

    def begin(made: list[Generator]) -> list[Generator]:
        if image is None:
            return made
        node_id = node.hidden.unique_id if node.hidden else None
        return fitted.fit_all(made, fitted.check_image(image, len(made)), steps, None, node_id)

    return begin


class VectorGenerator(io.ComfyNode):
    """`Vector` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_VectorGenerator",
            display_name="Vector Generator",
            category=CATEGORY,
            description="A picture as filled shapes with smooth outlines, as stroked lines, or both, which any step "
            "optimises: sharp at every size, a few kB as an SVG, and edited by hand in any drawing program.",
            search_aliases=[
                "svg",
                "vector graphics",
                "bezier",
                "logo",
                "icon",
                "vectorise",
                "trace",
                "stroke",
                "line drawing",
                "sketch",
            ],
            inputs=[
                *_canvas(),
                *_own(VectorSettings, *STROKES),
                *_begin(
                    "Shapes and strokes begin as a drawing of this picture; a step then goes on from it. One, or one a "
                    "picture of the batch."
                ),
                io.SVG.Input(
                    "svg",
                    optional=True,
                    tooltip="It begins as this SVG: filled and stroked paths on a ground. How many there are, and "
                    "their curves, is its own affair.",
                ),
                *(
                    widget(entry, name, optional=True)
                    for name, entry in settings_of(VectorSettings).items()
                    if name in STROKES
                ),
            ],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        seed: int,
        batch: int = 1,
        image: Tensor | None = None,
        fit_steps: int = fitted.STEPS,
        svg: io.SVG.Type | None = None,
        **options: Any,  # noqa: ANN401 - checked by the settings
    ) -> io.NodeOutput:
        if svg is None:
            return born("vector", (width, height), seed, batch, options, _fitting(cls, image, fit_steps))
        if image is not None:
            raise ValueError("svg: got one beside an image; allowed is one of the two; disconnect the other")
        if len(svg.data) not in (1, batch):
            raise ValueError(
                f"svg: got {len(svg.data)} documents for a batch of {batch}; allowed is one, or one a picture; set "
                f"batch to {len(svg.data)}"
            )
        own = {name: value for name, value in options.items() if name not in OWN}
        with grad_mode():
            made = [Vector.of_drawing(read_svg(part.getvalue()), width, height, **own) for part in svg.data]
            largest = max(made, key=lambda one: one.made.paths + one.made.strokes)
            check_distillation("vector", width, height, n=batch, options=dataclasses.asdict(largest.made))
            return _told(made if len(made) == batch else [copy.deepcopy(made[0]) for _ in range(batch)])


class PixelArtGenerator(io.ComfyNode):
    """`PixelArt` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_PixelArtGenerator",
            display_name="Pixel Art Generator",
            category=CATEGORY,
            description="A picture of a few cells in a few colours, which any step optimises: a sprite whose palette "
            "the picture is made for, and not cut down to.",
            search_aliases=["sprite", "palette", "8-bit", "retro", "game asset"],
            inputs=[
                *_canvas(),
                *_own(PixelArtSettings),
                *_begin("The cells begin with this picture, and a learned palette with its colours."),
                io.Image.Input(
                    "palette_image",
                    optional=True,
                    tooltip="Its colours, as many as the widget says, are the palette; they are not changed.",
                ),
            ],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        seed: int,
        batch: int = 1,
        image: Tensor | None = None,
        fit_steps: int = fitted.STEPS,
        palette_image: Tensor | None = None,
        **options: Any,  # noqa: ANN401 - checked by the settings
    ) -> io.NodeOutput:
        if palette_image is not None:
            if options.get("palette"):
                raise ValueError(
                    f"palette: got {shown(options['palette'])} beside a palette_image; allowed is one of the two; "
                    "empty the widget, or disconnect the image"
                )
            with grad_mode():
                picture = _only("palette_image", palette_image)
                options["palette"] = palette_from(picture, options.get("colours", PixelArtSettings.colours))
        return born("pixel-art", (width, height), seed, batch, options, _fitting(cls, image, fit_steps))


class StickerGenerator(io.ComfyNode):
    """`Sticker` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_StickerGenerator",
            display_name="Sticker Generator",
            category=CATEGORY,
            description="A picture with transparency, seen before another ground in each step, so that the ground does "
            "not get into it. Sticker to Image gives the picture and its mask.",
            search_aliases=["transparent", "alpha", "rgba", "cutout", "sprite", "matte"],
            inputs=[*_canvas(), *_own(StickerSettings)],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
        )

    @classmethod
    def execute(cls, width: int, height: int, seed: int, batch: int = 1, **options: Any) -> io.NodeOutput:  # noqa: ANN401
        return born("sticker", (width, height), seed, batch, options, lambda made: made)


class StickerToImage(io.ComfyNode):
    """Colour and opacity of a sticker, apart."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_StickerToImage",
            display_name="Sticker to Image",
            category=CATEGORY,
            description="The colours of a sticker, and where it is transparent as a mask, 1 for transparent, as the "
            "host's Join Image with Alpha has it.",
            search_aliases=["alpha", "mask", "rgba", "cutout"],
            inputs=[
                GeneratorSocket.Input("generator"),
                io.Int.Input("width", default=512, min=1, max=4096, tooltip="Pixels."),
                io.Int.Input("height", default=512, min=1, max=4096, tooltip="Pixels."),
            ],
            outputs=[io.Image.Output("image", display_name="image"), io.Mask.Output("mask", display_name="mask")],
            hidden=[io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, generator: HostGenerator, width: int, height: int) -> io.NodeOutput:
        note_all(cls.hidden.extra_pnginfo if cls.hidden else None, generator)
        drawn = members(generator, "sticker", "Sticker Generator")
        check_render(width, height, n=2 * len(drawn))
        image, mask = torch.empty(len(drawn), height, width, 3), torch.empty(len(drawn), height, width)
        places = tiles(height, width)
        progress = Progress(len(drawn) * len(places))
        for number, member in enumerate(map(on_host, drawn)):
            for top, left, rows, columns in places:
                with torch.no_grad():
                    rgba = member.rgba(View(height, width, (top, left, rows, columns)))[0].movedim(0, -1).clamp(0, 1)
                where = number, slice(top, top + rows), slice(left, left + columns)
                image[where], mask[where] = rgba[..., :3], 1 - rgba[..., 3]
                progress.update()
        return io.NodeOutput(image, mask)


class GeneratorToSVG(io.ComfyNode):
    """The SVG documents of a vector generator."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_GeneratorToSVG",
            display_name="Vector to SVG",
            category=CATEGORY,
            is_output_node=True,
            description="A vector generator as an SVG, one a picture, for Save SVG and for everything else that takes "
            "one. Shows the picture, and says how many shapes and bytes it has.",
            search_aliases=["export svg", "save vector"],
            inputs=[GeneratorSocket.Input("generator")],
            outputs=[io.SVG.Output("svg", display_name="svg"), io.Image.Output("image", display_name="image")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, generator: HostGenerator) -> io.NodeOutput:
        documents = [member.export("picture.svg") for member in members(generator, "vector", "Vector Generator")]
        told = ", ".join(f"{text.count(b'<path')} shapes, {len(text)} bytes" for text in documents)
        tell(cls.hidden.unique_id if cls.hidden else None, told)
        image = render_image(generator, generator.canvas.width, generator.canvas.height)
        document = io.SVG.Type([streams.BytesIO(text) for text in documents])
        return io.NodeOutput(document, image, ui=ui.PreviewImage(bounded(image), cls=cls))


class SavePixelArt(io.ComfyNode):
    """PNG files with a palette."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_SavePixelArt",
            display_name="Save Pixel Art",
            category=CATEGORY,
            is_output_node=True,
            description="Writes pixel art as PNG files with a palette, each cell a square of a whole number of pixels: "
            "what a game engine or a pixel editor wants.",
            search_aliases=["save sprite", "export palette png", "indexed png"],
            inputs=[
                GeneratorSocket.Input("generator"),
                io.String.Input(
                    "filename_prefix",
                    default="sprites/msd",
                    tooltip="Name in the output folder, a number follows; with folders, as in Save Image.",
                ),
                io.Int.Input(
                    "scale",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Pixels a side of a cell. 1: one pixel a cell, for engines and editors; 8 to 16 to see.",
                ),
                io.Boolean.Input(
                    "sheet",
                    default=False,
                    optional=True,
                    tooltip="A batch as one file, in rows from the left, with one palette: a sprite sheet.",
                ),
            ],
            outputs=[io.Image.Output("image", display_name="image")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, generator: HostGenerator, filename_prefix: str, scale: int, sheet: bool = False) -> io.NodeOutput:
        names = []
        drawn = members(generator, "pixel-art", "Pixel Art Generator")
        sprites = [(member.numbers(), member.colours().detach()) for member in drawn]
        for numbers, colours in [sheet_of(sprites)] if sheet else sprites:
            rows, columns = numbers.shape
            path = stored.new_path(filename_prefix, columns * scale, rows * scale, ".png")
            with replacing(path) as partial:
                partial.write_bytes(png_of(numbers, colours, scale))
            names.append(stored.name_of(path))
        tell(cls.hidden.unique_id if cls.hidden else None, "saved as " + ", ".join(f"output/{name}" for name in names))
        image = render_image(generator, generator.canvas.width, generator.canvas.height)
        return io.NodeOutput(image, ui=ui.PreviewImage(bounded(image), cls=cls))


def members(generator: HostGenerator, kind: str, node: str) -> list[Any]:
    """The generators one by one, all of a kind.

    Raises:
        ValueError: they are of another.
    """
    drawn = generator.generator
    found = [drawn[i] for i in range(drawn.rows)] if isinstance(drawn, Batch) else [drawn]
    if found[0].kind != kind:
        raise ValueError(
            f"generator: got one of kind {found[0].kind!r}; allowed is {kind!r} here; begin with {node}, and connect "
            "what a step makes of it"
        )
    return found


NODES = [VectorGenerator, PixelArtGenerator, StickerGenerator, GeneratorToSVG, SavePixelArt, StickerToImage]
