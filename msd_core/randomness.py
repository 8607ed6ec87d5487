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

from .validation import check_count


@dataclass(frozen=True, eq=False)
class GivenNoise:
    """Standard normal noise to use instead of drawing it: (N, B, *), or (B, *) for one draw of the rows (B, *)."""

    noise: Tensor


Rng: TypeAlias = Union[torch.Generator, Sequence[torch.Generator], GivenNoise]  # noqa: UP007 - evaluated at run time


def seeded(seed: int) -> torch.Generator:
    """A fresh source on the CPU.

    Raises:
        ValueError: for a seed that is no whole number from 0 to 2^64 - 1.
    """
    check_count("seed", seed, minimum=0)
    if seed >= 2**64:
        raise ValueError(f"seed: got {seed}; allowed are whole numbers from 0 to 2^64 - 1. Use a smaller one.")
    return torch.Generator().manual_seed(seed)


def draw_normal(x: Tensor, rng: Rng | None, samples: int = 1) -> Tensor:
    """Standard normal noise, ``samples`` draws a row of ``x`` (B, *): (samples, B, *), of x's type and device.

    Raises:
        ValueError: there is no source, or it is one for another number of rows or another shape.
    """
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


def draw_uniform(rows: int, rng: Rng | None, samples: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers uniform in [0, 1), ``samples`` draws a row: (samples, rows), on the CPU.

    Raises:
        ValueError: there is no source of uniform numbers, or it is one for another number of rows.
    """
    if isinstance(rng, GivenNoise):
        raise ValueError("rng: got GivenNoise, which holds no uniform numbers; allowed is a torch.Generator. Pass one.")
    if isinstance(rng, torch.Generator):
        return torch.rand((samples, rows), generator=rng, device=rng.device, dtype=dtype).cpu()
    sources = _one_a_row(rng, rows)
    drawn = [torch.rand((samples, 1), generator=row, device=row.device, dtype=dtype).cpu() for row in sources]
    return torch.cat(drawn, dim=1)


def _one_a_row(rng: Sequence[torch.Generator] | None, rows: int) -> Sequence[torch.Generator]:
    if rng is None:
        raise ValueError(
            "rng: got None, and no noise; allowed is a torch.Generator, since noise is drawn here. "
            "Pass rng=torch.Generator().manual_seed(0)."
        )
    if len(rng) != rows:
        raise ValueError(f"rng: got {len(rng)} sources for {rows} rows; allowed is one a row, or a single one for all.")
    return rng
