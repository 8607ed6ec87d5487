"""Presets of mean-shift distillation by name, made for the model at hand.

fast        the fewest evaluations, at a loss that docs/frontier.md states
balanced    the default: twice as many targets as fast, each a little closer
faithful    to the picture that it begins with, a sample unless there is another: lambda begins where the layout stays
paper       the paper's own setting (section 4.4, Alg. 2): for comparison, at 320 times the evaluations

A preset is a share of the model's own units (`units`) for each end of lambda, and settings that have no unit. The
shares are those at which the settings of docs/frontier.md were measured, on prompts other than those that they were
chosen on: lambda 8 or 2 to .7 on the demo model, whose latents have a length of 32 and a standard deviation of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from .distillation import Method
from .distillation.base import bandwidth_of
from .preset import Preset, preset_for
from .randomness import seeded
from .settings import build
from .units import Units
from .validation import check_choice, check_instance

LAYOUT, KEPT, DETAIL = 1 / 4, 1 / 16, 0.7
"""Shares of the length of a latent at which a run begins, where the layout is open and where it is kept, and of its
standard deviation at which it ends."""


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Attributes:
        text: what it is for, in a few words.
        changes: settings by plain name, beside the two ends of lambda.
        first: lambda at first, as a share of the length of a latent, s sqrt(d); or of s alone, if it is above 1.
        last: lambda at last, as a share of s.
        start: what it begins with unless there is something else: "" or "sample".
    """

    text: str
    changes: Mapping[str, Any]
    first: float = LAYOUT
    last: float = DETAIL
    start: str = ""

    def bandwidths(self, units: Units) -> tuple[float, float]:
        """The first and last lambda on a model of these units."""
        last = units.last(self.last)
        return units.last(self.first) if self.first > 1 else units.first(self.first, last), last


EXACT = {"estimator": "exact", "solver": "ddim", "solver_steps": 4, "samples": 1, "optimizer": "adam", "pull": "image"}
PAPER = {"estimator": "split", "centre": "inversion", "solver": "ddim", "solver_steps": 32, "samples": 1}
NAMED: Mapping[str, Named] = {
    "fast": Named(
        "no more evaluations than a sample", {**EXACT, "solver_steps": 3, "steps": 10, "inner_steps": 15, "lr": 1e-2}
    ),
    "balanced": Named("the default", {**EXACT, "steps": 20, "inner_steps": 15, "lr": 1e-2}),
    "faithful": Named(
        "keeps the picture that it begins with",
        {**EXACT, "steps": 12, "inner_steps": 5, "lr": 5e-3},
        first=KEPT,
        start="sample",
    ),
    "paper": Named(
        "the paper's, for comparison: very slow",
        {**PAPER, "steps": 400, "inner_steps": 1, "cfg": 7.5, "lr": 1e-2, "optimizer": "adam", "pull": "latent"},
        first=1e3,
        last=1e-2,
    ),
}
"""Name to what it stands for. Of the paper's lambda its Fig. 6 gives 10^3, 10 and 10^-2, for latents of deviation 1; it
gives no curve, and no steps of its solver: those are its DDIM's."""


def changes_of(name: str, units: Units) -> dict[str, Any]:
    """The settings by plain name that the preset called ``name`` has on a model of these ``units``.

    Raises:
        ValueError: for an unknown name, or a model whose levels all lie below the last lambda.
    """
    check_choice("preset", name, NAMED)
    check_instance("units", units, Units, "a Units. Make one with units_of(model, width, height)")
    start, end = NAMED[name].bandwidths(units)
    if not end < start:
        raise ValueError(
            f"preset: got {name!r}, which ends at λ {end:g}, for a model whose highest level is {units.sigma_max:g}; "
            "allowed are models that go higher. Set bandwidth_start and bandwidth_end yourself, without a preset."
        )
    return {
        "bandwidth_schedule": "exponential",
        "bandwidth_start": start,
        "bandwidth_end": end,
        **NAMED[name].changes,
    }


