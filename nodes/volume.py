"""An object in space: 3-D Generator and its Cameras, prompts by view, a turntable, and a mesh.

The widgets of the first two are made from `VolumeSettings`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from comfy.sd import CLIP
from comfy_api.latest import InputImpl, Types, io, ui

from ..msd_core.atomic import replacing
from ..msd_core.generators.sticker import GROUNDS
from ..msd_core.generators.volume.camera import Camera, side_words
from ..msd_core.generators.volume.volume import VolumeSettings
from ..msd_core.memory import check_fits
from ..msd_core.settings import settings_of
from . import stored
from .bandwidth import CATEGORY
from .fits import check_conditioning
from .generators import GeneratorSocket, HostGenerator, bounded, on_host
from .grad import grad_mode
from .graphics import born, members
from .guiders import Conditioning
from .named import note_all
from .progress import Progress, tell, wait_until, withdraw_preview
from .schema import FOLDED, schema, seed_input
from .sides import SIDES, marked
from .widgets import widget

if TYPE_CHECKING:
    from ..msd_core.generators.volume.volume import Volume

OF_CAMERAS = ("views", "lowest", "highest", "distance", "fov", "vary", "shift")
"""Settings of a volume that say how it is looked at."""
OF_PROMPTS = ("blend",)
"""Settings that View Prompt and View Conditioning have in a graph."""
CamerasSocket = io.Custom("MSD_CAMERAS")
CHANNELS = 11
"""Numbers a pixel of a turntable: colour, opacity, depth and normals as pictures, and the video's."""


class Cameras(io.ComfyNode):
    """How an object is looked at while it forms."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_Cameras",
            display_name="Cameras",
            category=CATEGORY,
            description="How a 3-D Generator is looked at while it forms: how many views in each step, from which "
            "heights, how near. Leave it out for four views around, a little from above.",
            search_aliases=["views", "orbit", "elevation", "azimuth", "field of view"],
            inputs=[widget(entry, name) for name, entry in _settings().items() if name in OF_CAMERAS],
            outputs=[CamerasSocket.Output("cameras", display_name="cameras")],
        )

    @classmethod
    def execute(cls, **widgets: float) -> io.NodeOutput:
        VolumeSettings(**widgets)  # pyright: ignore[reportArgumentType] - checks them
        return io.NodeOutput(widgets)


class VolumeGenerator(io.ComfyNode):
    """`Volume` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        size = "Pixels of a view as the model sees it."
        return schema(
            node_id="MSD_VolumeGenerator",
            display_name="3-D Generator",
            category=CATEGORY,
            description="An object in space, which any step optimises: seen from several sides at once, and moved to "
            "where the model likes them all. Use a prompt by view (View Prompt), 60 steps and inner_steps 4.",
            search_aliases=["text to 3d", "nerf", "mesh", "object", "dreamfusion", "turntable", "volume"],
            inputs=[
                io.Int.Input("width", default=512, min=8, max=2048, step=8, tooltip=size),
                io.Int.Input("height", default=512, min=8, max=2048, step=8, tooltip=size),
                seed_input("Of where it starts."),
                *(widget(entry, name) for name, entry in _settings().items() if name not in OF_CAMERAS + OF_PROMPTS),
                CamerasSocket.Input("cameras", optional=True, tooltip="Without it: that node's defaults."),
            ],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        seed: int,
        cameras: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401 - checked by the settings
    ) -> io.NodeOutput:
        return born("volume", (width, height), seed, 1, {**options, **(cameras or {})}, lambda volumes: volumes)


def _settings() -> dict[str, Any]:
    """The settings of a volume by the name that checks and files know them by."""
    return {entry.name: entry for entry in settings_of(VolumeSettings).values()}


BLEND = io.Float.Input(
    "blend",
    default=0.0,
    min=0.0,
    max=90.0,
    step=5.0,
    round=False,
    optional=True,
    tooltip="Degrees over which one side goes over into the next: there both prompts count, at twice the cost. 0: each "
    "view has one prompt. 30 is usual.",
    extra_dict=FOLDED,
)
PLACEHOLDERS = ("view", "side", "ground")


