"""Fig. 1: class A of the fractal, the paper's "orange": where each method takes points, and what landscape it descends.

Sampling (DDIM) is shown without guidance, with classifier-free guidance (cfg = 4 as in the paper) and with autoguidance
(Karras et al. 2024); distillation (SDS and MSD) without guidance. All with learned denoisers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ...densities import GaussianMixture
from ...guidance import GuidedDenoiser
from ..landscape import Extent
from ..toy import smaller, unconditional
from ..toy.guided import AUTOGUIDANCE, CFG
from .fields import Truth, compare, landscape, off_support, resolution_of, truth_of
from .figures import log_density, panel_points, panels
from .landscapes import DEPTH, LAND_COLUMNS, LAND_FORMATS, land_note, land_row, panel_land
from .result import Figure, Result, Table
from .setting import (
    SOLVER_STEPS,
    Case,
    Recipe,
    learned_denoiser,
    make_case,
    moved_points,
    recipe_of,
    sample_ddim,
    size_of,
    toy_settings,
)
from .study import Cell, Context, OnStep
from .style import INK, METHOD_COLOURS, METHOD_LABELS, STYLE
from .table2 import REACHED, measured, true_modes

IN_ALL = True
NAME, KIND = "fractal", "learned"
GUIDANCES = {"cfg": f"DDIM, cfg = {CFG:g}", "autoguidance": f"DDIM, autoguidance {AUTOGUIDANCE:g}"}
DESCENTS = ("sds", "split", "exact", "one-step")
SMALL_START = 0.1
"""Where lambda starts for the one-step points, to keep them apart: from the paper's .316 they all run together."""
CLOSE_UP = (-0.25, 0.45, 0.2, 0.9)
WARM = ("#fdf3e3", "#fbe7c8", "#f8d9ab", "#f3c98d")


@dataclass(frozen=True)
class Part:
    """A density seen through a window."""

    of: Any
    extent: Extent


def label(name: str) -> str:
    """What a method is called in tables and titles of points."""
    start = f", λ from {SMALL_START:g}" if name == "one-step" else ""
    return GUIDANCES.get(name) or METHOD_LABELS[name] + start


def guided_denoiser(context: Context, case: Case, name: str) -> GuidedDenoiser:
    """The learned denoiser of the sought class under the guidance ``name``, one of `GUIDANCES`."""
    settings = toy_settings(context, case, case.cls)
    guide = unconditional(settings) if name == "cfg" else smaller(settings)
    cfg = CFG if name == "cfg" else AUTOGUIDANCE
    return GuidedDenoiser(learned_denoiser(context, case), learned_denoiser(context, case, guide), cfg)


def guided_points(context: Context, case: Case, name: str) -> Cell:
    """DDIM samples with guidance: tensor "x"."""
    denoiser = guided_denoiser(context, case, name)

    def compute(_: OnStep) -> Cell:
        rng = context.rng("move", case.name, KIND, "ddim")  # the noise of DDIM without guidance
        return Cell(
            {"evaluations": 2 * SOLVER_STEPS["ddim"]},
            {"x": sample_ddim(denoiser, size_of(context).side ** 2, rng)},
        )

    key = {**case.key, "denoiser": KIND, "guidance": name, "cfg": denoiser.cfg, "side": size_of(context).side}
    return context.cell("guided", key | {"solver_steps": SOLVER_STEPS["ddim"]}, compute)


def points_of(context: Context, case: Case, name: str) -> tuple[Tensor, dict[str, float]]:
    """The points of a method (N, 2) and their metrics."""
    if name in GUIDANCES:
        x, key = guided_points(context, case, name).tensors["x"], {"guidance": name}
    else:
        recipe: Recipe = recipe_of(context, KIND, name)
        if name == "one-step":
            recipe = replace(recipe, first=SMALL_START)
        x, key = moved_points(context, case, KIND, recipe, size_of(context).side).tensors["x"], asdict(recipe)
    return x, measured(context, case, x, {"denoiser": KIND, **key, "side": size_of(context).side})


