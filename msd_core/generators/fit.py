"""A generator that shows a given picture y: where an edit begins, or a run that is not to start from noise.

    pixels    psi = y          latent    psi = encode(y)          at once
    others    psi <- Adam(psi, grad mean (g(psi) - y)^2)          step by step, with all pixels of the canvas; from
                                                                  where `Generator.begun` puts them

Its quality is the peak signal-to-noise ratio of the drawn picture, clamped to [0, 1]:

    PSNR = -10 log10 mean (g - y)^2   dB

Nothing is drawn by chance: the seed that the generator was made with decides all. Measured, 64 px, 100 steps: a smooth
picture 51 (fourier), 54 (siren), 62 dB (hashgrid), one with edges 45, 41 and 43 dB; half the rate or twice of it is
worse or no better.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..finite import check_finite
from ..optimizers import OptimizerConfig, Update, apply_update, square_sum
from ..validation import MOST_STEPS, check_callable, check_count, check_instance, check_number, check_positive
from .base import Generator
from .latent import Latent
from .picture import on_canvas
from .pixels import Pixels

STEPS = 300
RATE, RATES = 1e-2, {"hashgrid": 3e-2}
"""Adam's rate, and that of kinds which want another."""
UNSEEN = 50.0
"""dB, a difference that no eye finds: rounding to 8 bits alone is 59 dB."""
STALLED, GAIN = 50, 0.05
"""A fit ends when the last so many steps gained less than so many dB."""


class Fitted(NamedTuple):
    """Where a fit stands after ``step`` updates: the best PSNR so far, and the generator that reached it.

    ``psnr`` is in dB, infinite for an exact copy, and None for a latent, whose picture only a decoder could tell.
    """

    step: int
    psnr: float | None
    generator: Generator


def fit(
    generator: Generator,
    picture: Tensor,
    *,
    steps: int = STEPS,
    lr: float | None = None,
    psnr: float | None = UNSEEN,
    encode: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Fitted]:
    """Fit ``generator`` to ``picture``, and yield where it stands: as it comes, and after each step.

        *_, last = fit(generator_for_size("fourier", 64, 64), picture)
        print(last.psnr)

    Args:
        generator: of an image or a latent, which is not changed; what is no `Pixels` and no `Latent` goes on from it.
        picture: y, (1, 3, H, W) in [0, 1], at any size, in the shape of the canvas; `cover` cuts one to it.
        steps: updates at most.
        lr: Adam's rate; that of the kind if left out.
        psnr: the fit ends once it has so many dB; None: it goes on while something is gained.
        encode: image (1, 3, H, W) in [0, 1] to x, as a `Model` has it; a latent needs it.

    Yields:
        `Fitted`; the last is the best.

    Raises:
        ValueError: at the call, for a generator of no picture or of several, a picture that is none or of another
            shape, and a latent without ``encode``; from a step for NaN or infinity.
    """
    _check_generator(generator)
    check_count("steps", steps, maximum=MOST_STEPS)
    rate = RATES.get(generator.kind, RATE) if lr is None else lr
    check_positive("lr", rate)
    if psnr is not None:
        check_number("psnr", psnr, "Usual are 30 to 50 dB; None for no end but the last step.")
    wanted = on_canvas("picture", picture, generator)
    if isinstance(generator, Latent):
        check_callable("encode", encode, "a model's encoder, which a latent needs")
        assert encode is not None  # noqa: S101 - checked
        return _encoded(generator, wanted, encode)
    if isinstance(generator, Pixels):
        return iter([Fitted(1, math.inf, _with(generator, {"values": wanted}))])
    begun = generator.begun(wanted)
    return _walk(begun, wanted, OptimizerConfig("adam", rate), steps, math.inf if psnr is None else psnr)


def _check_generator(generator: object) -> None:
    """Refuse what is not the generator of one picture, or what cannot be fitted."""
    check_instance("generator", generator, Generator, "a Generator. Make one with generator_for_size(kind, w, h)")
    assert isinstance(generator, Generator)  # noqa: S101 - checked
    fixed = not any(p.requires_grad for p in generator.parameters())
    other = generator.space != "image" and not isinstance(generator, Latent)
    if generator.rows != 1 or other or fixed:
        got = f"{generator.rows} rows of {generator.space}" + (" without a parameter to fit" if fixed else "")
        raise ValueError(
            f"generator: got {generator.kind!r}, {got}; allowed is one picture or one latent, with parameters. Fit the "
            "members of a batch one by one."
        )


def _encoded(generator: Latent, wanted: Tensor, encode: Callable[[Tensor], Tensor]) -> Iterator[Fitted]:
    """The latent of a picture, in one step."""
    with torch.inference_mode(False), torch.no_grad():
        x = encode(wanted)
    if x.shape != generator.values.shape:
        raise ValueError(
            f"encode: its result: got shape {tuple(x.shape)}; allowed is that of the latent, "
            f"{tuple(generator.values.shape)}. Make the generator with the channels and the cell of this model."
        )
    check_finite("encode", [x], "latent", "Run the encoder in float32.")
    yield Fitted(1, None, _with(generator, {"values": x}))


def _walk(generator: Generator, wanted: Tensor, config: OptimizerConfig, steps: int, target: float) -> Iterator[Fitted]:
    """Adam's steps, all of the picture in each; the best so far is yielded."""
    memory: dict[str, Tensor] = {}
    best, gained = generator, [-math.inf]
    for step in range(steps + 1):
        found, gradients = _measured(generator, wanted)
        if found > gained[-1]:
            best = generator
        gained.append(max(found, gained[-1]))
        yield Fitted(step, gained[-1], best)
        stalled = step >= STALLED and gained[-1] - gained[-1 - STALLED] < GAIN
        if step == steps or stalled or gained[-1] >= target:
            return
        parameters = dict(generator.named_parameters())
        new, memory = apply_update(config, Update(step + 1, config.lr, 0.0), parameters, gradients, memory)
        check_finite("lr", new.values(), "new parameters", "Use a smaller learning rate.")
        generator = _with(generator, new)


def _measured(generator: Generator, wanted: Tensor) -> tuple[float, dict[str, Tensor]]:
    """PSNR of the picture, and the gradients of its squared error, by name."""
    with torch.inference_mode(False), torch.enable_grad():
        parameters = {name: p for name, p in generator.named_parameters() if p.requires_grad}
        view = generator.frame(*wanted.shape[-2:])
        picture, penalty = generator.render(view), generator.penalty(view)
        check_finite("generator", [picture.detach()], "picture", "Use a smaller learning rate.")
        loss = (picture - wanted).square().mean()
        if penalty is not None:  # which counts beside half the squares' sum over the three channels
            loss = loss + penalty * (2 / 3)
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    error = square_sum([picture.detach().clamp(0, 1) - wanted]) / wanted.numel()
    gradients = {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
    return -10 * math.log10(error) if error > 0 else math.inf, gradients


def _with(generator: Generator, values: Mapping[str, Tensor]) -> Generator:
    """A copy of ``generator`` with other parameters."""
    with torch.inference_mode(False), torch.no_grad():
        made = copy.deepcopy(generator)
        for name, parameter in made.named_parameters():
            if name in values:
                parameter.copy_(values[name])
    return made
