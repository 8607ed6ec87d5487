"""A warm start: a sample of the model, to which the generator is fitted before the first step of a distillation.

    z = sqrt(1 + sigma_0^2) n,   DDIM from sigma_0 to 0 in N equal steps of the model's chain,   y = decode(x_0)

For a plain neural image the sample alone is a strong rival of every distillation, at a fraction of its evaluations. The
noise of picture i is that of seed + i, whatever the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .denoiser import cost
from .finite import check_finite
from .guidance import check_cfg
from .model import Model, check_model, check_prompt, decoder_of, device_of
from .randomness import normal, seeded
from .sampling import as_sigmas, chain_levels, ddim_steps
from .validation import MOST_STEPS, check_count, check_seed

STEPS = 32
"""Of DDIM, unless the caller wants others."""


class Sampled(NamedTuple):
    """``pictures`` (n, 3, H, W) in [0, 1], and the network rows that all of them took."""

    pictures: Tensor
    evaluations: int


@torch.no_grad()
def sample(
    model: Model,
    prompt: Any,  # noqa: ANN401 - what the model's ``denoiser`` takes
    negative: Any = "",  # noqa: ANN401
    *,
    cfg: float = 1.0,
    width: int | None = None,
    height: int | None = None,
    n: int = 1,
    seed: int | Sequence[int] = 0,
    steps: int = STEPS,
    sigmas: Any = None,  # noqa: ANN401 - a tensor, list or array
    on_step: Callable[[int, int], object] | None = None,
) -> Sampled:
    """Draw ``n`` DDIM samples of ``prompt`` (Song et al. 2021, Eq. 12, eta = 0).

    Args:
        model: with a chain of levels.
        prompt, negative: as the model takes them; a list of n prompts gives one a picture.
        cfg: guidance scale.
        width, height: in pixels, multiples of the model's cell; its own side if left out.
        n: pictures.
        seed: of the first picture's noise, or one a picture.
        steps: of DDIM.
        sigmas: the levels to walk, falling, (steps + 1,), in the place of ``steps`` equal ones of the model's chain.
        on_step: called with the steps done and all of them after each.

    Raises:
        ValueError: for an argument of another kind or out of range, a model without a chain, and pictures that are
            not finite.
    """
    check_model(model)
    check_prompt(prompt, negative)
    check_cfg("cfg", cfg)
    check_count("n", n)
    check_count("steps", steps, maximum=MOST_STEPS)
    seeds = _seeds(seed, n)
    sides = [model.side if side is None else side for side in (height, width)]
    for name, side in zip(("height", "width"), sides, strict=True):
        check_count(name, side, minimum=model.cell)
        if side % model.cell:
            raise ValueError(
                f"{name}: got {side}; allowed are multiples of the model's cell, {model.cell}. Use "
                f"{side // model.cell * model.cell}."
            )
    denoiser = model.denoiser(prompt, negative, cfg)
    levels, done = chain_levels(denoiser, steps) if sigmas is None else as_sigmas(sigmas), 0
    shape = model.channels, sides[0] // model.cell, sides[1] // model.cell
    noise = torch.stack([normal(shape, seeded(one)) for one in seeds]).to(device_of(model))
    x = noise * (1 + float(levels[0]) ** 2) ** 0.5
    walk = ddim_steps(x, denoiser, levels)
    for done, (_, state, _) in enumerate(walk, 1):
        x = state
        if on_step is not None:
            on_step(done, len(levels) - 1)
    pictures = decoder_of(model)(x)
    check_finite("model", [pictures], "sample", "Run it in float32, or lower cfg.")
    return Sampled(pictures.clamp(0, 1), n * done * cost(denoiser))


def _seeds(seed: int | Sequence[int], n: int) -> list[int]:
    """A seed for each of ``n`` pictures."""
    if not isinstance(seed, (list, tuple, range)):
        check_seed("seed", seed)
        return [(cast(int, seed) + i) % 2**64 for i in range(n)]
    seeds = list(seed)
    if len(seeds) != n:
        raise ValueError(f"seed: got {len(seeds)} seeds for {n} pictures; allowed is one a picture. Set n.")
    for one in seeds:
        check_seed("seed", one)
    return seeds
