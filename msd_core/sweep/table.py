"""A sweep read back: one row a cell as CSV and Parquet, one line a setting with bootstrap intervals, and a sheet.

results.csv, results.parquet    every cell: setting, options, prompt, seed, figures
summary.csv                     every setting: the mean of each figure, and its interval of 95 %
frontier.png                    each figure of quality against evaluations
contact_sheet.png               one column a setting, one row a prompt, of the first seed
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import replacing
from .cells import Row
from .plot import frontier

FIGURES = ("accepted", "iou", "stray", "surprise", "evaluations", "seconds")
RESULTS = ("results.csv", "results.parquet", "summary.csv", "frontier.png", "contact_sheet.png")
RESAMPLES, LEVEL = 1000, 0.95
SHOWN = 24
"""Prompts on the sheet."""
Cells = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Mean:
    """The mean of a figure over ``count`` cells, and its interval; prompts are resampled, with all of their seeds."""

    value: float
    low: float
    high: float
    count: int


def label(cell: Mapping[str, Any], grid: Sequence[str]) -> str:
    """What a line of the summary is called: the setting, and the values of the options that the grid varies."""
    return ", ".join([cell["setting"], *(f"{name} {cell['options'][name]}" for name in grid)])


def summary(cells: Cells, grid: Sequence[str] = (), seed: int = 0) -> dict[str, dict[str, Mean]]:
    """The means of every figure that all cells of a setting have, by setting."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        groups.setdefault(label(cell, grid), []).append(cell)
    return {name: _means(group, seed) for name, group in groups.items()}


def _means(group: Cells, seed: int) -> dict[str, Mean]:
    prompts = list(dict.fromkeys(cell["prompt"] for cell in group))
    means = {}
    for name in FIGURES:
        if all(cell[name] is not None for cell in group):
            by_prompt = [[float(c[name]) for c in group if c["prompt"] == prompt] for prompt in prompts]
            totals = torch.tensor([sum(row) for row in by_prompt], dtype=torch.float64)
            counts = torch.tensor([len(row) for row in by_prompt], dtype=torch.float64)
            means[name] = _mean(totals, counts, seed)
    return means


def _mean(totals: Tensor, counts: Tensor, seed: int) -> Mean:
    """The mean, and the interval between the quantiles of resampled prompts."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(totals), (RESAMPLES, len(totals)), generator=rng)
    drawn = totals[rows].sum(dim=1) / counts[rows].sum(dim=1)
    low, high = drawn.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)).tolist()
    return Mean(float(totals.sum() / counts.sum()), low, high, int(counts.sum()))


def write(folder: Path, cells: Cells, pictures: Sequence[Path], grid: Sequence[str]) -> None:
    """Write the results of ``cells`` into ``folder``; ``pictures`` are their files, in the same order."""
    columns = ["setting", *grid, "prompt", "seed", *Row.__dataclass_fields__, "options"]
    rows = [
        {**cell, **{name: cell["options"][name] for name in grid}, "options": json.dumps(cell["options"])}
        for cell in cells
    ]
    with replacing(folder / "results.csv") as file:
        _csv(file, columns, [[row[name] for name in columns] for row in rows])
    _parquet(folder / "results.parquet", columns, rows)
    settings = summary(cells, grid)
    with replacing(folder / "summary.csv") as file:
        _summary(file, settings)
    with replacing(folder / "frontier.png") as file:
        file.write_bytes(frontier(settings))
    with replacing(folder / "contact_sheet.png") as file:
        _sheet(file, cells, pictures, grid)


def _summary(path: Path, settings: Mapping[str, Mapping[str, Mean]]) -> None:
    """A line a setting; figures that none has are left out, those that one lacks stay empty there."""
    known = [name for name in FIGURES if any(name in means for means in settings.values())]
    head = [part for name in known for part in (name, f"{name} low", f"{name} high")]
    lines = []
    for setting, means in settings.items():
        found = [means.get(name) for name in known]
        numbers = [part for mean in found for part in ((mean.value, mean.low, mean.high) if mean else ("", "", ""))]
        lines.append([setting, means["evaluations"].count, *numbers])
    _csv(path, ["setting", "count", *head], lines)


def _csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _parquet(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: [row[name] for row in rows] for name in columns})
    with replacing(path) as file:
        pyarrow.parquet.write_table(table, file)


def _sheet(path: Path, cells: Cells, pictures: Sequence[Path], grid: Sequence[str]) -> None:
    """The pictures of the first seed: a row for each of the first `SHOWN` prompts, white where there is none yet."""
    from PIL import Image

    from ..sheet import Entry, contact_sheet, fitting

    first = cells[0]["seed"]
    found = {
        (label(cell, grid), cell["prompt"]): (cell, file)
        for cell, file in zip(cells, pictures, strict=True)
        if cell["seed"] == first
    }
    titles = list(dict.fromkeys(name for name, _ in found))
    rows = []
    for prompt in list(dict.fromkeys(prompt for _, prompt in found))[:SHOWN]:
        entries = []
        for title in titles:
            if (title, prompt) not in found:
                entries.append(Entry(Image.new("RGB", (1, 1), "white"), []))
                continue
            cell, file = found[title, prompt]
            verdict = {True: ["accepted"], False: [f"wrong {cell['wrong']}"], None: []}[cell["accepted"]]
            lines = [f"{cell['evaluations']:,} evaluations", *verdict]
            entries.append(Entry(fitting(Image.open(file).convert("RGB")), lines, cell["accepted"]))
        rows.append((prompt, entries))
    contact_sheet(titles, rows).save(path)
