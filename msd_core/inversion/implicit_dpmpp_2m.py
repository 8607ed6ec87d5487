"""The inverse of DPM-Solver++(2M), solved for in sweeps over all levels.

A step down from sigma_{i+1} uses the denoised picture D_{i+1} there and the one before, D_{i+2}, which the way up has
not seen yet. So the whole walk is solved by sweeps: the first takes every step as DDIM's; each later one solves the
steps

    z_i = down(z_{i+1}; D(z_{i+1}) + w (D_{i+1} - D_{i+2}))       w = 1/2r of `multistep`

upwards, each no closer than the sweep before was off as a whole, from the state of that sweep and what the model said
there: no state is asked about twice. The differences of all steps are held during a sweep, and go from one to the next
by Anderson's acceleration, since the plain iteration stalls. The residuals are those of the states with their own
differences. Each sample keeps the best of its sweeps, and stops at the tolerance, or where the sweeps no longer halve
its residual: above cfg 1 they mostly do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ..denoiser import RowCounter
from ..multistep import dpmpp_2m_weight
from ..randomness import Rng
from ..settings import setting
from .base import Rise, Solved, ddim_down, residual_of, same_variance
from .solve import Search, Solving

CLOSER, FIRST = 0.03, 1e-3
"""Tolerance of a sweep's steps as a share of the residual that the sweep before has left; and of the first sweep."""


@dataclass(frozen=True, kw_only=True)
class ImplicitDPMpp2M(Solving):
    """The walk above; it draws nothing."""

    sampler: ClassVar[str] = "dpmpp_2m"

    sweeps: int = setting(10, "most sweeps over all levels; they stop at the tolerance", low=1, usual=(1, 50))
    patience: int = setting(
        3, "sweeps within which a sample's residual must halve; else it stops with its best one", low=1, usual=(1, 20),
        expert=True,
    )  # fmt: skip

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first."""
        steps = range(len(levels) - 1)
        weights = [dpmpp_2m_weight(*levels[i : i + 3][::-1]) if i + 2 < len(levels) else 0.0 for i in steps]
        states = [x] * len(levels)
        changes = torch.zeros_like(x)[:, None].repeat_interleave(len(steps), dim=1)
        best = _Best(len(levels), x, self.patience)
        search = Search(changes, self.window, self.damping)
        tolerance = x.new_full((len(x),), max(self.tolerance, FIRST))
        found = [x] * len(steps)  # what the model returns at the states above
        for sweep in range(self.sweeps):
            spent = torch.zeros(len(x), dtype=torch.int64)
            for i in steps:
                start = same_variance(states[i], levels[i], levels[i + 1]) if sweep == 0 else states[i + 1]
                added = weights[i] * search.y[:, i]
                known = found[i] if sweep else None
                solved, found[i] = self._step(states[i], start, known, denoiser, levels, i, added, tolerance)
                states[i + 1], spent = solved.state, spent + solved.evaluations.cpu() - min(sweep, 1)
            changes = torch.stack([found[i] - found[min(i + 1, len(steps) - 1)] for i in steps], dim=1)
            ends = [_down(states[i + 1], found[i] + weights[i] * changes[:, i], levels, i) for i in steps]
            residuals = torch.stack([residual_of(states[i] - ends[i], levels[i + 1]) for i in steps])
            if best.take(states, residuals, spent, self.tolerance):
                break
            off = residuals.amax(dim=0)
            tolerance = (CLOSER * off).nan_to_num(FIRST).clamp(self.tolerance, max(self.tolerance, FIRST))
            search.take(changes - search.y, off, self.tolerance)
            search.move(changes - search.y)
        for i in steps:
            yield Rise(best.states[i + 1], best.residuals[i], best.spent if i == 0 else torch.zeros_like(best.spent))

    def _step(
        self,
        z: Tensor,
        start: Tensor,
        known: Tensor | None,
        denoiser: RowCounter,
        levels: Sequence[float],
        i: int,
        added: Tensor,
        tolerance: Tensor,
    ) -> tuple[Solved, Tensor]:
        """The step up from level i, with ``added`` to what the model returns where it ends.

        Args:
            z: (B, *), the state at level i.
            start: (B, *), where the search begins; ``known`` is what the model returns there, if it was asked.

        Returns:
            What was found, the known answer among its evaluations, and what the model returns there (B, *).
        """
        answers = iter(() if known is None else (known,))
        last = best = torch.full_like(start, torch.nan)  # of a sample that no iterate fits

        def missed(y: Tensor) -> Tensor:
            nonlocal last
            answer = next(answers, None)
            last = denoiser(y, levels[i + 1]) if answer is None else answer
            return z - _down(y, last + added, levels, i)

        def note(better: Tensor) -> None:
            nonlocal best
            best = torch.where(better.reshape(-1, *(1,) * (z.ndim - 1)), last, best)

        return self.solve(missed, start, partial(residual_of, sigma_next=levels[i + 1]), tolerance, note), best


def _down(y: Tensor, denoised: Tensor, levels: Sequence[float], i: int) -> Tensor:
    """The step from ``y`` at level i + 1 to level i."""
    return ddim_down(y, denoised, levels[i + 1], levels[i])


class _Best:
    """The best sweep of each sample so far: that with the smallest largest residual."""

    def __init__(self, levels: int, x: Tensor, patience: int) -> None:
        self.states = [x] * levels
        self.residuals = torch.full((levels - 1, x.shape[0]), torch.inf, dtype=x.dtype, device=x.device)
        self.spent = torch.zeros(x.shape[0], dtype=torch.int64)
        self._done = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        self._earlier = deque([self.residuals.amax(dim=0)], maxlen=patience)

    def take(self, states: list[Tensor], residuals: Tensor, spent: Tensor, tolerance: float) -> bool:
        """Note a sweep that took ``spent`` evaluations (B,); returns whether all samples are done."""
        least, largest = self.residuals.amax(dim=0), residuals.amax(dim=0)
        self.spent = self.spent + torch.where(self._done.cpu(), 0, spent)
        better = ~self._done & (largest < least)
        self.residuals = torch.where(better, residuals, self.residuals)
        rows = better.reshape(-1, *(1,) * (states[0].ndim - 1))
        self.states = [torch.where(rows, new, old) for new, old in zip(states, self.states, strict=True)]
        least = torch.where(better, largest, least)
        stalled = ~(least < self._earlier[0] / 2) if len(self._earlier) == self._earlier.maxlen else ~least.isfinite()
        self._earlier.append(least)
        self._done |= (least <= tolerance) | stalled
        return bool(self._done.all())
