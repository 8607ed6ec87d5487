"""Where lambda starts, against how likely and how many the modes are that points end at.

A large first lambda merges all modes into few: the points of a whole basin run together, and what is gained in
likelihood is lost in coverage. Ideal denoiser, the mean-shift iteration x <- x', lambda falling linearly. (A learned
one answers at small lambda only near the data, and points that start far from it stay there.)
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from .figures import curves, panels
from .result import Figure, Result, Table
from .setting import CASES, FIRST_BANDWIDTH, Recipe, make_case
from .study import Context
from .style import METHOD_LABELS
from .table2 import MORE, row_of, true_entropy

IN_ALL = True
FIRST = (0.5, FIRST_BANDWIDTH, 0.2, 0.1, 0.05, 0.03)
STEPS, QUICK_STEPS = 30, 10
"""Twice as many as elsewhere with the ideal denoiser: all points are to arrive, from the largest start too."""
LIKELIER = 0.1
"""Nats by which points must be likelier than samples of the truth, in the mean, to count as mode seeking."""
METHODS = ("one-step", "exact", "split")
COLUMNS = ("density", "method", "first λ", "NLL", "precision", "recall", *MORE)
FORMATS = {"first λ": ".3f", "NLL": ".2f", "precision": ".3f", "recall": ".3f", "to mode": ".4f"}
FORMATS |= {"modes reached": ".3f", "evaluations": ".0f"}
Found = dict[tuple[str, str], list[dict[str, float]]]


def run(context: Context) -> Result:
    """Table, figure and the recommended start."""
    steps, side = (QUICK_STEPS, 16) if context.quick else (STEPS, 32)
    context.plan("bandwidth", len(CASES) * len(METHODS) * len(FIRST) * 3)
    found, entropies = {}, {}
    for case in map(make_case, CASES):
        entropies[case.name] = true_entropy(context, case)[0]
        for method in METHODS:
            recipes = [_recipe(method, steps, first) for first in FIRST]
            found[case.name, method] = [row_of(context, case, "ideal", r, side) for r in recipes]
    rows = [
        [density, METHOD_LABELS[method], first, *(numbers[c] for c in COLUMNS[3:])]
        for (density, method), results in found.items()
        for first, numbers in zip(FIRST, results, strict=True)
    ]
    table = Table("bandwidth", "Points by where λ starts", COLUMNS, rows, _note(steps, side), FORMATS)
    caption = "NLL (dashed: the entropy, what samples have), recall and the share of modes reached, by the first λ."
    figure = Figure(
        "bandwidth", "Starting bandwidth against likelihood and coverage", caption, _figure(found, entropies)
    )
    settings = {"first": list(FIRST), "recipe": asdict(Recipe("one-step", steps, "gd", 1.0))}
    title = "Where λ starts: likelihood against coverage"
    return Result("bandwidth", title, [table], [figure], _paragraphs(found, entropies), settings)


def _recipe(method: str, steps: int, first: float) -> Recipe:
    recipe = Recipe(method, steps, "gd", 1.0, first=first)
    return replace(recipe, last=min(recipe.last, first / 2))


def recommended(results: list[dict[str, float]], entropy: float) -> int:
    """Index into `FIRST`: the most recall among the starts whose points are likelier than samples."""
    return _most(_likely(results, entropy), [numbers["recall"] for numbers in results])


def default_start(found: Found, entropies: dict[str, float], method: str) -> int:
    """Index into `FIRST`: the most recall, averaged over the densities, among the starts that are likely in all."""
    likely = set.intersection(*(set(_likely(found[d, method], entropies[d])) for d in entropies))
    recalls = [[numbers["recall"] for numbers in found[d, method]] for d in entropies]
    return _most(sorted(likely), [sum(column) / len(column) for column in zip(*recalls, strict=True)])


def _likely(results: list[dict[str, float]], entropy: float) -> list[int]:
    return [i for i, numbers in enumerate(results) if numbers["NLL"] <= entropy - LIKELIER]


def _most(allowed: list[int], recalls: list[float]) -> int:
    """The allowed index of the highest recall; any index, if none is allowed; of equals, the larger start."""
    return max(allowed or range(len(recalls)), key=lambda i: (recalls[i], FIRST[i]))


def _figure(found: Found, entropies: dict[str, float]) -> Any:  # noqa: ANN401 - matplotlib's
    figure, axes = panels(len(CASES), 3, height=7.5)
    for row, density in zip(axes, CASES, strict=True):
        for ax, name in zip(row, ("NLL", "recall", "modes reached"), strict=True):
            series = {m: (FIRST, [numbers[name] for numbers in found[density, m]]) for m in METHODS}
            levels = {"truth": entropies[density]} if name == "NLL" else None
            curves(
                ax,
                series,
                xlabel="first λ",
                ylabel=name,
                title=density,
                xscale="log",
                levels=levels,
                legend=name == "NLL",
            )
    return figure


def _note(steps: int, side: int) -> str:
    return (
        f"Ideal denoiser, {side}² points, x ← x′, {steps} steps, λ linear from the first to "
        f"{Recipe('exact', steps).last:g} (or half of the first, where that is less), one draw a step; compared with "
        f"{side}² samples. Columns as in Table 2."
    )


def _paragraphs(found: Found, entropies: dict[str, float]) -> list[str]:
    choices = {}
    for method in METHODS:
        picks = {d: recommended(found[d, method], entropies[d]) for d in CASES}
        choices[method] = "; ".join(
            f"{d} λ = {FIRST[i]:.3g} (NLL {found[d, method][i]['NLL']:.2f}, recall {found[d, method][i]['recall']:.2f})"
            for d, i in picks.items()
        )
    defaults = ", ".join(f"{METHOD_LABELS[m]} {FIRST[default_start(found, entropies, m)]:.3g}" for m in METHODS)
    merged = ", ".join(f"{found[d, 'one-step'][1]['recall']:.3f} ({d})" for d in CASES)
    return [
        "The first λ is the choice between few likely modes and many. Following the mean from the paper's √.1, recall "
        f"is {merged}. The best start of each method: most recall among those whose points are likelier than samples "
        f"by {LIKELIER:g} nat or more (if none is, most recall):",
        "\n".join(f"- {METHOD_LABELS[method]}: {text}." for method, text in choices.items()),
        f"**Recommended default**, the same rule over all three densities at once: first λ = {defaults}, for data of "
        "standard deviation .3 to .55. Drawn samples (*exact*) cover the density from any start and hardly notice it; "
        "means (*one-step*, *split*) need it: larger, and all points of a basin end at one mode; smaller, and they end "
        "at accidents of the data, or never leave the empty.",
    ]
