"""docs/two_dimensions.md: its table is the committed results', and its example runs."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from msd_core.research.studies.paper import TABLE2

pytestmark = pytest.mark.core
ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "two_dimensions.md").read_text(encoding="utf-8")


def cell(nll: float, precision: float) -> str:
    """A cell of the table: NLL, and the precision without its leading zero."""
    return f"{nll:.2f} ({precision:.2f})".replace("-", "−").replace("(0.", "(.")


def plane_table(results: Path) -> list[str]:
    """The page's table, made from the results' CSV file."""
    with results.open(encoding="utf-8") as lines:
        found = {(r["density"], r["denoiser"], r["method"]): r for r in csv.DictReader(lines)}
    lines = []
    for density, _, denoiser in (key for key in TABLE2 if key[1] == "msd"):
        cells = [found[density, denoiser, method] for method in ("SDS", "MSD split", "MSD exact")]
        texts = [cell(float(c["NLL"]), float(c["precision"])) for c in cells]
        paper = TABLE2[density, "msd", denoiser]
        lines.append(f"| {density}, {denoiser} | {' | '.join([*texts, cell(paper.nll, paper.precision)])} |")
    return lines


def test_the_table_of_the_plane_is_that_of_the_results() -> None:
    table = plane_table(ROOT / "assets" / "results" / "table2.csv")
    assert len(table) == 6 and [line for line in table if line not in PAGE.splitlines()] == []


def test_the_example_runs() -> None:
    pytest.importorskip("scipy")
    names: dict = {}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(code, "two_dimensions.md", "exec"), names)  # noqa: S102
    assert names["state"].step == 30 and names["nll"](names["points"], names["truth"]) < -1.2