def preset_named(
    name: str, units: Units, changes: Mapping[str, Any] | None = None, generator: object = None, method: object = "msd"
) -> Preset:
    """The preset called ``name`` on a model of these ``units``, with ``changes`` by plain name: they win.

    Args:
        name: of `NAMED`.
        units: of the model, at the size of the picture.
        changes: what was set by hand.
        generator: or its class.
        method: what the run names as its method.

    Raises:
        ValueError: for an unknown name, a method other than mean-shift distillation, a generator with settings of its
            own, and as `preset_of`.
    """
    if method != "msd":
        told = repr(method) if isinstance(method, str) else type(method).__name__
        raise ValueError(
            f"preset: got {name!r} with the method {told}; allowed with 'msd' alone, whose settings it names. Leave "
            "one of them out."
        )
    if getattr(generator, "recommended", {}).get("msd"):
        raise ValueError(
            f"preset: got {name!r} for a generator that has settings of its own; allowed are generators of a picture. "
            "Leave it out."
        )
    own = changes_of(name, units)
    given = dict(changes or {})
    families = {key: given.pop(key) for key in ("estimator", "bandwidth_schedule") if key in given}
    base = build(preset_for(generator, "msd", own), families)
    return build(base, given)


def preset_at(
    units: Callable[[], Units],
    method: str | Method | Preset = "msd",
    changes: Mapping[str, Any] | None = None,
    generator: object = None,
    name: str | None = None,
) -> Preset:
    """The preset of a run: the one called ``name``, or ``method`` with its defaults, and ``changes`` by plain name.

    Mean-shift distillation by its own name is "balanced": with lambda in the model's units, unless a generator has
    settings of its own, or both ends of lambda are given.

    Args:
        units: of the model at the size of the picture; asked for only where something is in them.
        method: its name, it with its settings, or a whole `Preset`.
        changes: what was set by hand.
        generator: or its class.
        name: of `NAMED`, or None.

    Raises:
        ValueError: as `preset_named` and `preset_of`.
    """
    given = dict(changes or {})
    if name is None and isinstance(method, Preset):
        return build(method, given)
    own = bool(getattr(generator, "recommended", {}).get("msd"))
    ends = "bandwidths" in given or {"bandwidth_start", "bandwidth_end"} <= given.keys()
    if name is None and (method != "msd" or own or ends):
        return preset_for(generator, cast("str | Method", method), given)
    return preset_named(name or "balanced", units(), given, generator, method)


class _Blank:
    """A denoiser of nothing, which counts what it is asked."""

    def __init__(self, cost: int, units: Units) -> None:
        self.cost, self.units, self.sigma_max, self.data_std = cost, units, units.sigma_max, units.data_std

    def with_cfg(self, cfg: float) -> _Blank:
        return _Blank(1 if cfg == 1 else 2, self.units)

    def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:  # noqa: ARG002 - a denoiser's own
        return torch.zeros_like(z)


def planned_evaluations(preset: Preset, units: Units, *, cost: int = 2) -> int:
    """Network rows that a run of ``preset`` takes for each picture: its method is walked on a point, without a model.

    Args:
        preset: of a method that needs nothing beside the model.
        units: of the model.
        cost: network rows for each row of z, 2 with guidance.
    """
    blank, point = _Blank(cost if preset.cfg != 1 else 1, units), torch.zeros(1, 1, 1, 1)

    @cache
    def spent(step: int) -> int:
        return preset.method(point, blank, step=step, steps=preset.steps, rng=seeded(0))[1].evaluations

    def between(first: int, last: int) -> int:
        """Of the steps from ``first`` to ``last``: with lambda they fall, or stay."""
        if last - first < 2 or spent(first) == spent(last):
            return spent(first) * (last - first) + spent(last)
        middle = (first + last) // 2
        return between(first, middle) + between(middle + 1, last)

    return between(0, preset.steps - 1)


def in_words(preset: Preset) -> str:
    """Both ends of lambda, steps and updates of a preset."""
    method: Method = preset.method
    first, last = (bandwidth_of(method, step, preset.steps) for step in (0, preset.steps - 1))
    updates = f" of {preset.inner_steps} updates" if preset.inner_steps > 1 else ""
    return f"λ {first:.3g} to {last:.3g}, {preset.steps} steps{updates}"


def said(preset: Preset, units: Units, *, cost: int = 2) -> str:
    """The numbers of a preset in words: those of `in_words`, and evaluations."""
    return f"{in_words(preset)}, {planned_evaluations(preset, units, cost=cost):,} evaluations"
