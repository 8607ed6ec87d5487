"""Paste Known: the pixels of a picture that were to stay, put back as they were."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from .bandwidth import CATEGORY
from .existing import decimal, mean_kept
from .grad import grad_mode, owned
from .schema import schema


class PasteKnown(io.ComfyNode):
    """`manipulation.result.pasted` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_PasteKnown",
            display_name="Paste Known",
            category=CATEGORY,
            description="The pixels that were to stay, put back to the bit; the step at the edge of the mask is taken "
            "out. Says how far they were off.",
            search_aliases=["composite", "blend", "inpaint paste", "seamless", "stitch"],
            inputs=[
                io.Image.Input("image", tooltip="From VAE Decode."),
                io.Image.Input("known", tooltip="The picture before."),
                io.Mask.Input("mask", tooltip="Where the picture may be new: white."),
                decimal(
                    "feather",
                    4.0,
                    256.0,
                    "Pixels over which the step at the edge of the mask is taken out; 0 leaves it.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image"),
                io.Float.Output(
                    "kept",
                    display_name="kept",
                    tooltip="dB: how well what was to stay agreed before it was put back; -1 where nothing was.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, known: Tensor, mask: Tensor, feather: float) -> io.NodeOutput:
        from ..msd_core.manipulation.result import mask_for, pasted
        from ..msd_core.validation import as_finite

        if image.shape[1:3] != known.shape[1:3] or len(known) not in (1, len(image)):
            raise ValueError(
                f"known: got shape {tuple(known.shape)} for image {tuple(image.shape)}; allowed is the same size, one "
                "or one an image; scale it"
            )
        if mask.ndim != 3 or len(mask) not in (1, len(image)):
            raise ValueError(
                f"mask: got shape {tuple(mask.shape)} for {len(image)} images; allowed is one, or one each"
            )
        with grad_mode(), torch.no_grad():
            given = {"image": image, "known": known}
            new, old = (as_finite(name, owned(one[..., :3])).movedim(-1, 1).clamp(0, 1) for name, one in given.items())
            found = []
            for i in range(len(new)):
                was, where = (one[i if len(one) > 1 else 0][None] for one in (old, owned(mask)[:, None].clamp(0, 1)))
                found.append(pasted(new[i : i + 1], was, mask_for("mask", where, was), feather))
            made = torch.cat([picture for picture, _ in found]).movedim(1, -1)
        return io.NodeOutput(made, mean_kept([drift for _, drift in found]))


NODES = [PasteKnown]
