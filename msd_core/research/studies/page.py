"""The page of the results: README.md of a results folder, made from the JSON files in it and from nothing else.

Sections follow the order of `STUDIES`; results of other names come after them. No study is imported and nothing is
computed, so that the page of an old folder can be made again anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...atomic import write_whole
from . import STUDIES
from .result import RESULT_FORMAT
from .table import Table, to_markdown

PAGE = "README.md"
QUICK_NOTE = (
    "**Quick settings** (`--quick`): few points and steps, made to try the command. These numbers are not the study's."
)


def write_page(folder: Path) -> Path:
    """Write the page of ``folder``; returns it.

    Raises:
        ValueError: a JSON file of the folder cannot be read.
        OSError: the folder cannot be written.
    """
    path = folder / PAGE
    write_whole(path, make_page(read_reports(folder)).encode())
    return path


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """Reports of the results in ``folder``, in the page's order. JSON files of other software are left out."""
    order = list(STUDIES)
    reports = [report for path in sorted(folder.glob("*.json")) if (report := _read(path)) is not None]
    return sorted(reports, key=lambda r: order.index(r["name"]) if r["name"] in order else len(order))


def make_page(reports: list[dict[str, Any]]) -> str:
    """The page in Markdown."""
    environments = {_environment(report) for report in reports}
    common = environments.pop() if len(environments) == 1 else None
    made = "Made by `msd reproduce` from the JSON files beside it; never edited by hand: run the command again instead."
    blocks = ["# Results of the studies", f"{made} {common}." if common else made]
    if len(reports) > 1:
        blocks.append("\n".join(f"- [{_title(r)}](#{_anchor(_title(r))})" for r in reports))
    for report in reports:
        blocks += _section(report, common is None)
    return "\n\n".join(blocks) + "\n"


def _section(report: dict[str, Any], environment: bool) -> Iterable[str]:
    yield f"## {_title(report)}"
    command = " ".join(
        ["msd reproduce", report["name"], *(["--quick"] if report["quick"] else []), f"--seed {report['seed']}"]
    )
    tail = f"; {_environment(report)}" if environment else ""
    yield f"`{command}`: {duration(report['seconds'])} of computing{tail}."
    if report["quick"]:
        yield QUICK_NOTE
    yield from report["paragraphs"]
    for table in report["tables"]:
        yield from _table(table)
    for figure in report["figures"]:
        yield f"![{figure['title'].translate(_BRACKETS)}]({figure['file']})"
        yield f"**{figure['title']}.** {figure['caption']}".rstrip()
    if report["settings"]:
        settings = json.dumps(report["settings"], indent=1, ensure_ascii=False)
        yield f"<details><summary>Settings</summary>\n\n```json\n{settings}\n```\n\n</details>"


def _table(report: dict[str, Any]) -> Iterable[str]:
    rows = [[_number(value) for value in row] for row in report["rows"]]
    table = Table(report["name"], report["title"], report["columns"], rows, report["note"], report["formats"])
    yield f"**{table.title}** ([{report['file']}]({report['file']}))"
    yield to_markdown(table)
    if table.note:
        yield table.note


def duration(seconds: float) -> str:
    """12.3 → "12 s", 3723 → "1 h 2 min"."""
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"folder: {str(path)!r} is not a whole JSON file ({error}); allowed are the files that `msd reproduce` "
            "writes. Delete it and run its study again."
        ) from error
    return report if isinstance(report, dict) and report.get("format") == RESULT_FORMAT else None


def _environment(report: dict[str, Any]) -> str:
    """Versions, threads and processor in one line."""
    environment = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items() if version)
    cores = environment["cores"]
    on = f" of {environment['cpu']}" if environment["cpu"] else ""
    return f"{versions}, on {cores} core{'s' if cores > 1 else ''}{on}"


def _title(report: dict[str, Any]) -> str:
    return report["title"] + (" (quick)" if report["quick"] else "")


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _number(value: Any) -> Any:  # noqa: ANN401
    """The number that JSON could not hold, or the value itself."""
    return float(value) if value in ("nan", "inf", "-inf") else value


_BRACKETS = str.maketrans({"[": "(", "]": ")"})
