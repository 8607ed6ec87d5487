"""Random numbers, always from an explicit source.

A source is a ``torch.Generator``, whose numbers all rows share; a sequence of them, one a row, so that row i of a batch
draws what it would draw alone; or `GivenNoise`, normal noise that was drawn before. Numbers are drawn where the source
lives and then moved, so that they are the same on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

import torch
from torch import Tensor

from .echo import shown
from .validation import as_floating, check_count, check_seed


@dataclass(frozen=True, eq=False)
class GivenNoise:
    """Standard normal noise to use instead of drawing it: (N, B, *), or (B, *) for one draw of the rows (B, *)."""

    noise: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", as_floating("noise", self.noise))


MOST_NUMBERS = 2**30
"""Numbers that are drawn at once at most: 4 GB in float32."""
Rng: TypeAlias = Union[torch.Generator, Sequence[torch.Generator], GivenNoise]  # noqa: UP007 - evaluated at run time


def seeded(seed: int) -> torch.Generator:
    """A fresh source on the CPU.

    Raises:
        ValueError: for a seed that is no whole number from 0 to 2^64 - 1.
    """
    check_seed("seed", seed)
    return torch.Generator().manual_seed(seed)


def normal(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Standard normal noise of a shape, on the CPU; on the meta device, where only shapes are asked for, none."""
    noise = torch.empty(shape, dtype=torch.float32)
    return noise if noise.is_meta else noise.normal_(generator=rng)


def draw_normal(x: Tensor, rng: Rng | None, samples: int = 1) -> Tensor:
    """Standard normal noise, ``samples`` draws a row of ``x`` (B, *): (samples, B, *), of x's type and device.

    Raises:
        ValueError: there is no source, or it is one for another number of rows or another shape.
    """
    x = as_floating("x", x)
    _check_draws(samples, x.numel())
    shape = (samples, *x.shape)
    if isinstance(rng, GivenNoise):
        given = rng.noise
        if tuple(given.shape) != shape and (samples != 1 or given.shape != x.shape):
            raise ValueError(f"noise: got shape {tuple(given.shape)}; allowed is {shape}, one a draw. Reshape it.")
        return given.to(x).reshape(shape)
    if isinstance(rng, torch.Generator):
        return torch.randn(shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device)
    rows = _one_a_row(rng, x.shape[0])
    drawn = [
        torch.randn((samples, 1, *x.shape[1:]), generator=row, device=row.device, dtype=x.dtype).to(x.device)
        for row in rows
    ]
    return torch.cat(drawn, dim=1)


def fixed_normal(x: Tensor, rng: Rng | None) -> Tensor:
    """The same standard normal noise at every step of a run: that of the source's seed, of x's shape (B, *).

    What the source has drawn since plays no part, and it draws nothing now.

    Raises:
        ValueError: as `draw_normal`.
    """
    if isinstance(rng, torch.Generator):
        return draw_normal(x, _at_its_seed(rng))[0]
    return draw_normal(x, [_at_its_seed(row) for row in rng] if isinstance(rng, Sequence) else rng)[0]


def _at_its_seed(rng: torch.Generator) -> torch.Generator:
    return torch.Generator(rng.device).manual_seed(rng.initial_seed())


def draw_uniform(rows: int, rng: Rng | None, samples: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers uniform in [0, 1), ``samples`` draws a row: (samples, rows), on the CPU.

    Raises:
        ValueError: there is no source of uniform numbers, or it is one for another number of rows.
    """
    check_count("rows", rows)
    _check_draws(samples, rows)
    if isinstance(rng, GivenNoise):
        raise ValueError("rng: got GivenNoise, which holds no uniform numbers; allowed is a torch.Generator. Pass one.")
    if isinstance(rng, torch.Generator):
        return torch.rand((samples, rows), generator=rng, device=rng.device, dtype=dtype).cpu()
    sources = _one_a_row(rng, rows)
    drawn = [torch.rand((samples, 1), generator=row, device=row.device, dtype=dtype).cpu() for row in sources]
    return torch.cat(drawn, dim=1)


def _check_draws(samples: int, numbers: int) -> None:
    """Refuse a number of draws, of so many ``numbers`` each, that is none or that no memory holds."""
    check_count("samples", samples)
    if samples * numbers > MOST_NUMBERS:
        raise ValueError(
            f"samples: got {shown(samples)} draws of {numbers} numbers; allowed are {MOST_NUMBERS} numbers at once. "
            "Draw fewer, or in parts."
        )


def _one_a_row(rng: Sequence[torch.Generator] | None, rows: int) -> Sequence[torch.Generator]:
    if rng is None:
        raise ValueError(
            "rng: got None, and no noise; allowed is a torch.Generator, since noise is drawn here. "
            "Pass rng=torch.Generator().manual_seed(0)."
        )
    if not isinstance(rng, (list, tuple)) or not all(isinstance(source, torch.Generator) for source in rng):
        raise ValueError(
            f"rng: got {shown(rng)}; allowed is a torch.Generator, a list of them, one a row, or noise. Pass seeded(0)."
        )
    if len(rng) != rows:
        raise ValueError(
            f"rng: got {len(rng)} sources for {rows} rows; allowed is one a row, or a single one for all. Pass as many."
        )
    return rng