class ViewPrompt(io.ComfyNode):
    """A text as a prompt by view."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_ViewPrompt",
            display_name="View Prompt",
            category=CATEGORY,
            description="A prompt that says which side is seen: an object needs one, or it grows a face on every side. "
            "In braces, the word view becomes front view, right side view, back view, left side view or overhead view, "
            "and side the same without left and right; without either, the view stands at the end. For a sticker, "
            "ground in braces becomes the name of the ground.",
            search_aliases=["view dependent prompt", "directional prompt", "janus", "text encode", "perp-neg"],
            inputs=[
                io.Clip.Input("clip"),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=False,
                    default="a cup, {side}",
                    tooltip="The prompt, with the word view or side in braces where the view belongs, or ground for a "
                    "sticker. The words in braces are filled in for each view.",
                ),
                BLEND,
            ],
            outputs=[io.Conditioning.Output("conditioning", display_name="conditioning")],
        )

    @classmethod
    def execute(cls, clip: CLIP | None, text: str, blend: float = 0.0) -> io.NodeOutput:
        if clip is None:
            raise ValueError("clip: is None, so this checkpoint has no text encoder; load one with a CLIP loader")
        entries = []
        for side, said in prompts_of(text).items():
            entries += marked(clip.encode_from_tokens_scheduled(clip.tokenize(said)), side, blend)
        return io.NodeOutput(entries)


def prompts_of(text: str) -> dict[str, str]:
    """By side, or by ground, what a text with names in braces says of it.

    Raises:
        ValueError: it has names of both.
    """
    given = [name for name in PLACEHOLDERS if f"{{{name}}}" in text]
    if "ground" in given:
        if len(given) > 1:
            raise ValueError(
                f"text: got {{{given[0]}}} and {{ground}}; allowed is one of the two: an object has sides, and a "
                "sticker grounds; leave one out"
            )
        return {name: text.replace("{ground}", name) for name in GROUNDS}
    whole = text if given else f"{text.rstrip(' ,.')}, {{view}}"
    yaws = {"front": (0, 0), "right": (90, 0), "back": (180, 0), "left": (-90, 0), "overhead": (0, 80)}
    found = {}
    for side, (yaw, pitch) in yaws.items():
        found[side] = whole
        for name, word in side_words(Camera(1, 1, yaw=yaw, pitch=pitch)).items():
            found[side] = found[side].replace(f"{{{name}}}", word)
    return found


class ViewConditioning(io.ComfyNode):
    """One conditioning a side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_ViewConditioning",
            display_name="View Conditioning",
            category=CATEGORY,
            description="A conditioning for each side of an object, as one: each view is pulled by that of the side it "
            "shows. Whatever can be done to a conditioning may be done to each before, or to all after.",
            search_aliases=["view dependent prompt", "directional prompt", "janus", "combine"],
            inputs=[
                io.Conditioning.Input("front"),
                io.Conditioning.Input("side", tooltip="From the right, and from the left if that has none of its own."),
                io.Conditioning.Input("back"),
                io.Conditioning.Input("left", optional=True, tooltip="Where left and right differ."),
                io.Conditioning.Input(
                    "overhead", optional=True, tooltip="Pitches above 60°. Without it the sides reach up to the top."
                ),
                BLEND,
            ],
            outputs=[io.Conditioning.Output("conditioning", display_name="conditioning")],
        )

    @classmethod
    def execute(
        cls,
        front: Conditioning,
        side: Conditioning,
        back: Conditioning,
        left: Conditioning | None = None,
        overhead: Conditioning | None = None,
        blend: float = 0.0,
    ) -> io.NodeOutput:
        given = (front, side, back, side if left is None else left, overhead)
        entries = []
        for name, conditioning in zip(SIDES, given, strict=True):
            if conditioning is not None:
                check_conditioning("side" if name == "right" else name, conditioning)
                entries += marked(conditioning, name, blend)
        return io.NodeOutput(entries)


