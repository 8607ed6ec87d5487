"""What is measured is put in place of what the model says: K = A^+ (Wang et al. 2023, DDNM, Eq. 10).

For a mask that is the known part overwritten, as ComfyUI's masked sampling does after each evaluation. The measurement
is taken at its word, whatever its noise, and the hole is told nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..denoiser import Denoiser, ask
from ..measurement import Observation


@dataclass(frozen=True)
class Replacement:
    """D + A⁺ (b − A D)."""

    @property
    def rows(self) -> int:
        """The evaluation at z."""
        return 1

    def __call__(self, z: Tensor, sigma: Tensor, denoiser: Denoiser, observation: Observation) -> Tensor:
        """As `Gain`.

        Raises:
            ValueError: the operator has no pseudo-inverse.
        """
        inverse = getattr(observation.measurement, "inverse", None)
        if inverse is None:
            raise ValueError(
                f"gain: 'replacement' with {type(observation.measurement).__name__}, which has no pseudo-inverse; "
                "allowed are those that have. Use 'proximal' or 'kalman'."
            )
        denoised = ask(denoiser, z, sigma.flatten())
        return denoised + inverse(observation.missing(denoised))
