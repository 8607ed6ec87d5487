"""The studies behind `msd reproduce`: tables and figures of the paper, and what goes past them.

A study is a module with

    run(context: Context) -> Result      the study; its expensive parts are cells of the context
    IN_ALL: bool                         whether `msd reproduce all` includes it

and an entry in `STUDIES`. Modules are imported when they are run, never before: they need the extra `science`.
"""

from __future__ import annotations

import dataclasses
import importlib
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from ...validation import check_choice

if TYPE_CHECKING:
    from .result import Result
    from .study import Context


class Entry(NamedTuple):
    """Where a study lives, relative to this package, and what it shows, in one line."""

    module: str
    help: str


STUDIES: dict[str, Entry] = {
    "table2": Entry(".table2", "Table 2: NLL, precision, recall and MMD of DDIM, SDS and MSD on three densities"),
    "table1": Entry(".table1", "Table 1: gradient efficiency, and its two halves, bias and variance"),
    "fig1": Entry(".fig1", "Fig. 1: where DDIM, SDS and MSD take points, and the landscapes they descend"),
    "fig3": Entry(".fig3", "Fig. 3: points and landscapes of the estimators on every density"),
    "bandwidth": Entry(".bandwidth", "starting bandwidth against coverage and likelihood"),
    "cost": Entry(".cost", "bias and variance of each estimator against network evaluations"),
    "ideal": Entry(".ideal", "speed, memory and accuracy of the ideal denoiser"),
    "table3": Entry(".table3", "Table 3 and Fig. 4 on the demo model: SDS, SDI, MSD (long; not part of all)"),
    "fig6": Entry(".fig6", "Fig. 6 on the demo model: what a λ asks for, early and late (not part of all)"),
    "fig8": Entry(".fig8", "Fig. 8 on the demo model: the paper's two heuristics (long; not part of all)"),
    "learned": Entry(".learned", "bias and variance of each estimator at a learned denoiser (not part of all)"),
    "loops": Entry(".loops", "seconds of a step beside a loop on diffusers (not part of all)"),
    "inversion": Entry(".inversion", "round trip of every inversion on the demo model (long; not part of all)"),
    "graphics": Entry(".graphics", "vector graphics and pixel art beside tracers (long; not part of all)"),
    "volume": Entry(".volume", "text to 3-D where the answer is known (long; not part of all)"),
    "existing": Entry(".existing", "pictures inpainted and restored (long; not part of all)"),
    "edits": Entry(".edits", "one word of a picture changed, by every way at equal rows (long; not part of all)"),
    "symptoms": Entry(".symptoms", "runs that end at no picture, and are warned of (long; not part of all)"),
    "posterior": Entry(".posterior", "solvers of inverse problems where the posterior is known (not part of all)"),
    "dream": Entry(".dream", "DREAM: loss and sample quality against iterations (long; not part of all)"),
}
"""Every study, in the order of the page."""


def load_study(name: str) -> ModuleType:
    """Import the module of one study.

    Raises:
        ValueError: there is no such study.
        ModuleNotFoundError: a library that it needs is not installed.
    """
    check_choice("study", name, STUDIES)
    return importlib.import_module(STUDIES[name].module, __name__)


def run_study(name: str, context: Context) -> Result:
    """Run one study; the seconds of its result are those of its cells, cached ones included."""
    module = load_study(name)
    try:
        result = module.run(context)
    finally:
        context.close()
    return dataclasses.replace(result, seconds=context.seconds)
