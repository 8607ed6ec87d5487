"""Load Demo Model: the small model that ships with the pack, as ordinary MODEL, CLIP and VAE for every stock node."""

from __future__ import annotations

from comfy_api.latest import io

from ..msd_core.model import SHIPPED
from .bandwidth import CATEGORY
from .grad import grad_mode
from .schema import schema


class LoadDemoModel(io.ComfyNode):
    """The demo model of `msd_core.demo` as host objects."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_LoadDemoModel",
            display_name="Load Demo Model",
            category=CATEGORY,
            description="A small text-to-image model that ships with the pack. It draws flat illustrations at 128×128, "
            "such as 'a red boat left of a yellow house at sea', and works with the stock nodes on any machine.",
            search_aliases=["mean-shift distillation", "msd", "toy model"],
            inputs=[
                io.Combo.Input(
                    "world",
                    options=list(SHIPPED),
                    default="demo",
                    optional=True,
                    tooltip="What it draws. demo: illustrations; solids: two-coloured solids seen from all sides, with "
                    "words for the view, for 3-D: 'a large red cube with a blue back on a white background, front "
                    "view'.",
                )
            ],
            outputs=[io.Model.Output("MODEL"), io.Clip.Output("CLIP"), io.Vae.Output("VAE")],
        )

    @classmethod
    def execute(cls, world: str = "demo") -> io.NodeOutput:
        from ..msd_core.model import load_model
        from .demo_model import clip_of, model_of, vae_of

        with grad_mode():
            demo = load_model(kind=world)
        return io.NodeOutput(model_of(demo), clip_of(demo), vae_of(demo))


NODES = [LoadDemoModel]
