"""Restore a picture from less than it: a sample of the prompt's density that agrees with the measurement.

Pixels are measured: by the solver 'proximal' the denoiser is `pixels.PixelPosterior`, and each step keeps sigma /
sqrt(1 + sigma^2) of its noise. Those that differentiate (DPS, PSLD, RED-diff) take the measurement through the decoder
as it is.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from ..denoiser import cost, data_std
from ..dreamsampler import Denoised, check_temperature, dream_sample, unit_share
from ..echo import shown
from ..measurement import Observation
from ..model import Model, check_model, check_prompt, device_of
from ..posterior import RESTORERS, Solver, posterior_sample
from ..posterior.proximal import Proximal
from ..randomness import normal, seeded
from ..sampling import chain_levels
from ..validation import check_instance
from .pixels import SPREAD, agreeing, pixel_posterior
from .result import Manipulated, decoded, through


def _check_size(size: object, model: Model) -> None:
    """Refuse a size that is no two multiples of the model's cell."""
    if (
        not isinstance(size, (tuple, list))
        or len(size) != 2
        or not all(isinstance(side, int) and side > 0 and side % model.cell == 0 for side in size)
    ):
        raise ValueError(
            f"size: got {shown(size)}; allowed are two multiples of the model's cell, {model.cell}: width, height."
        )


@torch.inference_mode(False)
@torch.no_grad()
def restore(
    observation: Observation,
    size: tuple[int, int],
    prompt: Any,  # noqa: ANN401 - what the model's ``denoiser`` takes
    negative: Any = "",  # noqa: ANN401
    *,
    model: Model,
    cfg: float = 1.0,
    steps: int = 40,
    seed: int = 0,
    solver: Solver | str = "proximal",
    temperature: float = 1.0,
) -> Manipulated:
    """A picture of ``prompt`` that agrees with ``observation``.

    Args:
        observation: of a picture (1, 3, H, W) in [0, 1]; its noise in these units.
        size: width and height of the picture, multiples of the model's cell.
        prompt: what it shows; negative: what it does not.
        model: any.
        cfg: guidance.
        steps: of the sampler; one evaluation each, with one decoding and two encodings, or ``solver.rows``.
        seed: of the noise.
        solver: one of `RESTORERS`, or its name: 'proximal', out of the latent and back; the others differentiate the
            decoder.
        temperature: scale of all noise, in [0, 1]: 1 samples; 0 draws nothing: near the likeliest picture, which
            ``seed`` does not change. Below 1 with 'proximal' alone.

    Returns:
        The picture; its ``kept`` is the PSNR of A picture against b, before what has no noise is put in place.

    Raises:
        ValueError: for a wrong argument, a model without chain, or what the solver cannot differentiate.
    """
    check_instance("observation", observation, Observation, "an Observation. Make one with observe(picture, A)")
    check_model(model)
    check_prompt(prompt, negative)
    check_temperature(temperature)
    denoiser = model.denoiser(prompt, negative, cfg)
    sigmas, rng = chain_levels(denoiser, steps), seeded(seed)
    _check_size(size, model)
    shape = 1, model.channels, size[1] // model.cell, size[0] // model.cell
    observation.missing(torch.zeros(1, 3, size[1], size[0]))
    z = normal(shape, rng).to(device_of(model)) * math.hypot(data_std(denoiser), float(sigmas[0])) * temperature
    solver = RESTORERS.made("solver", solver)
    if isinstance(solver, Proximal):
        inner = Denoised(pixel_posterior(denoiser, observation, model, solver))
        z = dream_sample(z, inner, sigmas, kept=unit_share, rng=rng, temperature=temperature)
    else:
        seen = Observation(through(model, observation.measurement), observation.b, observation.noise)
        z = posterior_sample(z, denoiser, seen, sigmas, solver=solver, rng=rng, temperature=temperature)
    picture = decoded(model, z)
    error = float(observation.missing(picture).cpu().double().square().mean())
    kept = float("inf") if error == 0 else float(-10 * torch.tensor(error).log10())
    if observation.noise == 0:
        picture = agreeing(picture, observation, SPREAD)
    return Manipulated(picture, steps * cost(denoiser) * solver.rows, kept)  # pyright: ignore[reportAttributeAccessIssue]
