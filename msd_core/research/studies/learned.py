"""What a learned denoiser makes of each estimator of the mean shift: bias and variance, by λ and as a picture comes.

Everywhere else in two dimensions the denoiser is exact, and D(x; λ), one evaluation, is the mean shift itself. A
learned D has only ever seen data plus noise; a generator's picture is neither. At pictures that runs of the default
setting pass, each estimator is drawn several times and held against a long chain of the product density:

    bias²     = (mean of half the draws - half the reference) . (the other halves),   without its Monte-Carlo part
    variance  of one draw; both in units of |m|², the reference's own
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...demo.model import load_demo_model
from ...mean_shift import mean_shift
from .captions import CFG, TOGETHER, captions, encoded, in_cells, passed
from .figures import curves, panels
from .result import Figure, Result, Table
from .study import Cell, Context, OnStep, digest_of

IN_ALL = False
STEPS = 20
PLACES = {"start": 0, "early": 2, "middle": 8, "end": 20}
"""Iterations of the default run, 20 in all, after which its pictures are taken."""
BANDWIDTHS = (8.0, 4.0, 2.0, 1.0, 0.7)
ESTIMATORS: dict[str, dict[str, Any]] = {
    "exact, 8 levels": {"estimator": "exact", "steps": 8},
    "exact, 4 levels": {"estimator": "exact", "steps": 4},
    "exact, 3 levels": {"estimator": "exact", "steps": 3},
    "exact, 2 levels": {"estimator": "exact", "steps": 2},
    "from the mean, 8": {"estimator": "exact", "steps": 8, "walk_from": "mean"},
    "from the mean, 4": {"estimator": "exact", "steps": 4, "walk_from": "mean"},
    "split, 8 levels": {"estimator": "split", "steps": 8},
    "split, 4 levels": {"estimator": "split", "steps": 4},
    "one-step": {"estimator": "one-step"},
    "noised": {"estimator": "noised"},
    "noised by half": {"estimator": "noised", "noise_share": 0.5},
    "denoised guess": {"estimator": "noised", "observed": False},
}
REFERENCE: dict[str, Any] = {"estimator": "exact", "steps": 32}
DRAWS = 8
QUICK = {"places": ("start", "end"), "bandwidths": (2.0,), "draws": 4}


def drawn_shifts(
    x: Tensor, prompts: list[str], bandwidth: float, draws: int, rng: torch.Generator, options: Mapping[str, Any]
) -> tuple[Tensor, float]:
    """``draws`` mean shifts (draws, B, D) at x (B, *), and the network rows of one."""
    denoiser = load_demo_model().denoiser(prompts, "", CFG)
    rows = x.repeat(draws, 1, 1, 1)
    target, info = mean_shift(rows, denoiser, bandwidth, rng=rng, **options)
    return (target - rows).flatten(1).unflatten(0, (draws, len(x))), info.evaluations / len(rows)


def compared(draws: Tensor, reference: Tensor) -> tuple[float, float]:
    """Bias² and variance over |m|², the mean over B points, of draws (N, B, D) and reference draws (M, B, D)."""
    halves = [draws[i::2].mean(0) - reference[i::2].mean(0) for i in (0, 1)]
    truth = (reference[0::2].mean(0) * reference[1::2].mean(0)).sum(1)
    bias2, variance = (halves[0] * halves[1]).sum(1), draws.var(0).sum(1)
    return float((bias2 / truth).mean()), float((variance / truth).mean())


def cell_of(context: Context, prompts: list[str], place: str, bandwidth: float, draws: int) -> Cell:
    """Every estimator at one place of the runs of some captions, and one λ."""
    settings = {"steps": 2} if context.quick else {"steps": STEPS}
    mark = min(PLACES[place], settings["steps"])
    pictures = passed(context, prompts, "msd", marks_of(settings["steps"]), **settings).tensors["pictures"]
    shown = pictures[marks_of(settings["steps"]).index(mark)]
    x = encoded(shown)
    asked = {"bandwidth": bandwidth, "draws": draws, "estimators": ESTIMATORS, "reference": REFERENCE, "cfg": CFG}
    key = {"prompts": prompts, "mark": mark, **asked, "pictures": digest_of(shown)}

    def compute(progress: OnStep) -> Cell:
        rng = context.rng("learned", prompts[0], mark, bandwidth)
        reference, _ = drawn_shifts(x, prompts, bandwidth, draws, rng, REFERENCE)
        found: dict[str, Any] = {}
        for number, (name, options) in enumerate(ESTIMATORS.items()):
            made, rows = drawn_shifts(x, prompts, bandwidth, draws, rng, options)
            found[name] = [*compared(made, reference), rows]
            progress(number + 1, len(ESTIMATORS))
        return Cell({"found": found, "size": float(reference.mean(0).square().mean().sqrt())})

    return context.cell("learned", key, compute)


def marks_of(steps: int) -> list[int]:
    """The iterations after which pictures are kept."""
    return sorted({min(mark, steps) for mark in PLACES.values()})


def run(context: Context) -> Result:
    """A table along the schedule, and bias and variance by place and λ."""
    places = QUICK["places"] if context.quick else tuple(PLACES)
    bandwidths = QUICK["bandwidths"] if context.quick else BANDWIDTHS
    draws = QUICK["draws"] if context.quick else DRAWS
    batches = in_cells(captions(context.seed, TOGETHER))
    context.plan("learned", len(batches) * (1 + 2 * len(places) * len(bandwidths)))
    found: dict[tuple[str, float], dict[str, Any]] = {}
    sizes: dict[tuple[str, float], float] = {}
    for place in places:
        for bandwidth in bandwidths:
            cells = [cell_of(context, batch, place, bandwidth, draws) for batch in batches]
            found[place, bandwidth] = {
                name: torch.tensor([cell.numbers["found"][name] for cell in cells]).mean(0).tolist()
                for name in ESTIMATORS
            }
            sizes[place, bandwidth] = sum(cell.numbers["size"] for cell in cells) / len(cells)
    figure = Figure("learned", "Bias and variance at a learned denoiser", CAPTION, _figure(found, places, bandwidths))
    settings = {"places": PLACES, "bandwidths": list(bandwidths), "draws": draws, "reference": REFERENCE, "cfg": CFG}
    return Result("learned", "What a learned denoiser makes of each estimator", [_table(found, sizes)], [figure],
                  settings=settings)  # fmt: skip


CAPTION = (
    "Bias² (above) and variance of one draw (below), over |m|², against λ, at pictures that runs of the default "
    "setting pass: the start, after 2, 8 and 20 of 20 targets. What the draws do not resolve is at the lower edge."
)
LEAST = 1e-3
UNDRAWN = ("exact, 3 levels", "from the mean, 4", "split, 4 levels", "noised")
DRAWN = tuple(name for name in ESTIMATORS if name not in UNDRAWN)
"""Of the figure; the table has all."""


def _figure(found: Mapping[tuple[str, float], Mapping[str, Any]], places: Any, bandwidths: Any) -> Any:  # noqa: ANN401
    figure, axes = panels(2, len(places), width=11, height=5.6, shared=True)
    for column, place in enumerate(places):
        for row, (number, label) in enumerate(((0, "bias²/|m|²"), (1, "variance/|m|²"))):
            series = {
                name: (bandwidths, [max(found[place, b][name][number], LEAST) for b in bandwidths])
                for name in DRAWN
                if name in ESTIMATORS
            }
            curves(axes[row][column], series, xlabel="λ" if row else "", ylabel="" if column else label,
                   title="" if row else place, xscale="log", yscale="log", legend=False)  # fmt: skip
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(DRAWN),
        fontsize=7.5,
        frameon=False,
    )
    return figure


def _table(found: Mapping[tuple[str, float], Mapping[str, Any]], sizes: Mapping[tuple[str, float], float]) -> Table:
    rows = [
        [place, bandwidth, sizes[place, bandwidth], name, rows, max(bias2, 0.0), variance]
        for (place, bandwidth), known in found.items()
        for name, (bias2, variance, rows) in known.items()
    ]
    columns = ("place", "λ", "|m|", "estimator", "rows", "bias²/|m|²", "variance/|m|²")
    formats = {"λ": ".2g", "|m|": ".2f", "rows": ".0f", "bias²/|m|²": ".2g", "variance/|m|²": ".2g"}
    note = "|m|: root mean square over the latent's numbers. Rows: of the network, for one draw, under guidance."
    return Table("learned", "One draw of each estimator", columns, rows, note, formats)
