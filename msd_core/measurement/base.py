"""What a measurement is.

    b = A y + s xi,   xi ~ N(0, I)

A is linear and knows its transpose: <A y, u> = <y, A^T u> for all y and u. It may also have ``inverse``, its
pseudo-inverse A^+, where that is cheap, and ``singular(y)``: the singular value of each number of y, where A is
diagonal (a mask), or the one of all directions that it sees. It works on pictures as on latents, whatever their size;
what a picture is made of, its range too, is the caller's affair, and s is in its units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..echo import shown
from ..randomness import Rng, draw_normal
from ..validation import as_finite, check_number


class Measurement(Protocol):
    """A linear operator A on pictures (B, C, H, W), and its transpose."""

    def apply(self, y: Tensor) -> Tensor:
        """A y."""
        ...

    def adjoint(self, u: Tensor) -> Tensor:
        """A^T u, of y's shape, for u of A y's."""
        ...


@dataclass(frozen=True)
class Observation:
    """b, what A says of a picture, with noise s.

    Args:
        measurement: A.
        b: of A y's shape.
        noise: s >= 0, standard deviation of the noise in b.

    Raises:
        ValueError: for a ``b`` that is not finite, or a noise below 0.
    """

    measurement: Measurement
    b: Tensor
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not hasattr(self.measurement, "apply") or not hasattr(self.measurement, "adjoint"):
            raise ValueError(
                f"measurement: got {shown(self.measurement)}; allowed is an operator with apply and adjoint. Make one "
                "of MEASUREMENTS."
            )
        object.__setattr__(self, "b", as_finite("b", self.b))
        check_number("noise", self.noise, "0 is a measurement without noise.", low=0)

    def missing(self, y: Tensor) -> Tensor:
        """b - A y.

        Raises:
            ValueError: b is not of A y's shape.
        """
        found = self.measurement.apply(y)
        if self.b.shape[1:] != found.shape[1:] or self.b.shape[0] not in (1, found.shape[0]):
            raise ValueError(
                f"b: got shape {tuple(self.b.shape)}; allowed is {tuple(found.shape)}, as what is measured of y. "
                "Measure a picture of this size."
            )
        return self.b.to(found) - found


def observe(y: Tensor, measurement: Measurement, noise: float = 0.0, rng: Rng | None = None) -> Observation:
    """The `Observation` of ``y`` (B, C, H, W): b = A y + noise xi.

    Raises:
        ValueError: for noise without ``rng``.
    """
    y = as_finite("y", y)
    b = measurement.apply(y)
    check_number("noise", noise, "0 is a measurement without noise.", low=0)
    if noise:
        if rng is None:
            raise ValueError(
                "rng: got None with noise; allowed is a torch.Generator, which it is drawn from. Pass one."
            )
        b = b + noise * draw_normal(b, rng)[0]
    return Observation(measurement, b, noise)
