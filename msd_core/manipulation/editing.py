"""Edit a picture by words: its unconditional inversion, brought back with steps towards the prompt (`Edited`).

Text acts below sigma = 2 only, so the layout stays; a mask confines the change. Outside of it the state is the
inversion's own at every level, and the pixels come back as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoiser import RowCounter
from ..dreamsampler import Edited, dream_steps
from ..guidance import guided, unconditional
from ..inversion import Inversion, invert
from ..model import Model, check_prompt
from .result import Manipulated, cells_of, decoded, encoded, fitting, levels_of, mask_for, pasted


@torch.no_grad()
def edit(
    picture: Tensor,
    prompt: Any,  # noqa: ANN401 - what the model's ``denoiser`` takes
    source: Any = "",  # noqa: ANN401
    *,
    model: Model,
    strength: float = 0.2,
    steps: int = 40,
    mask: Tensor | None = None,
    feather: float = 4.0,
    inversion: str | Inversion = "uni-inv",
) -> Manipulated:
    """Bring ``picture`` towards ``prompt`` (Kim et al. 2024, DreamSampler: real-image editing).

    Args:
        picture: (1, 3, H, W) in [0, 1], of sides that are multiples of the model's cell.
        prompt: what it shall show.
        source: what it shows now, in the place of the empty prompt: then only the difference of the two acts.
        model: any; the demo model is ``load_model()``.
        strength: gamma, per 200 steps: 0.2 is the authors', more changes more.
        steps: of the inversion, and of the way back; 3 network rows each.
        mask: where it may change, (H, W) or (1, 1, H, W), 1; everywhere if left out.
        feather: pixels over which the step at the mask's edge is taken out.
        inversion: one of `INVERSIONS`, or its name. The default brings an unedited picture back as well as the
            autoencoder does, at one evaluation more than the explicit one.

    Raises:
        ValueError: for a wrong argument, or a model without guidance or chain.
    """
    old = fitting(model, picture)
    check_prompt(prompt, source)
    denoiser = model.denoiser(prompt, source, 3.0)
    guided(denoiser, "editing")
    sigmas = levels_of(denoiser, steps)
    back, counter = Edited(denoiser, strength, steps), RowCounter(unconditional(denoiser, "editing"))
    where = None if mask is None else mask_for("mask", mask, old)
    cells = None if where is None else cells_of(where, model, 0)
    trajectory = invert(encoded(model, old), counter, sigmas, inversion)
    z = trajectory.states[-1]
    for i in range(steps):
        ((_, z, _),) = dream_steps(z, back, sigmas[i : i + 2])
        if cells is not None:
            z = cells * z + (1 - cells) * trajectory.states[steps - 1 - i].to(z)
    new, kept = decoded(model, z), None
    if where is not None:
        new, kept = pasted(new, old, where, feather)
    return Manipulated(new, trajectory.evaluations + steps * back.rows, kept)
