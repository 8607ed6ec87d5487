"""The look of the figures: one colour, one label and one marker a method, and matplotlib's settings."""

from __future__ import annotations

from typing import Any

INK = "#222222"
METHOD_COLOURS = {
    "truth": "#000000",
    "ddim": "#7f7f7f",
    "sds": "#d55e00",
    "sdi": "#e69f00",
    "split": "#0072b2",
    "naive": "#cc79a7",
    "exact": "#009e73",
    "one-step": "#5ab98c",
    "ideal": "#56b4e9",
}
"""Colours that the colour-blind tell apart (Okabe & Ito 2008), by method or estimator."""

METHOD_LABELS = {
    "truth": "density",
    "ddim": "DDIM",
    "sds": "SDS",
    "sdi": "SDI",
    "split": "MSD split",
    "naive": "MSD naive",
    "exact": "MSD exact",
    "one-step": "MSD one-step",
    "ideal": "ideal",
}
OTHER_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = {"ddim": "s", "sds": "v", "sdi": "^", "split": "o", "naive": "P", "exact": "D", "one-step": "*"}

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "white",
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.color": INK,
}