class RenderTurntable(io.ComfyNode):
    """An object from all around."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_RenderTurntable",
            display_name="Render Turntable",
            category=CATEGORY,
            is_output_node=True,
            description="An object from all around: frames, and the same as a video; with its mask, depth and normals, "
            "as ControlNet takes them. One frame is a view of its own.",
            search_aliases=["video", "orbit", "render 3d", "depth map", "normal map"],
            inputs=[
                GeneratorSocket.Input("generator"),
                io.Int.Input("width", default=512, min=2, max=2048, step=2, tooltip="Pixels, an even number."),
                io.Int.Input("height", default=512, min=2, max=2048, step=2, tooltip="Pixels, an even number."),
                io.Int.Input("frames", default=48, min=1, max=720, tooltip="Around the object. 24 to 96 are usual."),
                io.Float.Input("fps", default=24.0, min=1.0, max=120.0, step=1.0, tooltip="Frames a second."),
                io.Float.Input(
                    "yaw",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=15.0,
                    tooltip="Degrees at which it begins: 0 is the front, 90 the right side.",
                ),
                io.Float.Input(
                    "pitch", default=10.0, min=-90.0, max=90.0, step=5.0, tooltip="Degrees upward; 90 is from above."
                ),
            ],
            outputs=[
                io.Image.Output("frames", display_name="frames"),
                io.Video.Output("video", display_name="video"),
                io.Mask.Output("mask", display_name="mask", tooltip="1 where nothing is."),
                io.Image.Output("depth", display_name="depth", tooltip="White is near."),
                io.Image.Output("normal", display_name="normal", tooltip="Red right, green up, blue towards you."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls, generator: HostGenerator, width: int, height: int, frames: int, fps: float, yaw: float, pitch: float
    ) -> io.NodeOutput:
        from ..msd_core.generators.volume.files import shown_from

        note_all(cls.hidden.extra_pnginfo if cls.hidden else None, generator)
        volume = _volume(generator)
        if width % 2 or height % 2:
            raise ValueError(
                f"width, height: got {width}x{height}; allowed are even numbers, since a video's colours are stored "
                f"for two by two pixels; use {width + width % 2}x{height + height % 2}"
            )
        asked = f"{frames} frames of {width}x{height}"
        check_fits("frames", asked, 4 * CHANNELS * frames * width * height, "Lower frames or the size.")
        progress = Progress(frames)
        with grad_mode(), torch.no_grad():
            images, masks, depths, normals = (torch.empty(frames, height, width, n) for n in (3, 1, 3, 3))
            for i, camera in enumerate(volume.orbit(height, width, frames, yaw=yaw, pitch=pitch)):
                seen = shown_from(volume, camera)
                parts = (seen.picture, 1 - seen.opacity, seen.depth.expand(1, 3, -1, -1), seen.normal)
                for whole, part in zip((images, masks, depths, normals), parts, strict=True):
                    whole[i] = part[0].movedim(0, -1)
                progress.update(lambda: seen.picture)  # noqa: B023  (called at once)
        gone = withdraw_preview(cls.hidden.unique_id if cls.hidden else None, images[:1])
        video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(fps)))
        shown = ui.PreviewImage(bounded(images[:1]), cls=cls)
        wait_until(gone)
        return io.NodeOutput(images, video, masks[..., 0], depths, normals, ui=shown)


POINT_BYTES = 120
"""Of memory that a point of the lattice takes while a surface is cut, measured."""


class ExtractMesh(io.ComfyNode):
    """An object's surface."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_ExtractMesh",
            display_name="Extract Mesh",
            category=CATEGORY,
            is_output_node=True,
            description="The closed surface of an object, with its colours, saved as a GLB file that Blender and game "
            "engines read. Its name goes to Preview 3D, the mesh to the host's nodes for meshes.",
            search_aliases=["glb", "gltf", "export 3d", "marching cubes", "save mesh", "3d model"],
            inputs=[
                GeneratorSocket.Input("generator"),
                io.Int.Input(
                    "resolution",
                    default=96,
                    min=8,
                    max=512,
                    tooltip="Points a side of the lattice that is cut: finer edges, and four times the triangles for "
                    "twice as many. 64 to 192 are usual.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="mesh/msd",
                    tooltip="Name in the output folder, a number follows; with folders, as in Save Image.",
                ),
            ],
            outputs=[
                io.Mesh.Output("mesh", display_name="mesh"),
                io.String.Output("model_file", display_name="model_file", tooltip="For Preview 3D."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, generator: HostGenerator, resolution: int, filename_prefix: str) -> io.NodeOutput:
        from ..msd_core.generators.volume.glb import glb_of, linear_colours
        from ..msd_core.generators.volume.mesh import extract, vertex_normals

        with grad_mode():
            given_way = comfy.model_management.throw_exception_if_processing_interrupted
            volume, path = _volume(generator), stored.new_path(filename_prefix, resolution, resolution, ".glb")
            check_fits("resolution", resolution, POINT_BYTES * resolution**3, "Lower it.")
            mesh = extract(volume, resolution, on_piece=given_way)
            with replacing(path) as partial:
                partial.write_bytes(glb_of(mesh))
            mesh = type(mesh)(*(part.cpu() for part in mesh))
            vertices, faces = mesh.vertices.float()[None], mesh.faces[None]
            more = {
                "vertex_colors": linear_colours(mesh.colours.float())[None],
                "normals": vertex_normals(mesh.vertices, mesh.faces)[None],
            }
        name = stored.name_of(path)
        told = f"saved as output/{name}: {len(mesh.vertices)} vertices, {len(mesh.faces)} triangles"
        tell(cls.hidden.unique_id if cls.hidden else None, told)
        known = inspect.signature(Types.MESH).parameters
        return io.NodeOutput(
            Types.MESH(vertices, faces, **{key: value for key, value in more.items() if key in known}),
            name,
            ui=ui.PreviewText(told),
        )


def _volume(generator: HostGenerator) -> Volume:
    """The volume of a socket, on the host's device.

    Raises:
        ValueError: it is of another kind.
    """
    [volume] = members(generator, "volume", "3-D Generator")
    return on_host(volume)


NODES = [VolumeGenerator, Cameras, ViewPrompt, ViewConditioning, RenderTurntable, ExtractMesh]
