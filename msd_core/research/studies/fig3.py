"""Fig. 3: unconditional distillation with the ideal and the learned denoiser: points and the landscape they descend.

Spiral and pinwheel are the paper's; two spirals, checkerboard and ring are shown with the ideal denoiser and the
one-step estimator alone.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..densities import make_density
from .fields import Truth, compare, landscape, off_support, resolution_of, truth_of
from .figures import panel_points, panels
from .landscapes import DEPTH, LAND_COLUMNS, LAND_FORMATS, land_note, land_row, panel_land
from .result import Figure, Result, Table
from .setting import DENOISERS, Case, make_case, moved_points, recipe_of, size_of
from .study import Cell, Context
from .style import METHOD_COLOURS, METHOD_LABELS
from .table2 import measured

IN_ALL = True
PAPER = ("spiral", "pinwheel")
METHODS = ("sds", "split", "exact")
OTHERS, OTHERS_METHOD = ("two-spirals", "checkerboard", "ring"), "one-step"
POINT_NAMES = ("NLL", "precision", "recall")


class Panel:
    """Points, landscape and numbers of one density, denoiser and method."""

    def __init__(self, context: Context, case: Case, kind: str, method: str, truth: Truth) -> None:
        recipe = recipe_of(context, kind, method)
        self.case, self.kind, self.method, self.truth = case, kind, method, truth
        self.x = moved_points(context, case, kind, recipe, size_of(context).side).tensors["x"]
        key = {"denoiser": kind, **asdict(recipe), "side": size_of(context).side}
        self.numbers = measured(context, case, self.x, key)
        self.outside = off_support(case, truth, self.x)
        self.field: Cell = landscape(context, case, kind, method)
        self.report = compare(self.field.tensors["potential"], truth)

    @property
    def names(self) -> list[str]:
        """First cells of its rows."""
        return [self.case.name, self.kind, METHOD_LABELS[self.method]]


def run(context: Context) -> Result:
    """A figure of each of the paper's densities, one of the others, and two tables."""
    context.plan("fig3", len(PAPER) * (10 * len(METHODS) + 1) + 5 * len(OTHERS))
    shown: dict[str, list[Panel]] = {}
    for name in PAPER:
        case = make_case(name)
        truth = truth_of(context, case)
        shown[name] = [Panel(context, case, kind, method, truth) for method in METHODS for kind in DENOISERS]
    for name in OTHERS:
        case = Case(name, make_density(name), None)
        shown[name] = [Panel(context, case, "ideal", OTHERS_METHOD, truth_of(context, case))]
    everything = [panel for panels_ in shown.values() for panel in panels_]
    figures = [*(draw(context, shown[name]) for name in PAPER), draw_others([shown[name][0] for name in OTHERS])]
    return Result(
        "fig3",
        "Fig. 3: points and landscapes without condition",
        [points_table(everything), landscape_table(context, shown)],
        figures,
        _paragraphs(everything),
        {"size": asdict(size_of(context)), "resolution": asdict(resolution_of(context))},
    )


def points_table(shown: list[Panel]) -> Table:
    """Where the points are."""
    rows = [[*p.names, *(p.numbers[name] for name in POINT_NAMES), p.outside] for p in shown]
    note = (
        "*Outside*: share of the points where the density is lower than at 999 of 1,000 of its own samples; the other "
        "columns as in Table 2."
    )
    formats = {"NLL": ".2f", "precision": ".3f", "recall": ".3f", "outside": ".4f"}
    return Table(
        "fig3", "Fig. 3: points", ("density", "denoiser", "method", *POINT_NAMES, "outside"), rows, note, formats
    )


def landscape_table(context: Context, shown: dict[str, list[Panel]]) -> Table:
    """How the landscapes compare with the smoothed density."""
    rows: list[list[Any]] = []
    for name, panels_ in shown.items():
        truth = panels_[0].truth
        rows.append([name, "–", "log (p ∗ N(0, λ²))", *land_row(compare(truth.potential, truth))])
        rows += [[*p.names, *land_row(p.report, p.field)] for p in panels_]
    columns = ("density", "denoiser", "landscape", *LAND_COLUMNS)
    return Table("landscapes", "Fig. 3: landscapes", columns, rows, land_note(context), LAND_FORMATS)


def draw(context: Context, shown: list[Panel]) -> Figure:
    """A row a method; for each denoiser, points and landscape."""
    figure, axes = panels(len(METHODS), 2 * len(DENOISERS))
    for i, panel in enumerate(shown):
        row, column = divmod(i, len(DENOISERS))
        title = f"{METHOD_LABELS[panel.method]}, {panel.kind}"
        left, right = axes[row, 2 * column : 2 * column + 2]
        panel_points(left, panel.case.density, panel.x, colour=METHOD_COLOURS[panel.method], size=1.2, title=title)
        panel_land(right, panel.field.tensors["potential"], panel.method, panel.truth)
    name, r = shown[0].case.name, resolution_of(context)
    caption = (
        f"The {name}: {len(shown[0].x):,} points from a grid over the square, moved by each method (left), and the "
        f"landscape over [−1.5, 1.5]² that its field integrates to (right; MSD at λ = {r.bandwidth:g}, the "
        f"upper {DEPTH:g} nats; SDS whole); with the ideal and with the learned denoiser. Dots are the modes of the "
        "density smoothed by that λ, rings the landscape's peaks."
    )
    return Figure(name, f"Fig. 3: {name}", caption, figure)


def draw_others(shown: list[Panel]) -> Figure:
    """Points above, landscapes below."""
    figure, axes = panels(2, len(shown), width=8.0)
    for (above, below), panel in zip(axes.T, shown, strict=True):
        title, colour = f"{panel.case.name}: {METHOD_LABELS[panel.method]}, ideal", METHOD_COLOURS[panel.method]
        panel_points(above, panel.case.density, panel.x, colour=colour, size=1.4, title=title)
        panel_land(below, panel.field.tensors["potential"], panel.method, panel.truth)
    caption = "Three more densities, the ideal denoiser and the one-step estimator; as above."
    return Figure("others", "Other densities", caption, figure)


def _paragraphs(shown: list[Panel]) -> list[str]:
    """What is to be seen, in numbers."""
    lines = []
    for method in METHODS:
        mine = [p for p in shown if p.method == method and p.case.name in PAPER]
        outside = [p.outside for p in mine]
        order, rise = [p.report["order"] for p in mine], [p.report["rise at a peak"] for p in mine]
        lines.append(
            f"- {METHOD_LABELS[method]}: {_range(outside, '.1%')} of the points outside of the support; "
            f"around the landscape's peaks the log of the smoothed density rises by {_range(rise, '.3f')} nats; order "
            f"{_range(order, '.3f')}."
        )
    return [f"Over {' and '.join(PAPER)} and both denoisers, least to most:\n\n" + "\n".join(lines)]


def _range(values: list[float], spec: str) -> str:
    kept = [v for v in values if v == v]  # without NaN, of a landscape that has no peak
    if not kept:
        return "none"
    low, high = format(min(kept), spec), format(max(kept), spec)
    return low if low == high else f"{low} to {high}"
