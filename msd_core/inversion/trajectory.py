"""An inversion: the levels, the states on the way up, what it cost, and how well it went."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, Sigma, at_least_float32, check_denoiser, checked
from ..echo import shown
from ..finite import check_finite
from ..randomness import Rng
from ..sampling import as_sigmas, check_sigmas
from ..validation import as_finite, is_number
from .base import (
    EXACT_AT_ANY_CFG,
    Inversion,
    Rise,
    SolvedStep,
    UpwardStep,
    UpwardWalk,
    ddim_down,
    residual_of,
    sampler_of,
)
from .explicit import ExplicitStep
from .masked import Inside, MaskedDenoiser, Outside
from .report import Report, make_report


@dataclass(frozen=True, eq=False)
class Trajectory:
    """States of an inversion, from x upwards.

    N states of B samples are held once, where x lies: 51 of a 4 x 128 x 128 latent are 13 MB in float32.

    Attributes:
        sigmas: the levels, ascending, shape (N,), float32 or float64.
        states: the state at each level, shape (N, B, *); ``states[0]`` is x.
        evaluations: network rows that it took.
        inversion: what made it, and so knows the way back (`resample`); None is DDIM.
        kept: what the way back needs at each step, by name, each (N - 1, B, *); entry i belongs to the step from
            level i + 1 down to level i.
        report: residuals, evaluations of each sample, statistics of the last state; None if it was not inverted here.
        outside: what is known outside of a mask; None without one.
    """

    sigmas: Tensor
    states: Tensor
    evaluations: int = 0
    inversion: Inversion | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    report: Report | None = None
    outside: Outside | None = None

    def __repr__(self) -> str:
        low, high = float(self.sigmas[0]), float(self.sigmas[-1])
        return f"Trajectory({len(self.sigmas)} levels from {low:g} to {high:g}, states {tuple(self.states.shape[1:])})"

    def at(self, sigma: float) -> Tensor:
        """The state (B, *) at ``sigma``, linear between levels: the Euler polygon itself.

        Raises:
            ValueError: outside the levels of the trajectory.
        """
        levels = self.sigmas.tolist()
        if not is_number(sigma) or not levels[0] <= sigma <= levels[-1]:
            raise ValueError(
                f"sigma: got {shown(sigma)}; allowed is {levels[0]:g} to {levels[-1]:g}, the levels of this "
                "trajectory. Invert with a schedule that reaches it."
            )
        i = max(bisect_left(levels, sigma), 1)
        weight = (sigma - levels[i - 1]) / (levels[i] - levels[i - 1])
        return torch.lerp(self.states[i - 1], self.states[i], weight)

    def warning(self, exact: str = EXACT_AT_ANY_CFG) -> str | None:
        """`Report.warning`, of what was measured; None without a report."""
        return None if self.report is None else self.report.warning(exact)


def inversion_steps(
    x: Tensor, denoiser: Denoiser, levels: Sequence[Sigma], step: UpwardStep, rng: Rng | None = None
) -> Iterator[Tensor]:
    """Yield the state (B, *) at each of the ascending ``levels`` but the first, at which ``x`` lies.

    The last level may differ from row to row, shape (B,).
    """
    z = at_least_float32(x)
    for sigma, sigma_next in zip(levels, levels[1:], strict=False):
        z = checked("step", step(z, denoiser, float(sigma), sigma_next, rng), z)
        yield z


@torch.no_grad()
def invert(
    x: Tensor,
    denoiser: Denoiser,
    sigmas: Tensor,
    step: str | Inversion = ExplicitStep(),  # noqa: B008 - frozen
    rng: Rng | None = None,
    mask: Tensor | None = None,
) -> Trajectory:
    """Invert ``x`` and return every state; no gradient is recorded.

    Args:
        x: the state at the lowest level, shape (B, *): a clean picture if that level is 0, as it should be.
        denoiser: ``(z, sigma) -> E[y | z]``; guidance above cfg 1-2 makes most inversions inaccurate; see the report.
        sigmas: strictly increasing or strictly decreasing levels, shape (N,), N >= 2.
        step: the inversion, one of `INVERSIONS`, or its name; explicit DDIM if left out.
        rng: of an inversion that draws noise, and of a mask's outside.
        mask: of whole cells, (h, w) or (B or 1, 1, h, w): 1 where ``x`` (B, C, h, w) is inverted, 0 where it stays as
            it is, under drawn noise (`masked`). The lowest level must be 0.

    Returns:
        The `Trajectory`; the explicit step takes ``N - 1`` evaluations per row.

    Raises:
        ValueError: for other ``sigmas``, an unknown ``step``, an ``x`` without batch dimension or not finite, or a
            ``mask`` that does not fit.
    """
    from . import INVERSIONS

    x, sigmas, chosen = as_finite("x", x), as_sigmas(sigmas), INVERSIONS.made("step", step)
    check_denoiser(denoiser)
    if sigmas.numel() > 1 and sigmas[0] < sigmas[-1]:
        sigmas = sigmas.flip(0)
    levels = check_sigmas(sigmas)[::-1]
    start = at_least_float32(x)
    outside = None if mask is None else _outside(start, mask, rng, levels, chosen)
    asked = _Asked(denoiser)
    walked, tolerance = chosen, getattr(chosen, "tolerance", None)
    if outside is not None:
        start = start * outside.mask
        asked = _Asked(Inside(MaskedDenoiser(denoiser, outside), outside.mask), inside=outside.mask)
        if tolerance is not None:
            walked = replace(cast("Any", chosen), tolerance=tolerance * float(outside.share.min()) ** 0.5)
    states, rises, residuals = [start], [], []
    spent = torch.zeros(x.shape[0], dtype=torch.int64)
    calls = 0
    for rise in _rises(start, asked, levels, walked, rng):
        if residuals and residuals[-1] is None and sampler_of(chosen) == "ddim":
            residuals[-1] = asked.residual_below(states, levels)
        spent += asked.calls - calls if rise.evaluations is None else rise.evaluations.cpu()
        calls = asked.calls
        states.append(rise.state)
        rises.append(rise)
        residuals.append(rise.residual)
    if outside is not None:  # where nothing is missed, so that the mean over all cells is a share of that inside
        residuals = [None if missed is None else missed / outside.share.to(missed).sqrt() for missed in residuals]
        states = [outside.filled(state, level) for state, level in zip(states, levels, strict=True)]
    kept = {name: torch.stack([rise.kept[name] for rise in rises]) for name in rises[0].kept}
    check_finite("denoiser", [states[-1], *kept.values()], "inversion", "Run the model in float32, or lower cfg.")
    report = make_report(residuals, spent, states[-1], levels, tolerance)
    rows = asked.rows + sum(rise.extra_rows for rise in rises)
    return Trajectory(sigmas.flip(0), torch.stack(states), rows, chosen, kept, report, outside)


def _outside(x: Tensor, mask: Tensor, rng: Rng | None, levels: Sequence[float], inversion: Inversion) -> Outside:
    if not getattr(inversion, "local", True):
        raise ValueError(
            f"mask: got one with the inversion {sampler_of(inversion)!r}, which acts on the whole picture; allowed is "
            "any other. Leave the mask out, or take 'direct'."
        )
    if levels[0] != 0:
        raise ValueError(
            f"mask: got one with sigmas that end at {levels[0]:g}; allowed is 0, where x is the picture that stays. "
            "Append 0 to sigmas."
        )
    return Outside.drawn(x, mask, rng)


@dataclass
class _Asked(RowCounter):
    """A denoiser that counts its calls and remembers the last one; ``inside``: 1 where a residual counts."""

    inside: Tensor | None = None
    calls: int = 0
    last: tuple[Tensor, Sigma, Tensor] | None = None

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        denoised = super().__call__(z, sigma)
        self.calls, self.last = self.calls + 1, (z, sigma, denoised)
        return denoised

    def residual_below(self, states: list[Tensor], levels: Sequence[float]) -> Tensor | None:
        """The residual of the step up to the last of ``states``, at no cost if the model was asked there last."""
        i = len(states) - 1
        if self.last is None or self.last[0] is not states[i] or self.last[1] != levels[i]:
            return None
        missed = states[i - 1] - ddim_down(states[i], self.last[2], levels[i], levels[i - 1])
        return residual_of(missed if self.inside is None else missed * self.inside, levels[i])


def _rises(
    x: Tensor, denoiser: RowCounter, levels: Sequence[float], inversion: Inversion, rng: Rng | None
) -> Iterator[Rise]:
    """The moves of any kind of inversion."""
    if hasattr(inversion, "walk"):
        yield from cast("UpwardWalk", inversion).walk(x, denoiser, levels, rng)
    elif hasattr(inversion, "rise"):
        z, solver = x, cast("SolvedStep", inversion)
        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            solved = solver.rise(z, denoiser, sigma, sigma_next)
            z = solved.state
            yield Rise(z, solved.residual, solved.evaluations)
    else:
        yield from map(Rise, inversion_steps(x, denoiser, levels, cast("UpwardStep", inversion), rng))


def ddim_invert(x: Tensor, denoiser: Denoiser, sigmas: Tensor) -> Trajectory:
    """`invert` by explicit DDIM steps."""
    return invert(x, denoiser, sigmas)