def run(context: Context) -> Result:
    """Points and landscapes in a figure, a close-up, and a table of each."""
    case, names = make_case(NAME), ("ddim", *GUIDANCES, *DESCENTS)
    context.plan("fig1", 4 * (1 + len(DESCENTS)) + 5 * len(GUIDANCES) + 2 + 2 * len(DESCENTS))
    found = {name: points_of(context, case, name) for name in names}
    truth, modes = truth_of(context, case), true_modes(context, case)
    fields = {name: landscape(context, case, KIND, name) for name in DESCENTS}
    outside = {name: off_support(case, truth, x) for name, (x, _) in found.items()}
    reports = {name: compare(cell.tensors["potential"], truth) for name, cell in fields.items()}
    points = {name: x for name, (x, _) in found.items()}
    numbers = {name: n for name, (_, n) in found.items()}
    tables = [points_table(numbers, outside), landscape_table(context, fields, reports, truth)]
    pictures = [draw(context, case, points, fields, modes, truth), draw_close(case, points, modes)]
    return Result(
        "fig1",
        "Fig. 1: samplers, descents and landscapes",
        tables,
        pictures,
        _paragraphs(context, numbers, outside, reports),
        {"size": asdict(size_of(context)), "resolution": asdict(resolution_of(context)), "cfg": CFG},
    )


def points_table(numbers: dict[str, dict[str, float]], outside: dict[str, float]) -> Table:
    """Where the points are."""
    names = ("modes reached", "to mode", "NLL", "precision", "recall")
    rows = [[label(name), *(n[k] for k in names), outside[name]] for name, n in numbers.items()]
    note = (
        f"*Modes reached*: share of the modes of class A with a point within {REACHED:g}; *to mode*: median distance "
        "to the nearest of them; NLL in nats; *outside*: share of the points where the density is lower than at 999 of "
        "1,000 of its own samples. Guidance starts from the same noise as DDIM without it."
    )
    formats = {"modes reached": ".3f", "to mode": ".4f", "NLL": ".2f"} | dict.fromkeys(names[3:], ".3f")
    return Table("fig1", "Fig. 1: points", ("method", *names, "outside"), rows, note, formats | {"outside": ".4f"})


def landscape_table(
    context: Context, fields: dict[str, Cell], reports: dict[str, dict[str, float]], truth: Truth
) -> Table:
    """How the landscapes compare with the smoothed density."""
    rows = [["log (p ∗ N(0, λ²))", *land_row(compare(truth.potential, truth))]]
    rows += [[METHOD_LABELS[name], *land_row(reports[name], cell)] for name, cell in fields.items()]
    note = land_note(context, len(truth.modes))
    return Table("landscapes", "Fig. 1: landscapes", ("landscape", *LAND_COLUMNS), rows, note, LAND_FORMATS)


def draw(
    context: Context, case: Case, points: dict[str, Tensor], fields: dict[str, Cell], modes: Tensor, truth: Truth
) -> Figure:
    """Samplers above, descents below them, and under each descent its landscape."""
    figure, axes = panels(3, 4)
    panel_points(axes[0, 0], case.density, modes, colour=INK, size=1.2, alpha=0.9, title="truth: class A and its modes")
    for ax, name in zip(axes[0, 1:], ("ddim", *GUIDANCES), strict=True):
        panel_points(ax, case.density, points[name], colour=METHOD_COLOURS["ddim"], size=1.1, title=label(name))
    for column, name in enumerate(DESCENTS):
        panel_points(
            axes[1, column], case.density, points[name], colour=METHOD_COLOURS[name], size=1.1, title=label(name)
        )
        panel_land(axes[2, column], fields[name].tensors["potential"], name, truth)
    for ax in axes[:2].flat:
        warm(ax, case.truth, case.density.extent)
    r = resolution_of(context)
    caption = (
        f"The fractal, class A (warm) and class B (grey), learned denoisers. Above: the modes of class A, and "
        f"{len(points['ddim']):,} DDIM samples without guidance, with cfg = {CFG:g} and with autoguidance. Middle: "
        f"{len(points['sds']):,} points from a grid over the square, moved by SDS and by the estimators of MSD, "
        f"without guidance (λ from .316, for one-step from {SMALL_START:g}). Below: the landscapes over [−1.5, 1.5]² "
        f"that their fields integrate to (MSD at λ = {r.bandwidth:g}, the upper {DEPTH:g} nats; SDS whole); dots are "
        "the modes of the density smoothed by that λ, rings the landscape's peaks."
    )
    return Figure("fig1", "Fig. 1: points and landscapes", caption, figure)


