"""README's commands are the ones that are tested, and its table of the plane is the committed results'."""

from __future__ import annotations

import csv
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from msd_core.cli.main import make_parser
from msd_core.presets import PRESETS
from msd_core.research.studies.paper import TABLE2

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Lines of README's shell blocks, continued lines joined."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (test,) = (line for line in commands() if line.endswith("pytest"))
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", [line for line in commands() if re.search(r"\bmsd [a-z]", line)])
def test_every_msd_command_of_the_readme_is_understood(line: str) -> None:
    command = line[re.search(r"\bmsd [a-z]", line).start() :]
    make_parser().parse_args(shlex.split(command, comments=True)[1:])


def test_the_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README) + re.findall(r'src="(?!https?:)([^"]+)"', README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def cell(nll: float, precision: float) -> str:
    """A cell of README's table: NLL, and the precision without its leading zero."""
    return f"{nll:.2f} ({precision:.2f})".replace("-", "−").replace("(0.", "(.")


def plane_table(results: Path) -> list[str]:
    """README's table of the plane, made from the results' CSV file."""
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
    assert len(table) == 6 and [line for line in table if line not in README.splitlines()] == []


def run_example(number: int) -> dict:
    """The names that README's Python example ``number`` leaves behind."""
    names: dict = {}
    exec(compile(re.findall(r"```python\n(.*?)```", README, re.S)[number], "README.md", "exec"), names)  # noqa: S102
    return names


def test_the_picture_example_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "msd", replace(PRESETS["msd"], steps=2, solver_steps=2))
    names = run_example(0)
    assert names["state"].step == 2 and names["picture"].shape == (1, 3, 768, 1024)


def test_the_points_example_of_the_readme_runs() -> None:
    pytest.importorskip("scipy")
    names = run_example(1)
    assert names["points"].step == 30 and names["nll"](names["points"].x, names["truth"]) < -1.2
