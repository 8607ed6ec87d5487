"""Samples of the pictures that agree with a measurement, by any solver: one call for all of them.

A gain makes a denoiser (`PosteriorDenoiser`), and the walk is DreamSampler's, which keeps sigma / sqrt(1 + sigma^2) of
the noise a step. That is no discretised SDE: D is nearer to the mode than y is, and fresh noise forgets where z was, so
the samples lie closer together than the posterior's, the more so the more steps. ``kept`` = 1 is the ODE, whose samples
spread as they should. Other solvers walk by themselves; they have a method ``walk`` instead of ``__call__``.

``rows`` of either are network rows a step and a row of z, a pass backwards through the network counted as one more: it
asks for gradients on z alone, and takes .98 of the operations of the pass forwards (counted on the demo model). A
solver that takes one says ``backwards = True``; one that measures pixels through the decoder, ``decodes = True``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from ..denoiser import Denoiser, at_least_float32, check_denoiser
from ..dreamsampler import Denoised, check_temperature, dream_steps, unit_share
from ..measurement import Observation
from ..randomness import Rng
from ..sampling import check_sigmas
from ..validation import as_finite, check_instance
from .base import Gain, PosteriorDenoiser

Step = tuple[float, Tensor, Tensor]
"""``(sigma_next, z, y)`` after a step, as of `dreamsampler.dream_steps`."""


class PosteriorWalk(Protocol):
    """A solver that walks by itself, as a frozen dataclass of its options."""

    @property
    def rows(self) -> int: ...

    def walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        """A `Step` for each of the descending ``levels`` but the first, at which ``z`` (B, *) lies."""
        ...


Solver = Gain | PosteriorWalk
"""What `INVERSE_SOLVERS` holds."""


def posterior_steps(
    z: Tensor,
    denoiser: Denoiser,
    observation: Observation,
    sigmas: Tensor,
    solver: Solver | str = "kalman",
    rng: Rng | None = None,
    *,
    kept: float | Callable[[float], float] = unit_share,
    temperature: float = 1.0,
) -> Iterator[Step]:
    """Yield ``(sigma_next, z, y)`` after each step from noise to a picture that agrees with ``observation``.

    Args:
        z: the state at ``sigmas[0]``, (B, *); half precision is promoted to float32.
        denoiser: of p, ``(z (B, *), sigma) -> (B, *)``.
        observation: b, A and s, of y (B, *).
        sigmas: strictly decreasing levels, (steps + 1,); the last may be 0.
        solver: one of `INVERSE_SOLVERS`, or its name.
        rng: of the fresh noise.
        kept: of the noise, with a gain that has no walk of its own; as in `dreamsampler.dream_steps`.
        temperature: of the fresh noise, with such a gain. Of the demo model 'kalman' fails below 1: its covariance is
            that of a state with noise.

    Raises:
        ValueError: at the call for a wrong argument; from a step for what the solver cannot do.
    """
    from . import INVERSE_SOLVERS

    z, levels = at_least_float32(as_finite("z", z)), check_sigmas(sigmas)
    check_denoiser(denoiser)
    check_instance("observation", observation, Observation, "an Observation. Make one with observe(y, A)")
    solver = INVERSE_SOLVERS.made("solver", solver)
    walk = getattr(solver, "walk", None)
    check_temperature(temperature)
    if walk is not None:
        if temperature != 1:
            raise ValueError(
                f"temperature: got {temperature:g} with a solver that walks by itself; allowed is 1 there, since its "
                "noise belongs to it. Choose a gain: kalman, proximal, replacement."
            )
        return walk(z, denoiser, observation, levels, rng)
    inner = Denoised(PosteriorDenoiser(denoiser, observation, cast("Gain", solver)))
    return dream_steps(z, inner, sigmas, kept=kept, rng=rng, temperature=temperature)


def posterior_sample(z: Tensor, denoiser: Denoiser, observation: Observation, sigmas: Tensor, **options: Any) -> Tensor:  # noqa: ANN401 - of `posterior_steps`
    """The end of the walk, at ``sigmas[-1]``. Arguments as in `posterior_steps`."""
    return deque(posterior_steps(z, denoiser, observation, sigmas, **options), maxlen=1)[0][1]
