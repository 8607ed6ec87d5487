"""Figures of the studies, in one style: white ground, small sans-serif letters, thin axes, one colour a method.

No pyplot, hence no state: figures are made by `panels`, drawn on by the functions below and written by `save`. Equal
data give equal bytes. Grids follow one convention: a (H, W) array has its row 0 at ymin and its column 0 at xmin, and
an extent is (xmin, xmax, ymin, ymax).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, NullFormatter
from PIL import Image
from torch import Tensor

from ...atomic import write_whole
from ...densities import GaussianMixture
from ..landscape import Extent, grid
from .style import INK, MARKERS, METHOD_COLOURS, METHOD_LABELS, OTHER_COLOURS, STYLE

DPI, MAX_BYTES = 160, 300_000


class Plotted(Protocol):
    """What `panel_points` needs of a density."""

    @property
    def extent(self) -> Extent: ...

    def of(self, cls: str | None) -> GaussianMixture:
        """The mixture of one class, or of all for None."""
        ...


@matplotlib.rc_context(STYLE)
def panels(
    rows: int,
    columns: int,
    *,
    width: float = 10.0,
    height: float | None = None,
    shared: bool = False,
) -> tuple[Figure, np.ndarray]:
    """A figure of panels and its axes, an array (rows, columns).

    Args:
        width: inches; 10 are 1600 pixels.
        height: inches; square panels if left out.
        shared: panels share their axes.
    """
    size = (width, height or width / columns * rows + 0.35)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared)


@dataclass(frozen=True)
class _Ground:
    """A background to evaluate; mixtures of equal parameters are equal here."""

    parameters: str
    extent: Extent
    size: int
    mixture: GaussianMixture = field(compare=False)


def log_density(mixture: GaussianMixture, extent: Extent, size: int = 160) -> np.ndarray:
    """Log-density on a grid (size, size), smoothed by half a cell, so that no filament falls between two points.

    The last ones are remembered: panels beside each other mostly show the same density.
    """
    return _evaluate(_Ground(mixture.digest(), (*extent,), size, mixture)).copy()


@lru_cache(maxsize=16)
def _evaluate(ground: _Ground) -> np.ndarray:
    points = grid(ground.extent, (ground.size, ground.size)).flatten(0, 1)
    left, right, bottom, top = ground.extent
    level = max(right - left, top - bottom) / (ground.size - 1) / 2
    rows = [ground.mixture.log_prob(p, level) for p in points.split(128)]  # small blocks stay in the processor's cache
    return torch.cat(rows).reshape(ground.size, ground.size).detach().numpy()


@matplotlib.rc_context(STYLE)
def panel_points(
    ax: Axes,
    density: Plotted,
    points: Tensor | None = None,
    *,
    cls: str | None = None,
    colour: str = METHOD_COLOURS["split"],
    size: float = 1.5,
    alpha: float = 0.6,
    modes: Tensor | None = None,
    title: str = "",
    depth: float = 9.0,
) -> None:
    """The density's log-pdf as faint filled contours, ``points`` (N, 2) over it and ``modes`` (M, 2) as crosses.

    Args:
        cls: class of the background; all of them if left out.
        size: diameter of a point, in points of 1/72 inch.
        depth: nats below the maximum that the contours reach.
    """
    values = log_density(density.of(cls), density.extent)
    levels = np.linspace(values.max() - depth, values.max(), 8)
    ax.contourf(values, levels=levels, extent=density.extent, colors=_greys(len(levels) - 1))
    if points is not None:
        xy = np.asarray(points.detach().cpu(), dtype=float)
        ax.plot(xy[:, 0], xy[:, 1], "o", color=colour, markersize=size, markeredgewidth=0, alpha=alpha)
    if modes is not None:
        xy = np.asarray(modes.detach().cpu(), dtype=float)
        ax.plot(xy[:, 0], xy[:, 1], "x", color=INK, markersize=3, markeredgewidth=0.6)
    _map(ax, density.extent, title)


@matplotlib.rc_context(STYLE)
def panel_landscape(
    ax: Axes,
    potential: Tensor | np.ndarray,
    extent: Extent,
    *,
    points: Tensor | None = None,
    colour: str = "#ffffff",
    size: float = 1.5,
    title: str = "",
    limits: tuple[float, float] | None = None,
    bar: str | None = None,
) -> None:
    """A potential (H, W), row 0 at ymin, as a heat map, optionally with ``points`` (N, 2).

    Args:
        limits: values of the darkest and the brightest colour; the 1st and 100th percentile if left out.
        bar: label of a colour bar; none is drawn if left out.
    """
    values = np.asarray(potential.detach().cpu() if isinstance(potential, Tensor) else potential, dtype=float)
    low, high = limits or (np.nanpercentile(values, 1), np.nanmax(values))
    picture = ax.imshow(values, origin="lower", extent=extent, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    if points is not None:
        xy = np.asarray(points.detach().cpu(), dtype=float)
        ax.plot(xy[:, 0], xy[:, 1], "o", color=colour, markersize=size, markeredgewidth=0)
    if bar is not None:
        drawn = ax.get_figure().colorbar(picture, ax=ax, shrink=0.8, pad=0.02)  # type: ignore[union-attr]
        drawn.set_label(bar)
        drawn.outline.set_linewidth(0.6)  # type: ignore[operator]
    _map(ax, extent, title)


@matplotlib.rc_context(STYLE)
def curves(
    ax: Axes,
    series: Mapping[str, tuple],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    xscale: str = "linear",
    yscale: str = "linear",
    levels: Mapping[str, float] | None = None,
    legend: bool = True,
) -> None:
    """Curves, each with a band if it has errors.

    Args:
        series: name to (x, y), (x, y, error) for the band y ± error, or (x, y, low, high) for the band's edges. A name
            of `METHOD_COLOURS` takes that method's colour and label.
        levels: name to the height of a dashed line across.
    """
    for i, (name, (x, y, *band)) in enumerate(series.items()):
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        marker = MARKERS.get(name, "o") if len(x) <= 20 else ""
        colour, label = _look(name, i)
        line = (0, (4, 2)) if i >= len(OTHER_COLOURS) and name not in METHOD_COLOURS else "-"  # its colour was there
        ax.plot(x, y, color=colour, label=label, marker=marker, markersize=3.5, markeredgewidth=0, linestyle=line)
        if band:
            low, high = (y - np.asarray(band[0]), y + np.asarray(band[0])) if len(band) == 1 else band
            ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    for name, level in (levels or {}).items():
        colour, label = _look(name, -1) if name in METHOD_COLOURS else (INK, name)
        ax.axhline(level, color=colour, linestyle=(0, (4, 3)), linewidth=0.8, label=label)
    _plot(ax, xlabel, ylabel, title, xscale, yscale, legend)


@matplotlib.rc_context(STYLE)
def pareto(
    ax: Axes,
    series: Mapping[str, tuple],
    *,
    xlabel: str = "network evaluations",
    ylabel: str = "",
    title: str = "",
    xscale: str = "log",
    yscale: str = "log",
    front: bool = True,
    legend: bool = True,
) -> None:
    """Value against cost, both better when smaller: a thin line and markers a method, and the front of all.

    Args:
        series: name to (cost, value), each of shape (N,). A name of `METHOD_COLOURS` takes that method's look.
        front: draw the staircase below which no point lies.
    """
    for i, (name, (x, y)) in enumerate(series.items()):
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        order = np.argsort(x, kind="stable")
        colour, label = _look(name, i)
        marker = MARKERS.get(name, "o")
        ax.plot(x[order], y[order], color=colour, linewidth=0.7, marker=marker, markersize=5, label=label)
    if front and series:
        points = np.concatenate([np.stack([np.asarray(x, float), np.asarray(y, float)], 1) for x, y in series.values()])
        best = points[pareto_front(points)]
        ax.step(best[:, 0], best[:, 1], where="post", color=INK, linewidth=0.8, linestyle=(0, (1, 2)), label="front")
    _plot(ax, xlabel, ylabel, title, xscale, yscale, legend)


def pareto_front(points: np.ndarray) -> list[int]:
    """Rows of ``points`` (N, 2) that no other row beats in both columns (smaller is better), by the first column.

    Rows that are not finite are left out, and of equal rows the first is kept.
    """
    front, best = [], np.inf
    for i in sorted(range(len(points)), key=lambda i: tuple(points[i])):
        if np.isfinite(points[i]).all() and points[i][1] < best:
            front.append(i)
            best = points[i][1]
    return front


@matplotlib.rc_context(STYLE)
def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG without metadata; one of more than `MAX_BYTES` is reduced to 256 colours."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return image_bytes(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def image_bytes(picture: Image.Image) -> bytes:
    """An RGB picture as PNG without metadata; one of more than `MAX_BYTES` is reduced to 256 colours."""
    content = _encode(picture)
    if len(content) <= MAX_BYTES:
        return content
    return _encode(picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    write_whole(path, png_bytes(figure))


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _greys(count: int) -> Sequence[str]:
    """From near white to light grey: faint enough for points of any colour on top."""
    return [f"#{round(v):02x}{round(v):02x}{round(v + 4):02x}" for v in np.linspace(247, 196, count)]


def _look(name: str, index: int) -> tuple[str, str]:
    """Colour and label of a series."""
    return METHOD_COLOURS.get(name, OTHER_COLOURS[index % len(OTHER_COLOURS)]), METHOD_LABELS.get(name, name)


def _map(ax: Axes, extent: Extent, title: str) -> None:
    """A picture of the plane: equal scales, no ticks."""
    ax.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], title=title)
    ax.set_aspect("equal")


def _plot(ax: Axes, xlabel: str, ylabel: str, title: str, xscale: str, yscale: str, legend: bool) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale=xscale, yscale=yscale)
    ax.grid(True)
    ax.spines[["top", "right"]].set_visible(False)
    for axis, scale in ((ax.xaxis, xscale), (ax.yaxis, yscale)):
        if scale == "log":
            _decades(axis)
    if legend:
        ax.legend()


def _decades(axis: Axis) -> None:
    """Ticks of a logarithmic axis as plain numbers: 1, 2, 5 where it spans less than two decades, else powers of 10."""
    low, high = sorted(axis.get_view_interval())
    subs = (1.0, 2.0, 5.0) if low > 0 and high / low < 100 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    plain = 1e-4 < low and high < 1e5
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}") if plain else LogFormatterMathtext())
    axis.set_minor_formatter(NullFormatter())
