"""What a study finds, tables, figures and paragraphs, and the files it becomes.

`write` makes, for a result named R,

    R.json       everything but the pictures: settings, seed, versions, machine, seconds, tables, captions
    <table>.csv  plain numbers, unrounded
    <figure>.png

A table or figure whose name does not start with R gets it in front, so that studies never overwrite each other's files.
In the JSON, numbers that are not finite are the text "nan", "inf" and "-inf": JSON has no other way.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...atomic import write_whole
from .table import Table, plain_value, print_table, to_csv

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["Figure", "Result", "Table", "print_table", "write"]

RESULT_FORMAT = "msd-study-result"
LIBRARIES = ("torch", "numpy", "scipy", "mean-shift-distillation")


@dataclass(frozen=True)
class Figure:
    """A picture: a matplotlib figure, or a PNG file that exists."""

    name: str
    title: str
    caption: str
    picture: matplotlib.figure.Figure | Path


@dataclass(frozen=True)
class Result:
    """What a study hands back; ``paragraphs`` are Markdown, ``seconds`` is filled in by `run_study`."""

    name: str
    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    paragraphs: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def write(result: Result, folder: Path, *, seed: int = 0, quick: bool = False) -> list[Path]:
    """Write the files of ``result``; returns them, the JSON last. The JSON never names a picture that is not there.

    Raises:
        ValueError: two tables or two figures have one name, or the settings are not JSON.
        OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {_file(result, table.name, ".csv"): table for table in result.tables}
    figures = {_file(result, figure.name, ".png"): figure for figure in result.figures}
    for kind, files, items in (("tables", tables, result.tables), ("figures", figures, result.figures)):
        if len(files) < len(items):
            got = [item.name for item in items]
            raise ValueError(f"{kind}: got names {got!r} in {result.name!r}; allowed is each name once. Rename one.")
    report = {
        "format": RESULT_FORMAT,
        "name": result.name,
        "title": result.title,
        "quick": quick,
        "seed": seed,
        "settings": dict(result.settings),
        "environment": environment(),
        "seconds": result.seconds,
        "paragraphs": list(result.paragraphs),
        "tables": [_table_report(file, table) for file, table in tables.items()],
        "figures": [{"file": f, "name": x.name, "title": x.title, "caption": x.caption} for f, x in figures.items()],
    }
    contents = {file: to_csv(table).encode() for file, table in tables.items()}
    contents |= {file: _png(figure.picture) for file, figure in figures.items()}
    contents[f"{result.name}.json"] = _strict_json(report).encode()
    for file, content in contents.items():
        write_whole(folder / file, content)
    return [folder / file for file in contents]


def environment() -> dict[str, Any]:
    """Versions, threads and processor that the numbers were made with."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    return {"versions": versions, "cores": torch.get_num_threads(), "cpu": _cpu()}


def _file(result: Result, name: str, suffix: str) -> str:
    own = name == result.name or name.startswith(f"{result.name}-")
    return (name if own else f"{result.name}-{name}") + suffix


def _table_report(file: str, table: Table) -> dict[str, Any]:
    rows = [list(map(plain_value, row)) for row in table.rows]
    parts = {"columns": list(table.columns), "rows": rows, "note": table.note, "formats": dict(table.formats)}
    return {"file": file, "name": table.name, "title": table.title, **parts}


def _png(picture: matplotlib.figure.Figure | Path) -> bytes:
    if isinstance(picture, Path):
        return picture.read_bytes()
    from .figures import png_bytes

    return png_bytes(picture)


def _strict_json(report: dict[str, Any]) -> str:
    try:
        return json.dumps(_finite(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except TypeError as error:
        raise ValueError(
            f"settings: got a value that is not JSON ({error}); allowed are text, numbers, booleans, None, and lists "
            "and dicts of them. Convert it."
        ) from error


def _finite(value: Any) -> Any:  # noqa: ANN401
    """``value`` with NaN and infinities as text."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(float(value)) if isinstance(value, float) and not math.isfinite(value) else value


def _cpu() -> str | None:
    """The processor's name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None
