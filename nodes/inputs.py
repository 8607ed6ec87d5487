"""Pictures and masks that come into a step beside its generator: the host's layout and ours, and what is refused.

    IMAGE (B, H, W, 3)  ->  (B, 3, H, W)          MASK (H, W) or (B, H, W)  ->  (B, 1, H, W), both in [0, 1]

A source has the size of the generator. A mask may be of any size, as long as it has the picture's proportions: it is
averaged to what is pulled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .cells import CELL
from .grad import owned

if TYPE_CHECKING:
    from .generators import HostGenerator


def mask_for(mask: Tensor, generator: HostGenerator) -> Tensor:
    """The mask (B, 1, H, W) of a MASK, B = 1 or one a picture of the generator. Call inside `grad_mode()`.

    Raises:
        ValueError: it is empty or zero everywhere, of other proportions than the picture, or of a wrong number.
    """
    shape, rows, canvas = tuple(mask.shape), generator.generator.rows, generator.canvas
    if mask.numel() == 0 or mask.ndim not in (2, 3):
        raise ValueError(f"mask: got shape {shape}; allowed is (H, W) or (B, H, W), not empty; connect a MASK")
    given = owned(mask[None] if mask.ndim == 2 else mask)[:, None]
    if not bool(given.any()):
        raise ValueError(
            "mask: is 0 everywhere, so that nothing may change; allowed is one with a part above 0, where the picture "
            "may change; paint it, or disconnect it (a picture without transparency loads with an empty mask)"
        )
    if given.shape[0] not in (1, rows):
        raise ValueError(
            f"mask: got {given.shape[0]} of them for a generator of {rows}; allowed is one, or one a picture; "
            "take one out of the batch"
        )
    height, width = shape[-2:]
    off = abs(width * canvas.height - height * canvas.width) / (height * canvas.width)
    if off > CELL / min(canvas.width, canvas.height):  # what rounding both sides to cells may do
        raise ValueError(
            f"mask: got {width}x{height} for a picture of {canvas.width}x{canvas.height}; allowed is any size of the "
            "picture's proportions; crop it, or make the generator in the mask's proportions"
        )
    return given


def source_for(source: Tensor, generator: HostGenerator) -> Tensor:
    """The picture (B, 3, H, W) of an IMAGE that an edit starts from. Call inside `grad_mode()`.

    Raises:
        ValueError: it is not of the size of the generator, or not one or one a picture of it.
    """
    rows, canvas = generator.generator.rows, generator.canvas
    wanted = (canvas.height, canvas.width, 3)
    if tuple(source.shape[1:]) != wanted or source.shape[0] not in (1, rows):
        raise ValueError(
            f"source: got shape {tuple(source.shape)}; allowed is {(1, *wanted)}, or one a picture of the generator; "
            f"scale it to {canvas.width}x{canvas.height}, or make the generator in its size"
        )
    return owned(source).movedim(-1, 1)
