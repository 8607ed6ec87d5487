"""Fill a hole: samples of the prompt's density that agree with the rest, by the Kalman gain or another solver.

The known cells of the latent are the measurement, with the cells around the hole left out: the encoder has seen the
hole through them. PSLD measures the known pixels, through the decoder. The pixels outside come back as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoiser import cost
from ..measurement import Observation
from ..measurement.mask import Mask
from ..model import Model, check_prompt
from ..posterior import INVERSE_SOLVERS, Solver, posterior_sample
from ..posterior.kalman import Kalman
from ..randomness import draw_normal, seeded
from ..validation import check_count
from .result import Manipulated, cells_of, decoded, encoded, fitting, levels_of, mask_for, pasted, through


@torch.inference_mode(False)
@torch.no_grad()
def inpaint(
    picture: Tensor,
    mask: Tensor,
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
) -> Manipulated:
    """Fill the hole of ``picture``.

    Args:
        picture: (1, 3, H, W) in [0, 1], of sides that are multiples of the model's cell.
        mask: the hole, (H, W) or (1, 1, H, W), 1; what was in it plays no part.
        prompt: what the whole picture shows; negative: what it does not.
        model: any.
        cfg: guidance; with more than 1 the network's Jacobian is that of the guided model.
        steps: of the sampler; ``solver.rows`` network rows each, twice as many with guidance.
        seed: of the noise.
        solver: one of `INVERSE_SOLVERS`, or its name.
        grow: cells around the hole that are drawn anew.
        feather: pixels over which the step at the hole's edge is taken out.

    Raises:
        ValueError: for a wrong argument, a model without chain, or one that a solver cannot differentiate.
    """
    check_count("grow", grow, minimum=0, maximum=1024)
    old = fitting(model, picture)
    hole = mask_for("mask", mask, old)
    x = encoded(model, without(old, hole))
    check_prompt(prompt, negative)
    denoiser = model.denoiser(prompt, negative, cfg)
    sigmas, rng = levels_of(denoiser, steps), seeded(seed)
    solver = INVERSE_SOLVERS.made("solver", solver)
    known = Mask(1 - cells_of(hole, model, grow))
    seen = Observation(known, known.apply(x))
    if getattr(solver, "decodes", False):
        pixels = Mask(1 - hole)
        seen = Observation(through(model, pixels), pixels.apply(old))
    z = draw_normal(x, rng)[0] * (1 + float(sigmas[0]) ** 2) ** 0.5
    z = posterior_sample(z, denoiser, seen, sigmas, solver=solver, rng=rng)
    new, kept = pasted(decoded(model, z), old, hole, feather)
    return Manipulated(new, steps * cost(denoiser) * solver.rows, kept)  # pyright: ignore[reportAttributeAccessIssue]


def without(picture: Tensor, hole: Tensor) -> Tensor:
    """The picture with the mean of the rest in its hole."""
    rest = (hole <= 0).to(picture.dtype)
    mean = (picture * rest).sum(dim=(2, 3), keepdim=True) / rest.sum().clamp(min=1)
    return torch.where(hole > 0, mean, picture)
