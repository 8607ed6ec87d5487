"""Tables of the studies: checked when they are made, shown as aligned text, kept as CSV.

Numbers are kept unrounded; a format rounds them only where they are shown.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = float | int | str | None


@dataclass(frozen=True)
class Table:
    """Rows of numbers and words.

    Args:
        name: of the CSV file.
        title: one line.
        columns: names of the columns.
        rows: one value a column: numbers unrounded, text, or None where there is nothing.
        note: what a reader must know to compare; Markdown.
        formats: format specification of a column's numbers where it is shown, ".4g" if left out.

    Raises:
        ValueError: a row has more or fewer values than there are columns, or a format names no column.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""
    formats: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"rows: got {len(row)} values, {list(row)!r}, in table {self.name!r}; allowed are "
                    f"{len(self.columns)}, one a column. Write None where there is nothing."
                )
            for value in row:
                if value is not None and not isinstance(value, (int, float, str)):
                    raise ValueError(
                        f"rows: got {value!r}, a {type(value).__name__}, in table {self.name!r}; allowed are numbers, "
                        "text and None. Convert it with float()."
                    )
        for column in self.formats:
            if column not in self.columns:
                raise ValueError(f"formats: got column {column!r}; allowed are {', '.join(map(repr, self.columns))}.")

    def shown(self) -> list[list[str]]:
        """The rows as text."""
        specs = [self.formats.get(column, ".4g") for column in self.columns]
        return [[_show(value, spec) for value, spec in zip(row, specs, strict=True)] for row in self.rows]

    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers alone: those are aligned to the right."""
        columns = [[row[i] for row in self.rows if row[i] is not None] for i in range(len(self.columns))]
        return [bool(c) and not any(isinstance(v, str) for v in c) for c in columns]


def print_table(table: Table) -> None:
    """Print ``table``: title, columns aligned, numbers to the right, then the note."""
    print(format_table(table))


def format_table(table: Table) -> str:
    """What `print_table` prints."""
    rows, numeric = [list(table.columns), *table.shown()], table.numeric()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.rjust(w) if right else text.ljust(w) for text, w, right in zip(row, widths, numeric, strict=True)
        )
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join(line.rstrip() for line in (table.title, lines[0], rule, *lines[1:], *table.note.splitlines()))


def to_markdown(table: Table) -> str:
    """Columns and rows as a table in Markdown, numbers to the right; without title and note."""
    rules = ["---:" if right else "---" for right in table.numeric()]
    rows = ([*table.columns], rules, *table.shown())
    return "\n".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in rows)


def to_csv(table: Table) -> str:
    """Columns and rows as CSV: numbers to their last digit, nothing for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if v is None else plain_value(v) for v in row] for row in table.rows])
    return text.getvalue()


def plain_value(value: Any) -> Any:  # noqa: ANN401
    """``value`` without subclasses of float and int (NumPy's), whose text is not a plain number."""
    if isinstance(value, (bool, str)) or value is None:
        return value
    return int(value) if isinstance(value, int) else float(value)


def _show(value: Value, spec: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, spec) if isinstance(value, float) else str(value)
