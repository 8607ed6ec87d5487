"""What is measured of a picture that was made inside ComfyUI: holes, before and after the paste, and restorations."""

from __future__ import annotations

from typing import Any

import torch
from comfy_extras.nodes_mask import ImageCompositeMasked
from host_ways import HOLES, RESTORED, Given, Loaded, call
from msd_pack.msd_core.demo.judge import judge
from msd_pack.msd_core.demo.scenes import Scene, caption
from msd_pack.msd_core.manipulation.inpainting import without
from msd_pack.msd_core.measurement import Measurement, observe
from msd_pack.msd_core.measurement.blur import Blur
from msd_pack.msd_core.measurement.pool import Pool
from msd_pack.msd_core.research.studies.drawn_pictures import psnr
from msd_pack.msd_core.research.studies.existing import holes
from msd_pack.nodes.paste import PasteKnown
from torch import Tensor

TASKS: dict[str, tuple[str, Measurement, float]] = {
    "x4": ("x4", Pool(4), 0.0),
    "x8": ("x8", Pool(8), 0.0),
    "blur of 4": ("blur", Blur(4.0), 0.01),
    "noise of .1": ("noise", Pool(1), 0.1),
}
"""Name to the task of **Measurement**, the operator and the noise."""
KINDS = ("half of a thing", "box")
WHOLE = 99.0
"""What stands for a PSNR of pixels that are the same to the bit, dB."""


def image_of(picture: Tensor) -> Tensor:
    """IMAGE (1, H, W, 3) of (1, 3, H, W)."""
    return picture.movedim(1, -1).contiguous()


def picture_of(image: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1] of an IMAGE."""
    return image.movedim(-1, 1).clamp(0, 1).float()


def seam(made: Tensor, truth: Tensor, hole: Tensor) -> float:
    """Mean error of the jump across the edge of ``hole`` (H, W) against the true picture's, both (1, 3, H, W).

    Of every two neighbouring pixels of which one lies in the hole: |(a - b) - (a_true - b_true)|, in levels of 255.
    """
    total, count = 0.0, 0
    for dim in (0, 1):
        across = hole.bool().diff(dim=dim)
        off = (made - truth).diff(dim=dim + 2).abs().mean(dim=(0, 1))
        total, count = total + float(off[across].sum()), count + int(across.sum())
    return 255 * total / max(count, 1)


def filled(loaded: Loaded, scene: Scene, picture: Tensor, kind: str, name: str, seed: int) -> tuple[dict, Tensor]:
    """The figures of a hole by one way, and the pasted picture."""
    way, paste = HOLES[name]
    hole = holes(scene, picture.shape[-1])[kind]
    hidden, mask = image_of(without(picture, hole[None, None])), hole[None]
    before = loaded.rows
    own = way(Given(loaded, hidden, caption(scene), seed, mask))
    rows, whole = loaded.rows - before, own
    if paste == "known":
        whole = call(PasteKnown, image=own, known=hidden, mask=mask, feather=4.0)[0]
    elif paste == "composite":
        inputs = {"destination": hidden, "source": own, "x": 0, "y": 0, "resize_source": False, "mask": mask}
        whole = call(ImageCompositeMasked, **inputs)[0]
    made, raw, inside = picture_of(whole), picture_of(own), hole > 0
    figures = {
        "accepted": float(judge(made[0], scene).accepted),
        "PSNR": psnr(made[..., inside], picture[..., inside]),
        "kept, pasted": min(WHOLE, psnr(made[..., ~inside], picture[..., ~inside])),
        "seam, pasted": seam(made, picture, hole),
        "rows": float(rows),
    }
    if paste:
        figures |= {
            "accepted, as made": float(judge(raw[0], scene).accepted),
            "kept": psnr(raw[..., ~inside], picture[..., ~inside]),
            "seam": seam(raw, picture, hole),
        }
    return figures, made


def brought_back(loaded: Loaded, scene: Scene, picture: Tensor, task: str, name: str, seed: int) -> tuple[dict, Tensor]:
    """The figures of a restoration by one way, and the picture."""
    kind, measurement, noise = TASKS[task]
    seen = observe(picture, measurement, noise, torch.Generator().manual_seed(seed))
    before, side = loaded.rows, picture.shape[-1]
    given = Given(loaded, image_of(seen.b), caption(scene), seed, task=kind, side=side, noise=noise)
    made = picture_of(RESTORED[name](given))
    figures: dict[str, Any] = {
        "accepted": float(judge(made[0], scene).accepted),
        "PSNR": psnr(made, picture),
        "kept": psnr(measurement.apply(made), seen.b),
        "rows": float(loaded.rows - before),
    }
    return figures, made
