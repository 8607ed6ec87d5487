"""Table 3 and Fig. 4 on the demo model: SDS, SDI and MSD against iterations, and against network evaluations.

The paper compares at 400 iterations of each, whatever they cost. Here every run of the figure is looked at on its way,
and the table has runs whose whole schedule fits a budget, since a schedule cut short is not a fair one. Quality: what
the judge accepts, IoU, and the Fréchet distance to true drawings of the same captions. `msd sweep docs/frontier.yaml`
has one budget with more captions and seeds, and the model's surprise at the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...demo.grammar import parse
from ...demo.quality import distances
from .captions import captions, in_cells, passed, verdicts, with_interval
from .figures import curves, panels
from .result import Figure, Result, Table
from .study import Cell, Context

IN_ALL = False
CAPTIONS, QUICK_CAPTIONS = 36, 2
IN_FIGURE = 12
"""Captions whose runs are looked at on their way."""
SHARES = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of a run, after which it is looked at."""
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sds": ("sds", {"steps": 400}),
    "sdi": ("sdi", {"steps": 120}),
    "MSD, 120 x 1": ("msd", {"steps": 120, "inner_steps": 1}),
    "MSD, 20 x 15": ("msd", {"steps": 20, "inner_steps": 15}),
}
"""Runs of Fig. 4: the methods with their own schedules."""
BUDGETS: dict[int, dict[str, tuple[str, dict[str, Any]]]] = {
    60: {
        "SDS": ("sds", {"steps": 30}),
        "SDS, 15 updates": ("sds", {"steps": 30, "inner_steps": 15}),
        "SDI": ("sdi", {"steps": 4}),
        "SDI, 30 updates": ("sdi", {"steps": 4, "inner_steps": 30}),
        "MSD, 10 x 15": ("msd", {"steps": 10, "inner_steps": 15, "solver_steps": 3}),
    },
    160: {
        "SDS": ("sds", {"steps": 80}),
        "SDS, 3 updates": ("sds", {"steps": 80, "inner_steps": 3}),
        "SDI": ("sdi", {"steps": 11}),
        "SDI, 15 updates": ("sdi", {"steps": 11, "inner_steps": 15}),
        "MSD, 20 x 15": ("msd", {"steps": 20, "inner_steps": 15}),
    },
    800: {
        "SDS": ("sds", {"steps": 400}),
        "SDI": ("sdi", {"steps": 53}),
        "SDI, 8 updates": ("sdi", {"steps": 53, "inner_steps": 8}),
        "MSD, 100 x 3": ("msd", {"steps": 100, "inner_steps": 3}),
    },
}
"""Whole schedules for a number of evaluations, or as near as whole iterations come; updates cost none."""


def run(context: Context) -> Result:
    """The table at equal evaluations, the one along the runs, and Fig. 4."""
    batches = in_cells(captions(context.seed, QUICK_CAPTIONS if context.quick else CAPTIONS))
    prompts = [prompt for batch in batches for prompt in batch]
    shown = in_cells(prompts[:IN_FIGURE])
    context.plan("table3", len(batches) * (2 + sum(map(len, BUDGETS.values()))) + len(shown) * len(RUNS))
    samples = {
        name: _cells(context, batches, kind, [2 if context.quick else 32], {})
        for name, kind in (("DDIM, 32 steps", "ddim"), ("DDIM, then fitted", "fit"))
    }
    rows = [[*_row(name, cells, -1, prompts)] for name, cells in samples.items()]
    for budget, entries in BUDGETS.items():
        for name, (method, settings) in entries.items():
            cells = _cells(context, batches, method, None, settings)
            rows.append(_row(f"{name} ({budget})", cells, -1, prompts))
    columns = ("method (budget)", "evaluations", "accepted", "IoU", "Fréchet")
    note = f"{len(prompts)} captions of two and three things, a seed each; 95 % intervals by a bootstrap over captions."
    table = Table("table3", "At equal evaluations", columns, rows, note, {"evaluations": ".0f"})
    along = {name: _cells(context, shown, *_marked(context, *entry)) for name, entry in RUNS.items()}
    sampled = _pictures(samples["DDIM, 32 steps"][: len(shown)], -1)
    caption = CAPTION.format(sum(map(len, shown)))
    figure = Figure("table3-fig4", "Fig. 4 on the demo model", caption, _figure(along, sampled, sum(shown, [])))
    settings = {"runs": RUNS, "budgets": {str(k): v for k, v in BUDGETS.items()}, "shares": SHARES}
    return Result("table3", "Table 3 and Fig. 4 on the demo model", [table], [figure], settings=settings)


def _marked(context: Context, method: str, settings: dict[str, Any]) -> tuple[str, list[int], dict[str, Any]]:
    settings = settings | ({"steps": 3} if context.quick else {})
    return method, sorted({max(1, round(share * settings["steps"])) for share in SHARES}), settings


def _cells(
    context: Context, batches: list[list[str]], method: str, marks: list[int] | None, settings: dict[str, Any]
) -> list[Cell]:
    """The cells of a run; at its end alone without marks."""
    if context.quick and marks is None:
        settings = settings | {"steps": 2}
    own = [settings["steps"]] if marks is None else marks
    return [passed(context, prompts, method, own, **settings) for prompts in batches]


def _pictures(cells: list[Cell], mark: int) -> Tensor:
    return torch.cat([cell.tensors["pictures"][mark] for cell in cells])


def _row(name: str, cells: list[Cell], mark: int, prompts: list[str]) -> list[Any]:
    pictures = _pictures(cells, mark)
    accepted, iou = verdicts(pictures, prompts)
    frechet, _ = distances(pictures.float() / 255, [parse(prompt) for prompt in prompts])
    shown = f"{frechet.value:.1f} ({frechet.low:.1f} to {frechet.high:.1f})"
    return [name, cells[0].numbers["evaluations"][mark], with_interval(accepted), with_interval(iou, 3), shown]


CAPTION = (
    "What the judge accepts (left), and the Fréchet distance to true drawings (right), on the way of each run: against "
    "iterations above, as in the paper, and against network evaluations below. Dashed: a sample of 64 evaluations. The "
    "first {} captions."
)


def _figure(along: Mapping[str, list[Cell]], sampled: Tensor, prompts: list[str]) -> Any:  # noqa: ANN401
    scenes = [parse(prompt) for prompt in prompts]

    def seen(pictures: Tensor) -> tuple[float, float]:
        accepted, _ = verdicts(pictures, prompts)
        return float(accepted.mean()), distances(pictures.float() / 255, scenes, resamples=2)[0].value

    figure, axes = panels(2, 2, width=8, height=6)
    marks = {
        name: [seen(_pictures(cells, mark)) for mark in range(len(cells[0].numbers["evaluations"]))]
        for name, cells in along.items()
    }
    level = seen(sampled)
    for column, label in enumerate(("accepted", "Fréchet distance")):
        for row, xlabel in enumerate(("share of the iterations", "network evaluations")):
            series = {}
            for name, cells in along.items():
                costs = cells[0].numbers["evaluations"]
                x = [cost / costs[-1] for cost in costs] if row == 0 else costs
                series[name] = (x, [values[column] for values in marks[name]])
            curves(axes[row][column], series, xlabel=xlabel, ylabel=label, xscale=("linear", "log")[row],
                   yscale=("linear", "log")[column], levels={"ddim": level[column]},
                   legend=row == 0 and column == 0)  # fmt: skip
    return figure
