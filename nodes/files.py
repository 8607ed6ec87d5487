"""Save Generator, Load Generator and Generator Info: a generator outlives the session of the host."""

from __future__ import annotations

from comfy_api.latest import io, ui

from . import stored
from .about import described, entries_for, latent_format_of, of_file
from .bandwidth import CATEGORY
from .generators import GeneratorSocket, HostGenerator
from .grad import grad_mode
from .progress import tell
from .schema import schema


class SaveGenerator(io.ComfyNode):
    """`msd_core.save_generator` into the host's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_SaveGenerator",
            display_name="Save Generator",
            category=CATEGORY,
            is_output_node=True,
            description="Writes a generator into the output folder, with the workflow that made it. Load Generator "
            "goes on with it another day; dropped on the canvas, the file brings the workflow back.",
            search_aliases=["save neural image", "safetensors"],
            inputs=[
                GeneratorSocket.Input("generator"),
                io.String.Input(
                    "filename_prefix",
                    default="generators/msd",
                    tooltip="Name in the output folder, a number follows; with folders, and %year%, %month%, %day%, "
                    "%width%, %height% as in Save Image.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, generator: HostGenerator, filename_prefix: str) -> io.NodeOutput:
        from ..msd_core.generators.files import save_generator

        graph, extra, node_id = (
            (cls.hidden.prompt, cls.hidden.extra_pnginfo, cls.hidden.unique_id) if cls.hidden else (None, None, None)
        )
        entries, told = entries_for(generator, graph, extra)
        path = stored.new_path(filename_prefix, generator.canvas.width, generator.canvas.height)
        save_generator(generator.generator, path, entries)
        text = f"saved as output/{stored.name_of(path)}" + (f", {told}" if told else "")
        tell(node_id, text)
        return io.NodeOutput(ui=ui.PreviewText(text))


class LoadGenerator(io.ComfyNode):
    """`msd_core.load_generator` from the host's input and output folders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_LoadGenerator",
            display_name="Load Generator",
            category=CATEGORY,
            description="Reads a generator that was saved, or the state that a stopped step has kept.",
            search_aliases=["load neural image", "safetensors", "go on"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=stored.listed(),
                    tooltip="Generators and kept states (msd_unfinished) in the input and output folders, the newest "
                    "first. R reloads the list.",
                )
            ],
            outputs=[GeneratorSocket.Output("generator", display_name="generator")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """By the file and not by the list, which may be older."""
        try:
            return file is None or bool(stored.path_of(file))
        except ValueError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> str:
        """Another content is another generator."""
        return stored.digest(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        with grad_mode():
            generator, entries = stored.read(file)
            latent_format = latent_format_of(entries, generator)
            return io.NodeOutput(HostGenerator(generator, latent_format, {"file": file, **of_file(entries)}))


class GeneratorInfo(io.ComfyNode):
    """What a generator is, in words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_GeneratorInfo",
            display_name="Generator Info",
            category=CATEGORY,
            is_output_node=True,
            description="Kind, size and parameters of a generator, and what it or its file says of how it was made.",
            search_aliases=["inspect neural image", "metadata"],
            inputs=[GeneratorSocket.Input("generator")],
            outputs=[io.String.Output("info", display_name="info")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, generator: HostGenerator) -> io.NodeOutput:
        text = described(generator)
        tell(cls.hidden.unique_id if cls.hidden else None, text)
        return io.NodeOutput(text, ui=ui.PreviewText(text))


NODES = [SaveGenerator, LoadGenerator, GeneratorInfo]
