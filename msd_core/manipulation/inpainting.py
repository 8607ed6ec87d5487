"""Fill a hole: samples of the prompt's density that agree with the rest, by the Kalman gain or another solver.

Several holes may each have a prompt of their own (`regions.Regional`); elsewhere the prompt of the whole picture acts.

In latents the known cells are the measurement, with the cells around the hole left out: the encoder has seen the hole
through them. PSLD measures the known pixels, through the decoder. In pixels every step decodes, corrects and encodes
(`pixels.PixelPosterior`). The pixels outside come back as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoiser import data_std
from ..dreamsampler import Denoised, check_temperature, dream_sample, unit_share
from ..echo import shown
from ..measurement import Observation
from ..measurement.mask import Mask
from ..model import Model, check_prompt
from ..posterior import INVERSE_SOLVERS, Solver, posterior_sample
from ..posterior.conditional import OfConditional, rows_of
from ..posterior.kalman import Kalman
from ..posterior.proximal import Proximal
from ..randomness import draw_normal, seeded
from ..regions import Regional
from ..sampling import chain_levels
from ..validation import check_choice, check_count
from .pixels import pixel_posterior
from .result import Manipulated, cells_of, check_feather, decoded, encoded, fitting, mask_for, pasted, through

SPACES = ("latents", "pixels")
"""Where the rest of the picture is what is known."""


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
    solver: Solver | str | None = None,
    grow: int = 1,
    feather: float = 4.0,
    regions: Sequence[tuple[Tensor, Any]] = (),
    space: str = "latents",
    temperature: float = 1.0,
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
        solver: one of `INVERSE_SOLVERS`, or its name; None is 'kalman', and in pixels 'proximal', the only one there.
        grow: in latents, cells around the hole that are drawn anew.
        feather: pixels over which the step at the hole's edge is taken out.
        regions: further holes, each a mask and what the picture shows there; as many network rows again for each. Where
            they overlap, with one another, both prompts count.
        space: 'latents', or 'pixels': one row a step, and one decoding and two encodings.
        temperature: scale of all noise, in [0, 1]: 1 samples; 0 draws nothing: near the likeliest picture, which
            ``seed`` does not change. Below 1 in pixels; in latents 'proximal' and 'replacement' take
            it, too, but were not measured so.

    Raises:
        ValueError: for a wrong argument, a model without chain, or one that a solver cannot differentiate.
    """
    check_count("grow", grow, minimum=0, maximum=1024)
    check_temperature(temperature)
    check_feather(feather)
    check_choice("space", space, SPACES)
    chosen: Any = _solver(solver, space, temperature)
    old = fitting(model, picture)
    holes = _holes(mask, regions, old)
    hole = torch.stack(holes).amax(dim=0)
    check_prompt(prompt, negative)
    denoiser = model.denoiser(prompt, negative, cfg)
    if regions:
        own = [model.denoiser(words, negative, cfg) for _, words in regions]
        where = [cells_of(one, model.cell, grow) for one in holes[-len(own) :]]
        denoiser = Regional(denoiser, list(zip(where, own, strict=True)))
    if cfg != 1 and isinstance(chosen, Kalman):
        chosen = OfConditional(chosen)
    x, walk = encoded(model, without(old, hole)), {"rng": seeded(seed), "temperature": temperature}
    sigmas = chain_levels(denoiser, steps)
    z = draw_normal(x, walk["rng"])[0] * math.hypot(data_std(denoiser), float(sigmas[0])) * temperature
    if space == "pixels":
        inner = Denoised(pixel_posterior(denoiser, _known((hole <= 0).to(hole.dtype), old), model, chosen))
        z = dream_sample(z, inner, sigmas, kept=unit_share, **walk)
    else:
        seen = _known(1 - cells_of(hole, model.cell, grow), x)
        if getattr(chosen, "decodes", False):
            pixels = Mask(1 - hole)
            seen = Observation(through(model, pixels), pixels.apply(old))
        z = posterior_sample(z, denoiser, seen, sigmas, solver=chosen, **walk)
    new, kept = pasted(decoded(model, z), old, hole, feather)
    return Manipulated(new, steps * rows_of(chosen, denoiser), kept)


def _known(mask: Tensor, y: Tensor) -> Observation:
    """What ``mask``, 1 where it is known, leaves of ``y``."""
    measurement = Mask(mask)
    return Observation(measurement, measurement.apply(y))


def _solver(solver: Solver | str | None, space: str, temperature: float) -> Any:  # noqa: ANN401
    """The one that is meant, for what is asked of it.

    Raises:
        ValueError: no solver, or one that has no form in pixels or below the temperature 1.
    """
    made = INVERSE_SOLVERS.made("solver", ("proximal" if space == "pixels" else "kalman") if solver is None else solver)
    if space == "pixels" and not isinstance(made, Proximal):
        raise ValueError(
            f"solver: got {shown(solver)} in pixels; allowed is 'proximal' there. Leave it out, or choose the space "
            "'latents'."
        )
    gain = made.gain if isinstance(made, OfConditional) else made
    if temperature != 1 and (isinstance(gain, Kalman) or hasattr(gain, "walk")):
        name = solver if isinstance(solver, str) else type(gain).__name__.lower()
        why = "whose covariance is that of a noisy state" if isinstance(gain, Kalman) else "whose noise is its own"
        raise ValueError(
            f"temperature: got {temperature:g} with {name!r}, {why}; allowed is 1 there. Choose the space "
            "'pixels', or the solver 'proximal' or 'replacement'."
        )
    return made


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
