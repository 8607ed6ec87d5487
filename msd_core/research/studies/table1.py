"""Table 1: the efficiency of each gradient (Eq. 17), and the two halves that it is made of.

Eq. 17 with g the estimator's own mean, as the paper's reason for dividing by |g|^2 reads, sees variance alone: a biased
estimator without noise is infinitely efficient. The columns beside it hold bias and variance against the mean shift
that the denoiser's own density has.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...denoiser import Denoiser
from ...distillation import MSD
from ...mean_shift.split import Split
from ..metrics import angle, efficiency, fit_scale, gradient_error
from .paper import TABLE1
from .result import Result, Table
from .setting import CASES, DENOISERS, FIRST_BANDWIDTH, Case, Recipe, make_case, make_denoiser, start_points
from .study import Cell, Context, OnStep
from .style import METHOD_LABELS

IN_ALL = True
METHODS = ("sds", "split", "exact", "one-step")
BANDWIDTH = FIRST_BANDWIDTH
COLUMNS = ("density", "denoiser", "gradient", "ln efficiency", "paper", "against truth", "bias²/|m|²", "variance/|m|²")
MORE = ("angle to m", "angle to ∇log p", "evaluations")
NUMBERS = ("own", "truth", "bias2", "variance", "angle", "angle score", "evaluations")
"""Of the cells, in the order of the columns; the paper's number stands after the first."""
FORMATS = {"ln efficiency": ".2f", "paper": ".2f", "against truth": ".2f", "bias²/|m|²": ".2g", "variance/|m|²": ".2g"}
FORMATS |= {"angle to m": ".1f", "angle to ∇log p": ".1f", "evaluations": ".0f"}


def draw_gradients(
    x: Tensor, recipe: Recipe, denoiser: Denoiser, draws: int, rng: torch.Generator, progress: OnStep
) -> tuple[Tensor, float]:
    """Ascent directions of the method's first step at ``x`` (B, 2): (draws, B, 2), and the evaluations of one."""
    method, parts, spent = recipe.make(), [], 0
    if isinstance(method, MSD) and isinstance(method.estimator, Split):
        method = replace(method, estimator=replace(method.estimator, truncation=None))
    group = max(1, min(draws, 32768 // len(x)))
    for first in range(0, draws, group):
        rows = x.repeat(min(group, draws - first), 1)
        gradient, info = method(rows, denoiser, step=0, steps=recipe.steps, rng=rng)
        parts.append(-gradient.unflatten(0, (-1, len(x))))
        spent += info.evaluations
        progress(min(first + group, draws), draws)
    return torch.cat(parts), spent / (draws * len(x))


def gradient_numbers(
    context: Context, case: Case, kind: str, recipe: Recipe, side: int, draws: int
) -> dict[str, float]:
    """All numbers of one row, over a grid of side² points."""
    denoiser = make_denoiser(context, case, kind)
    walk = {"method": recipe.method, "solver_steps": recipe.solver_steps, "bandwidth": recipe.first}
    key = {**case.key, "denoiser": kind, **walk}

    def compute(progress: OnStep) -> Cell:
        x = start_points(side)
        rng = context.rng("gradient", case.name, kind, recipe.method)
        drawn, evaluations = draw_gradients(x, recipe, denoiser, draws, rng, progress)
        truth = denoiser(x, recipe.first) - x
        scale = fit_scale(drawn, truth) if recipe.method == "sds" else 1.0
        error = gradient_error(drawn, truth, evaluations, scale=scale)
        signal = float(error.signal.mean())
        own = float("inf") if float(error.variance.max()) == 0 else efficiency(drawn, evaluations)
        exact = float(error.mse.max()) == 0
        return Cell(
            {
                "own": own,
                "truth": float("inf")
                if exact
                else efficiency(drawn, evaluations, truth=truth, reference="truth", scale=scale),
                "bias2": float(error.bias2.mean()) / signal,
                "variance": float(error.variance.mean()) / signal,
                "angle": float(angle(drawn.mean(dim=0).double(), truth.double()).median()),
                "angle score": float(angle(drawn[0].double(), case.truth.score(x).double()).nanmedian()),
                "evaluations": evaluations,
            }
        )

    return context.cell("table1", key | {"side": side, "draws": draws}, compute).numbers


def run(context: Context) -> Result:
    """The table of three densities and two denoisers."""
    side, draws = (6, 64) if context.quick else (16, 256)
    context.plan("table1", len(CASES) * len(DENOISERS) * len(METHODS))
    rows = []
    for case in map(make_case, CASES):
        for kind in DENOISERS:
            for method in METHODS:
                numbers = gradient_numbers(context, case, kind, Recipe(method, 2, first=BANDWIDTH), side, draws)
                paper = None if method == "one-step" else TABLE1[case.name][0 if method == "sds" else 1]
                own, *others = (numbers[name] for name in NUMBERS)
                rows.append([case.name, kind, METHOD_LABELS[method], own, paper, *others])
    table = Table("table1", "Table 1: efficiency of one gradient", COLUMNS + MORE, rows, _note(side, draws), FORMATS)
    settings = {"side": side, "draws": draws, "bandwidth": BANDWIDTH}
    return Result("table1", "Table 1: efficiency, bias and variance", [table], paragraphs=[_TEXT], settings=settings)


def _note(side: int, draws: int) -> str:
    return (
        f"{draws} draws at each of {side}² points of the grid over [−1.5, 1.5]², λ = √.1. *ln efficiency*: natural "
        "logarithm of Eq. 17 averaged over the points, with g the estimator's own mean (the paper leaves the "
        "logarithm, the λ and the g open). *Against truth*: the same with g = m(x) = D(x; λ) − x, the mean shift of "
        "the denoiser's own density, so that bias counts. Bias² and variance are averages over points, over the "
        "average of |m|²; SDS, which has another scale, is first multiplied by the one factor that fits m best. Angles "
        "in degrees, medians over points: of the mean of all draws to m, and of a single draw to ∇ log p of the true "
        "density. The split estimator starts from noise here, without truncation; ∞ means that its draws are equal to "
        "the last bit."
    )


_TEXT = (
    "The paper's efficiency, read with the estimator's own mean as g, rewards the split solver for forgetting its "
    "noise: with Δt in the unit that Eq. 15 needs (variance time), the contraction wipes it out to the last bit, and "
    "nothing is left to divide by. What it cannot forget is its bias, two columns on. The exact chain is unbiased and "
    "pays with the variance that the product density really has; its mean, the one-step form, is known in one "
    "evaluation without either. So Table 1 ranks determinism, not accuracy: *against truth* is the column to read."
)
