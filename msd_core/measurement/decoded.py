"""What is measured of the picture that a latent decodes to: A dec x. Not linear, so without transpose.

The solvers that differentiate what is missing take it as it is (`posterior.dps`, `psld`, `red_diff`); those that need
A^T refuse it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .base import Measurement


def unchanged(x: Tensor) -> Tensor:
    """x, the picture of a model without autoencoder."""
    return x


@dataclass(frozen=True, eq=False)
class Decoded:
    """A dec x.

    Args:
        measurement: A, of a picture.
        decode: x (B, *) to the picture; differentiable.
        encode: the way back; differentiable.
    """

    measurement: Measurement
    decode: Callable[[Tensor], Tensor] = unchanged
    encode: Callable[[Tensor], Tensor] = unchanged

    def apply(self, y: Tensor) -> Tensor:
        """A dec y."""
        return self.measurement.apply(self.decode(y))

    def adjoint(self, u: Tensor) -> Tensor:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"measurement: {type(self.measurement).__name__} of a decoded latent is not linear; allowed with this "
            "solver are measurements of x itself. Use 'dps', 'psld' or 'red-diff', which differentiate it."
        )
