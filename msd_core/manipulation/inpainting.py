"""Fill a hole: samples of the prompt's density that agree with the rest, by the Kalman gain or another solver.

Several holes may each have a prompt of their own (`regions.Regional`); elsewhere the prompt of the whole picture acts.

The known cells of the latent are the measurement, with the cells around the hole left out: the encoder has seen the
hole through them. PSLD measures the known pixels, through the decoder. The pixels outside come back as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoiser import data_std
from ..echo import shown
from ..measurement import Observation
from ..measurement.mask import Mask
from ..model import Model, check_prompt
from ..posterior import INVERSE_SOLVERS, Solver, posterior_sample
from ..posterior.conditional import OfConditional, rows_of
from ..posterior.kalman import Kalman
from ..randomness import draw_normal, seeded
from ..regions import Regional
from ..validation import check_count
from .result import Manipulated, cells_of, decoded, encoded, fitting, levels_of, mask_for, pasted, through


@torch.inference_mode(False)
@torch.no_grad()
def inpaint(
    picture: Tensor,
    mask: Tensor | None,
    prompt: Any,  # noqa: ANN401 - what the model's ``denoiser`` takes
    negative: Any = "",  # noqa: ANN401
    *,
    model: Model,
    cfg: float = 1.0,
    steps: int = 16,
    seed: int = 0,
    solver: Solver | str = Kalman(),  # noqa: B008 - frozen
    grow: int = 1,
    feather: float = 4.0,
    regions: Sequence[tuple[Tensor, Any]] = (),
) -> Manipulated:
    """Fill the hole of ``picture``.

    Args:
        picture: (1, 3, H, W) in [0, 1], of sides that are multiples of the model's cell.
        mask: the hole, (H, W) or (1, 1, H, W), 1; what was in it plays no part. May be None where there are regions.
        prompt: what the whole picture shows; negative: what it does not.
        model: any.
        cfg: guidance; the Kalman gain takes the Jacobian of the conditional part alone (`posterior.conditional`).
        steps: of the sampler; ``solver.rows`` network rows each, twice as many with guidance, or two more of `Kalman`.
        seed: of the noise.
        solver: one of `INVERSE_SOLVERS`, or its name.
        grow: cells around the hole that are drawn anew.
        feather: pixels over which the step at the hole's edge is taken out.
        regions: further holes, each a mask and what the picture shows there; as many network rows again for each. Where
            they overlap, with one another, both prompts count.

    Raises:
        ValueError: for a wrong argument, a model without chain, or one that a solver cannot differentiate.
    """
    check_count("grow", grow, minimum=0, maximum=1024)
    old = fitting(model, picture)
    holes = _holes(mask, regions, old)
    hole = torch.stack(holes).amax(dim=0)
    check_prompt(prompt, negative)
    denoiser = model.denoiser(prompt, negative, cfg)
    if regions:
        own = [model.denoiser(words, negative, cfg) for _, words in regions]
        where = [cells_of(one, model.cell, grow) for one in holes[-len(own) :]]
        denoiser = Regional(denoiser, list(zip(where, own, strict=True)))
    x = encoded(model, without(old, hole))
    sigmas, rng = levels_of(denoiser, steps), seeded(seed)
    solver = INVERSE_SOLVERS.made("solver", solver)
    if cfg != 1 and isinstance(solver, Kalman):
        solver = OfConditional(solver)
    known = Mask(1 - cells_of(hole, model.cell, grow))
    seen = Observation(known, known.apply(x))
    if getattr(solver, "decodes", False):
        pixels = Mask(1 - hole)
        seen = Observation(through(model, pixels), pixels.apply(old))
    z = draw_normal(x, rng)[0] * math.hypot(data_std(denoiser), float(sigmas[0]))
    z = posterior_sample(z, denoiser, seen, sigmas, solver=solver, rng=rng)
    new, kept = pasted(decoded(model, z), old, hole, feather)
    return Manipulated(new, steps * rows_of(solver, denoiser), kept)


def _holes(mask: Tensor | None, regions: object, picture: Tensor) -> list[Tensor]:
    """The hole, where there is one, and those of the regions, each (1, 1, H, W)."""
    if not isinstance(regions, (list, tuple)) or not all(isinstance(r, (list, tuple)) and len(r) == 2 for r in regions):
        raise ValueError(
            f"regions: got {shown(regions)}; allowed is a list of pairs, a mask and a prompt. Pass [(m, p)]."
        )
    if mask is None and not regions:
        raise ValueError("mask: got None without regions; allowed is a hole. Pass the mask of what is to be filled.")
    own = [] if mask is None else [mask_for("mask", mask, picture)]
    return own + [mask_for(f"regions[{i}]", one, picture) for i, (one, _) in enumerate(regions)]


def without(picture: Tensor, hole: Tensor) -> Tensor:
    """The picture with the mean of the rest in its hole."""
    rest = (hole <= 0).to(picture.dtype)
    mean = (picture * rest).sum(dim=(2, 3), keepdim=True) / rest.sum().clamp(min=1)
    return torch.where(hole > 0, mean, picture)
