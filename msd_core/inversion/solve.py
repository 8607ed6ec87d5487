"""Solving down(y) = z for y, each sample for itself: Anderson acceleration of a damped fixed-point iteration.

With the residual f(y) = z - down(y), which is 0 at the inverse, the plain iteration is y <- y + beta f(y). It may
oscillate, and then gets worse with more iterations. Anderson's (1965; in the form of Walker & Ni 2011) takes the last m
differences of y and f and goes

    y <- y + beta f - (dY + beta dF) gamma,     gamma = argmin |f - dF gamma|

Every sample has its own gamma, stops at its own tolerance, and returns the best iterate that it met. One whose residual
grows far past its best, or is not finite, goes back to that iterate, forgets its differences and halves its beta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import check_settings, setting
from .base import Solved

_GROWTH = 4.0
"""A residual this many times the best one is a step that failed."""


@dataclass(frozen=True, kw_only=True)
class Solving:
    """The options of an inversion whose steps are solved for.

    Raises:
        ValueError: for a value out of range.
    """

    evaluations: int = setting(
        20, "most evaluations of a step; a sample stops as soon as it is at the tolerance", low=1, usual=(1, 100)
    )
    tolerance: float = setting(
        1e-6, "residual of a step, relative to the state's size, at which a sample is done", low=0, usual=(0, 0.01)
    )
    window: int = setting(
        3, "past iterates that the solver learns from; 0 is the plain iteration, which may oscillate", low=0, high=16,
        expert=True,
    )  # fmt: skip
    damping: float = setting(
        1.0, "share of the residual added in an iteration; less is slower and steadier", above=0, high=1, expert=True
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def solve(
        self,
        residual: Callable[[Tensor], Tensor],
        start: Tensor,
        measure: Callable[[Tensor], Tensor],
        tolerance: Tensor | None = None,
        noted: Callable[[Tensor], None] | None = None,
    ) -> Solved:
        """Drive ``residual`` (B, *) -> (B, *) to 0, from ``start`` (B, *); ``measure`` makes it a figure (B,).

        ``tolerance`` (B,) stands in place of the own one, a number a sample. ``noted`` is told after every call which
        samples (B,) have their best iterate from it.

        Each sample takes at most ``evaluations`` calls of ``residual``; all rows are evaluated until the last is done.
        """
        search = Search(start, self.window, self.damping)
        for _ in range(self.evaluations):
            missed = residual(search.y)
            search.take(missed, measure(missed), self.tolerance if tolerance is None else tolerance)
            if noted is not None:
                noted(search.better)
            if bool(search.done.all()):
                break
            search.move(missed)
        return Solved(search.best, search.least, search.used)


class Search:
    """Where the solver of a batch stands."""

    def __init__(self, start: Tensor, window: int, damping: float) -> None:
        rows = start.shape[0]
        self.y, self.best, self.best_missed = start, start, torch.zeros_like(start)
        self.least = torch.full((rows,), torch.inf, dtype=start.dtype, device=start.device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=start.device)
        self.better = self.done
        self.used = torch.zeros(rows, dtype=torch.int64, device=start.device)
        self._beta = torch.full_like(self.least, damping)
        self._window = window
        self._last: tuple[Tensor, Tensor] | None = None
        self._failed, self._fresh = self.done, ~self.done
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def take(self, missed: Tensor, size: Tensor, tolerance: float | Tensor) -> None:
        """Note the residual at ``y``: keep the best iterate of each sample, and stop those at the tolerance."""
        size = size.nan_to_num(torch.inf, torch.inf)
        self.used += ~self.done
        self.better = better = ~self.done & (size < self.least)
        self.best = torch.where(_rows(better, self.y), self.y, self.best)
        self.best_missed = torch.where(_rows(better, self.y), missed, self.best_missed)
        self._failed = ~self.done & ~better & ~(size <= _GROWTH * self.least)
        self.least = torch.where(better, size, self.least)
        self.done |= self.least <= tolerance

    def move(self, missed: Tensor) -> None:
        """The next iterate of every sample that is not done."""
        self._remember(missed)
        self._beta = torch.where(self._failed, self._beta / 2, self._beta)
        beta = _rows(self._beta, self.y)
        step = beta * missed
        if self._pairs:
            gamma = self._coefficients(missed)
            for (dy, df), part in zip(self._pairs, gamma.unbind(1), strict=True):
                step = step - _rows(part, self.y) * (dy + beta * df)
        self._last = self.y, missed
        restart = _rows(self._failed, self.y)
        going = torch.where(restart, self.best + beta * self.best_missed, self.y + step)
        self._fresh = self._failed
        self.y = torch.where(_rows(self.done, self.y), self.best, going)

    def _remember(self, missed: Tensor) -> None:
        """Add the last differences of y and f; those of samples that start anew count for nothing."""
        if not self._window or self._last is None:
            return
        forget = _rows(self._failed | self.done, self.y)
        fresh = _rows(self._fresh, self.y) | forget
        y, f = self._last
        newest = torch.where(fresh, 0.0, self.y - y), torch.where(fresh, 0.0, missed - f)
        older = [(torch.where(forget, 0.0, dy), torch.where(forget, 0.0, df)) for dy, df in self._pairs]
        self._pairs = [*older, newest][-self._window :]

    def _coefficients(self, missed: Tensor) -> Tensor:
        """gamma of the equation above, (B, differences): normal equations of differences scaled to length 1."""
        df = torch.stack([pair[1].flatten(1) for pair in self._pairs], dim=2)
        length = df.norm(dim=1, keepdim=True)
        unit = df / length.clamp(min=torch.finfo(df.dtype).tiny)
        target = torch.where(_rows(self._failed | self.done, missed), 0.0, missed).flatten(1)[:, :, None]
        # the systems are tiny, and not every accelerator has float64
        gram, right = (unit.mT @ unit).cpu().double(), (unit.mT @ target).cpu().double()
        ridge = 10 * torch.finfo(df.dtype).eps * torch.eye(gram.shape[1], dtype=gram.dtype)
        solved = torch.linalg.solve(gram + ridge, right)[..., 0].to(missed)
        return torch.where(length[:, 0] > 0, solved / length[:, 0].clamp(min=torch.finfo(df.dtype).tiny), 0.0)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """``values`` (B,) so that they broadcast over ``like`` (B, *)."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