def draw_close(case: Case, points: dict[str, Tensor], modes: Tensor) -> Figure:
    """The same points from near."""
    names = ("ddim", "cfg", "autoguidance", *DESCENTS)
    figure, axes = panels(2, 4)
    part = Part(case.density.of, CLOSE_UP)
    panel_points(axes[0, 0], part, modes, colour=INK, size=3, alpha=0.9, title="truth: class A and its modes")
    for ax, name in zip(axes.flat[1:], names, strict=True):
        colour = METHOD_COLOURS.get(name, METHOD_COLOURS["ddim"])
        panel_points(ax, part, points[name], colour=colour, size=2.2, alpha=0.7, title=label(name))
    for ax in axes.flat:
        warm(ax, case.truth, CLOSE_UP)
    caption = "The same points in a window of width .7, where the filaments of class A are wider than the dots."
    return Figure("close", "Fig. 1, from near", caption, figure)


@matplotlib.rc_context(STYLE)
def warm(ax: Axes, mixture: GaussianMixture, extent: Extent, depth: float = 6.0) -> None:
    """Tint the upper ``depth`` nats of a mixture, below whatever is drawn already."""
    values = log_density(mixture, extent)
    levels = np.linspace(values.max() - depth, values.max(), len(WARM) + 1)
    ax.contourf(values, levels=levels, extent=extent, colors=WARM, zorder=1.2)


def _paragraphs(
    context: Context,
    numbers: dict[str, dict[str, float]],
    outside: dict[str, float],
    reports: dict[str, dict[str, float]],
) -> list[str]:
    """What is to be seen, in numbers."""
    reached = {name: n["modes reached"] for name, n in numbers.items()}
    sampling = (
        f"DDIM has a point within {REACHED:g} of {reached['ddim']:.1%} of the modes of class A; with cfg = {CFG:g} of "
        f"{reached['cfg']:.1%}, with autoguidance of {reached['autoguidance']:.1%}. Recall goes from "
        f"{numbers['ddim']['recall']:.3f} to {numbers['cfg']['recall']:.3f} and "
        f"{numbers['autoguidance']['recall']:.3f}."
    )
    leaving = ", ".join(f"{label(name)} {outside[name]:.1%}" for name in DESCENTS)
    support = f"Share of the points outside of the support (DDIM {outside['ddim']:.1%}): {leaving}."
    lands = "; ".join(
        f"{METHOD_LABELS[name]} {r['peaks at a mode']:.0%} of {r['peaks']:.0f} peaks at a mode of the smoothed "
        f"density, whose log rises {r['rise at a peak']:.2f} nats around them, order {r['order']:.3f}"
        for name, r in reports.items()
    )
    return [sampling, support, f"Landscapes: {lands}.", WHY_SDS]


WHY_SDS = (
    "Of an exact denoiser both fields are gradients. MSD's landscape is log (p ∗ N(0, λ²)): the density is smoothed, "
    "then its log is taken. SDS's is E[w σ (log p_σ ∗ N(0, σ²))] over t, p_σ = p ∗ N(0, σ²): the log itself is "
    "smoothed again, and all levels are averaged. A log falls without bound where the density is low, so the average "
    "of logs around x says how near the emptiest places are, not how high the density is at x."
)
