"""Edit: `msd_core.edit` with the host's model, towards a prompt alone, or from the picture's own prompt to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.inversion import INVERSIONS
from ..msd_core.manipulation.editing import EDITING, by_ddim
from ..msd_core.validation import check_choice
from .bandwidth import CATEGORY
from .beside import SOURCE, cfg_of, with_source
from .existing import (
    cfg_input,
    check_masks,
    decimal,
    feather_input,
    mask_of,
    model_inputs,
    picture_outputs,
    run_each,
    steps_input,
)
from .fits import check_conditioning
from .guiders import Conditioning, make_guider
from .schema import FOLDED, schema, seed_input

if TYPE_CHECKING:
    from ..msd_core.manipulation import Manipulated
    from ..msd_core.model import Model

UP = {"implicit": 5, "implicit-heun": 10, "implicit-dpmpp-2m": 19, "renoise": 4, "direct": 2, "rf-solver": 2}
DOWN = {"implicit-heun": 2, "rf-solver": 2}
"""About how many evaluations a step takes each way, where it is not one: for the progress bar."""


class Edit(io.ComfyNode):
    """`msd_core.edit`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        shows = "What the picture shows now, if known: keeps more of it. Then strength plays no part."
        ways = "How the picture becomes noise. Without source_positive: those that DDIM leads back from. edit-friendly "
        ways += "and flow-edit keep most of the picture."
        return schema(
            node_id="MSD_Edit",
            display_name="DreamSampler Edit",
            category=CATEGORY,
            description="A picture edited by words: its inversion, brought back towards the prompt. The layout stays.",
            search_aliases=["edit by prompt", "instruct", "image editing", "inversion edit", "FlowEdit"],
            inputs=[
                io.Image.Input("image"),
                io.Vae.Input("vae"),
                steps_input(40, "three evaluations"),
                decimal("strength", 0.2, 100.0, "Of the words, per 200 steps: it does not depend on steps."),
                *model_inputs("What the picture shall show."),
                io.Mask.Input("mask", optional=True, tooltip="Where the picture may change; everywhere without it."),
                feather_input(),
                io.Conditioning.Input("source_positive", optional=True, tooltip=shows),
                cfg_input(tooltip="Of the way back, with source_positive; 1 = no guidance.", optional=True),
                io.Combo.Input("inversion", options=EDITING, default="uni-inv", optional=True, tooltip=ways),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    optional=True,
                    tooltip="How far the picture is noised: less keeps more of it.",
                ),
                cfg_input(
                    "source_cfg",
                    "Guidance of the way to noise, with source_positive: 1 inverts best.",
                    optional=True,
                    extra_dict=FOLDED,
                ),
                seed_input("Of the noise, where an inversion draws some.", optional=True),
            ],
            outputs=picture_outputs(),
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        vae: VAE,
        steps: int,
        strength: float,
        model: ModelPatcher | None = None,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        guider: CFGGuider | None = None,
        mask: Tensor | None = None,
        feather: float = 4.0,
        source_positive: Conditioning | None = None,
        cfg: float = 1.0,
        inversion: str = "uni-inv",
        denoise: float = 1.0,
        source_cfg: float = 1.0,
        seed: int = 0,
    ) -> io.NodeOutput:
        from ..msd_core.manipulation import edit

        check_masks(mask, image)
        check_choice("inversion", inversion, EDITING)
        options = {"steps": steps, "denoise": denoise, "feather": feather, "inversion": inversion}
        if source_positive is None:
            _check_without_source(cfg if guider is None else 1.0, source_cfg)
            hint = "an edit goes from the one prompt towards the other"
            guider, source = make_guider(model, positive, negative, 3.0, guider, hint), ""
            options["strength"] = strength
        else:
            check_conditioning("source_positive", source_positive)
            guider = make_guider(model, positive, negative, cfg, guider)
            if source_cfg != 1 and "negative" not in guider.original_conds:
                raise ValueError(
                    f"source_cfg: got {source_cfg:g} without a negative conditioning to guide against; allowed is 1 "
                    "there; connect negative, or set source_cfg to 1"
                )
            guider = with_source(guider, source_positive)
            source = SOURCE
            options |= {"cfg": cfg_of(guider), "source_cfg": source_cfg}

        def make(picture: Tensor, number: int, known: Model) -> Manipulated:
            where, own = mask_of(mask, number, picture), (seed + number) % 2**64
            return edit(picture, "", source, model=known, mask=where, seed=own, **options)

        up, down = UP.get(inversion, 1), DOWN.get(inversion, 1)
        if inversion == "direct" and options.get("cfg") == source_cfg:
            up = 1
        if source and mask is not None and not by_ddim(INVERSIONS[inversion]):
            down *= 2  # the picture's own caption is asked, too
        calls = (up + down) * steps + 1
        return run_each(guider, vae, image, make, size=tuple(image.shape[1:3]), evaluations=calls)


def _check_without_source(cfg: float, source_cfg: float) -> None:
    """Refuse guidance of an edit that has none."""
    for name, scale in (("cfg", cfg), ("source_cfg", source_cfg)):
        if scale != 1:
            raise ValueError(
                f"{name}: got {scale:g} without source_positive; allowed is 1 there, strength says how the words act; "
                "connect the prompt of what the picture shows now, or set it to 1"
            )


NODES = [Edit]
