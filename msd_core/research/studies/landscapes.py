"""Landscapes on the page: their panel, and the columns of the tables that compare them with the truth."""

from __future__ import annotations

import matplotlib
from matplotlib.axes import Axes
from torch import Tensor

from .fields import REACH, Truth, peaks, resolution_of
from .figures import panel_landscape
from .setting import SQUARE
from .study import Cell, Context
from .style import INK, METHOD_LABELS, STYLE

DEPTH = 12.0
"""Nats below its highest value that a landscape of MSD is shown to."""
LAND_NAMES = ("peaks", "peak to mode", "peaks at a mode", "modes with a peak", "peaks off support", "rise at a peak")
LAND_ORDERS = ("order", "order on support")
LAND_COLUMNS = (*LAND_NAMES, *LAND_ORDERS, "no gradient", "noise")
LAND_FORMATS = (
    {"peaks": ".0f", "peak to mode": ".4f"} | dict.fromkeys(LAND_NAMES[2:], ".2f") | {"rise at a peak": ".3f"}
)
LAND_FORMATS |= dict.fromkeys(LAND_ORDERS, ".3f") | dict.fromkeys(LAND_COLUMNS[-2:], ".1e")


def land_row(report: dict[str, float], cell: Cell | None = None) -> list[float | None]:
    """Values of `LAND_COLUMNS`: what `compare` found, and the shares of the field's cell; none of the truth."""
    shares = [None, None] if cell is None else [cell.numbers["residual"], cell.numbers["noise"]]
    return [*(float(report[name]) for name in LAND_COLUMNS[:-2]), *shares]


def land_note(context: Context, modes: int | None = None) -> str:
    """What the columns mean, and how the fields were made."""
    r = resolution_of(context)
    count = f", which has {modes} modes" if modes else ""
    return (
        f"Fields on {r.side}² nodes over [−1.5, 1.5]², {r.spacing:.3f} apart, integrated by least squares. MSD: "
        f"m(x)/λ² at λ = {r.bandwidth:g}; *exact* averages {r.chains} draws, *split* and *one-step* draw nothing. "
        f"SDS: expectation over t ({r.levels} levels) and n ({2 * r.pairs} draws a level, in antithetic pairs). "
        f"Compared with the true density smoothed by the same λ, p ∗ N(0, λ²){count}; the row of its log on the same "
        f"grid is the best that nodes can show. *Peaks*: nodes that are the highest within {REACH} nodes (2 λ); *at "
        "a mode* and *with a peak*: within two spacings; *rise*: nats by which the true log is higher somewhere within "
        "two spacings of a peak, median (on a level ridge, as the spiral has, the nodes decide where its peaks are, "
        "and only the rise tells); *off support*: where the smoothed density is lower than at 999 of 1,000 of its "
        "samples; *order*: Spearman's rank correlation with its log, over all nodes and over those on the support. *No "
        "gradient*: share of the field's square that no landscape explains, discretisation included; *noise*: share "
        "that is left of the draws, from two independent halves."
    )


@matplotlib.rc_context(STYLE)
def panel_land(ax: Axes, potential: Tensor, method: str, truth: Truth) -> None:
    """A landscape with the modes of the smoothed density (dots) and its own peaks (rings).

    MSD's is cut `DEPTH` below its top: a log-density falls without bound. SDS's is shown whole.
    """
    limits = None if method == "sds" else (-DEPTH, 0.0)
    panel_landscape(ax, potential, SQUARE, points=truth.modes, colour=INK, size=1.4, limits=limits)
    xy = peaks(potential).numpy()
    ax.plot(xy[:, 0], xy[:, 1], "o", markersize=3.4, markerfacecolor="none", color="#c1121f", markeredgewidth=0.7)
    ax.set_title(f"landscape of {METHOD_LABELS[method]}")
