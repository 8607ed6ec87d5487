"""What some methods need beside the model under the prompt, and how they get it.

A method names it in its class attribute ``needs``:

    source      the picture that an edit starts from, encoded as x is, and the model under the prompt that describes it
    negative    the model under the negative prompt alone, while the guidance is against the empty prompt

Both travel with the denoiser, as the levels of its chain do (`denoiser.with_levels`), so that a method stays a function
of x and a denoiser. `distil.run` adds what the method needs; a method asks for it with `source_of` and `negative_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from .denoiser import Denoiser, Sigma, Unchanged, check_denoiser, name_of
from .validation import as_finite, as_mask, check_instance

NEEDS = ("source", "negative")
"""What a method may need."""


@dataclass(frozen=True, eq=False)
class Source:
    """The picture that an edit starts from.

    Args:
        x: x_src, encoded as x is: (1, *) for all rows, or (B, *).
        denoiser: the model under the prompt that describes it, with the guidance of the other one.
        mask: (H, W) or (B, 1, H, W) in [0, 1], at the size of the picture: where it may change; None everywhere.

    Raises:
        ValueError: for an x that is no finite tensor, a denoiser that cannot be called, or such a mask.
    """

    x: Tensor
    denoiser: Denoiser
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", as_finite("x", self.x))
        check_denoiser(self.denoiser)
        if self.mask is not None:
            object.__setattr__(self, "mask", as_mask("mask", self.mask))

    def like(self, x: Tensor) -> Tensor:
        """x_src for every row of ``x`` (N, *), a multiple of its own: (N, *), of x's type and device.

        Raises:
            ValueError: it is of another size, or of a number of rows that does not divide N.
        """
        if self.x.shape[1:] != x.shape[1:] or x.shape[0] % self.x.shape[0]:
            raise ValueError(
                f"source: got shape {tuple(self.x.shape)} beside x of {tuple(x.shape)}; allowed is x's size, in one "
                "row or as many as x has. Encode it as x is, at the same size."
            )
        return _for_rows(self.x.to(x), x.shape[0])

    def mask_like(self, x: Tensor) -> Tensor | float:
        """The mask averaged down to the size of ``x`` (N, C, h, w): (N, 1, h, w); 1 if there is none."""
        if self.mask is None:
            return 1.0
        return _for_rows(F.adaptive_avg_pool2d(self.mask.to(x), (x.shape[-2], x.shape[-1])), x.shape[0])


def _for_rows(given: Tensor, rows: int) -> Tensor:
    """``given`` (B, *) over and over, up to ``rows``: the order of several draws a row."""
    return given.repeat(rows // given.shape[0], *(1,) * (given.ndim - 1))


@dataclass(frozen=True, eq=False)
class AccompaniedDenoiser(Unchanged):
    """``denoiser`` with what a method needs beside it, by the names of `NEEDS`; see `with_companions`."""

    denoiser: Denoiser
    companions: Mapping[str, Any]

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        return self.denoiser(z, sigma)


def with_companions(
    denoiser: Denoiser, *, source: Source | None = None, negative: Denoiser | None = None
) -> AccompaniedDenoiser:
    """``denoiser`` with a source, or with a denoiser of the negative prompt alone, for the methods that need them.

    Raises:
        ValueError: for a denoiser that cannot be called, or a source that is none.
    """
    check_denoiser(denoiser)
    if source is not None:
        check_instance("source", source, Source, "a Source: Source(x, denoiser)")
    if negative is not None:
        check_denoiser(negative, "negative")
    given = {name: value for name, value in (("source", source), ("negative", negative)) if value is not None}
    return AccompaniedDenoiser(denoiser, {**getattr(denoiser, "companions", {}), **given})


def source_of(denoiser: Denoiser, purpose: str) -> Source:
    """The source that goes with ``denoiser``.

    Raises:
        ValueError: there is none, where ``purpose`` needs it.
    """
    return _companion(denoiser, "source", purpose, "Source(x, denoiser)", "source and source_prompt")


def negative_of(denoiser: Denoiser, purpose: str) -> Denoiser:
    """The denoiser of the negative prompt alone that goes with ``denoiser``.

    Raises:
        ValueError: there is none, where ``purpose`` needs it.
    """
    return _companion(denoiser, "negative", purpose, "denoiser", "negative")


def _companion(denoiser: Denoiser, name: str, purpose: str, shown: str, argument: str) -> Any:  # noqa: ANN401
    found = getattr(denoiser, "companions", {}).get(name)
    if found is None:
        raise ValueError(
            f"denoiser: {name_of(denoiser)} has no {name} beside it, and {purpose} needs one; allowed is one with it. "
            f"Pass with_companions(denoiser, {name}={shown}), or {argument} to distil."
        )
    return found
