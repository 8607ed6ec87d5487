"""The paper's numbers (Mean-Shift Distillation, Tables 1 and 2)."""

from __future__ import annotations

from typing import NamedTuple


class Paper(NamedTuple):
    """A cell of Table 2; MMD in units of 10^-4, of an unpublished kernel."""

    nll: float
    precision: float
    recall: float
    mmd: float


TABLE1 = {"fractal": (-6.89, 7.65), "spiral": (-7.57, 6.32), "pinwheel": (-6.99, 7.08)}
"""Efficiency of SDS and of MSD, "in log-scale"."""

TABLE2 = {
    ("fractal", "ddim", "ideal"): Paper(-1.85, 0.97, 0.93, 0.86),
    ("fractal", "ddim", "learned"): Paper(-1.51, 0.95, 0.96, 0.007),
    ("fractal", "sds", "ideal"): Paper(36.15, 0.08, 0.03, 328.03),
    ("fractal", "sds", "learned"): Paper(9.12, 0.01, 0.0, 87.04),
    ("fractal", "msd", "ideal"): Paper(-1.32, 0.92, 0.33, 30.46),
    ("fractal", "msd", "learned"): Paper(-2.02, 0.97, 0.42, 12.79),
    ("spiral", "ddim", "ideal"): Paper(-1.39, 0.97, 0.93, 0.41),
    ("spiral", "ddim", "learned"): Paper(-1.32, 0.96, 0.96, 1.16),
    ("spiral", "sds", "ideal"): Paper(30.37, 0.02, 0.03, 13.85),
    ("spiral", "sds", "learned"): Paper(8.13, 0.04, 0.11, 274.35),
    ("spiral", "msd", "ideal"): Paper(-1.28, 0.99, 0.18, 4.49),
    ("spiral", "msd", "learned"): Paper(-1.51, 0.98, 0.18, 18.41),
    ("pinwheel", "ddim", "ideal"): Paper(-1.19, 0.97, 0.94, 1.05),
    ("pinwheel", "ddim", "learned"): Paper(-1.1, 0.97, 0.97, 0.27),
    ("pinwheel", "sds", "ideal"): Paper(2.29, 0.85, 0.03, 5.18),
    ("pinwheel", "sds", "learned"): Paper(2.00, 0.90, 0.005, 36.37),
    ("pinwheel", "msd", "ideal"): Paper(-1.94, 0.99, 0.01, 5.83),
    ("pinwheel", "msd", "learned"): Paper(-2.19, 0.99, 0.13, 7.25),
}
