"""Edit a picture by words: inverted, and brought back under other ones.

Where it is known what the picture shows, it is inverted under that caption and brought back under the new one. Where it
is not, the inversion is unconditional and each step back goes a little towards the prompt (`Edited`); words act below
sigma = 2 only, so the layout stays. A mask confines the change: outside of it the state is the inversion's own at every
level, and the pixels come back as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoiser import RowCounter
from ..dreamsampler import Denoised, Edited, dream_steps
from ..echo import shown
from ..guidance import unconditional, with_cfg
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
    strength: float | None = None,
    steps: int = 40,
    mask: Tensor | None = None,
    feather: float = 4.0,
    inversion: str | Inversion = "uni-inv",
) -> Manipulated:
    """Bring ``picture`` to ``prompt`` (without ``source``: Kim et al. 2024, DreamSampler's editing).

    Args:
        picture: (1, 3, H, W) in [0, 1], of sides that are multiples of the model's cell.
        prompt: what it shall show.
        source: what it shows now, if that is known; it keeps more of the picture.
        model: any; the demo model is ``load_model()``.
        strength: without ``source``: gamma, per 200 steps; the authors' 0.2 if left out, more changes more.
        steps: of the inversion, and of the way back; together 3 network rows each, 2 with ``source``.
        mask: where it may change, (H, W) or (1, 1, H, W), 1; everywhere if left out.
        feather: pixels over which the step at the mask's edge is taken out.
        inversion: one of `INVERSIONS`, or its name. The default brings an unedited picture back as well as the
            autoencoder does, at one evaluation more than the explicit one.

    Raises:
        ValueError: for a wrong argument, or a model without guidance or chain.
    """
    old = fitting(model, picture)
    check_prompt(prompt, source)
    if source and strength is not None:
        raise ValueError(
            f"strength: got {shown(strength)} with a source; allowed is none there, the new prompt acts in full. Leave "
            "one of them out."
        )
    denoiser = model.denoiser(prompt, source, 3.0)
    sigmas, counter = levels_of(denoiser, steps), RowCounter(unconditional(denoiser, "editing"))
    back = Edited(denoiser, 0.2 if strength is None else strength, steps)
    if source:
        back = Denoised(with_cfg(denoiser, 1.0))
    where = None if mask is None else mask_for("mask", mask, old)
    cells = None if where is None else cells_of(where, model.cell, 0)
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
