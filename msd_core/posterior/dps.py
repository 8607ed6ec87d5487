"""Diffusion Posterior Sampling (Chung et al. 2023, Alg. 1): each step of DDPM is followed by a jump towards b.

    z' = ancestral step - zeta grad_z |b - A D(z; sigma)|          (in the coordinates of `jump`)

The gradient goes through the network. A need not be linear. What it draws is not the posterior: the jump's length does
not know how sure the model is, nor s, so it has to be tuned to the task; the authors' zeta is .3 for small and blurred
pictures, .5 for holes, 1 for phases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..denoiser import Denoiser
from ..measurement import Observation
from ..randomness import Rng
from ..settings import check_settings, setting
from .jump import check_backwards, jumps, norm
from .walk import Step

SIZE = 3 * 256 * 256
"""Numbers of the authors' pictures."""


@dataclass(frozen=True)
class DPS:
    """An ancestral step, and a jump down the slope of |b − A D|; a backward pass through the network.

    Raises:
        ValueError: for an option out of range; when walked, for a denoiser that autograd may not go through.
    """

    backwards: ClassVar[bool] = True

    zeta: float = setting(
        0.5, "length of the jumps, as its authors give it for 1000 steps: .3 to 1", low=0, usual=(0, 100)
    )
    eta: float = setting(1.0, "fresh noise of a step: 1 is that of an ancestral one, 0 none", low=0, high=1)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def rows(self) -> int:
        """Forwards, and backwards."""
        return 2

    def walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        """As `PosteriorWalk`."""
        check_backwards(denoiser, "dps")
        return jumps(
            z, denoiser, levels, lambda y: self.zeta * norm(observation.missing(y)), eta=self.eta, size=SIZE, rng=rng
        )
