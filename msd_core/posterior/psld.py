"""Posterior Sampling with Latent Diffusion (Rout et al. 2023, Alg. 2): DPS through the decoder, glued to the encoder.

    z' = DDIM step - grad_z [omega |b - A dec D| + gamma |D - enc(A^+ b + (1 - A^+ A) dec D)|]

(in the coordinates of `jump`). The second term asks that D be what the picture with b put in place encodes to: many
latents decode to what agrees with b, and this one is on the decoder's range. The authors write A^T A for the projection
A^+ A, which it is where A A^T = 1; A^+ is used here where the operator has it. Without an autoencoder it is a second
DPS term. The gradient goes through the network, decoder and encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..denoiser import Denoiser
from ..measurement import Observation
from ..measurement.decoded import Decoded
from ..randomness import Rng
from ..settings import check_settings, setting
from .jump import check_backwards, jumps, norm
from .walk import Step

SIZE = 4 * 64 * 64
"""Numbers of the authors' latents."""


@dataclass(frozen=True)
class PSLD:
    """DPS through the decoder, and a term that keeps the latent on its range; a backward pass through all three.

    Raises:
        ValueError: for an option out of range; when walked, for a denoiser that autograd may not go through.
    """

    backwards: ClassVar[bool] = True
    decodes: ClassVar[bool] = True

    omega: float = setting(
        1.0, "length of the jumps towards the measurement, as its authors give it for 1000 steps", low=0, usual=(0, 100)
    )
    gamma: float = setting(
        0.1, "length of those towards what the encoder gives back, of 1000 steps", low=0, usual=(0, 100)
    )
    eta: float = setting(0.0, "fresh noise of a step: 1 is that of an ancestral one, 0 none", low=0, high=1)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def rows(self) -> int:
        """Forwards, and backwards."""
        return 2

    def walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        """As `PosteriorWalk`; decoder and encoder are those of a `Decoded` measurement."""
        check_backwards(denoiser, "psld")
        given = observation.measurement
        through = given if isinstance(given, Decoded) else Decoded(given)
        seen = Observation(through.measurement, observation.b, observation.noise)
        put = getattr(through.measurement, "inverse", through.measurement.adjoint)

        def loss(y: Tensor) -> Tensor:
            picture = through.decode(y)
            missing = seen.missing(picture)
            glued = through.encode(picture + put(missing))
            return self.omega * norm(missing) + self.gamma * norm(y - glued)

        return jumps(z, denoiser, levels, loss, eta=self.eta, size=SIZE, rng=rng)
