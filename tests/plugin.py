"""docs/extending.md as a package on the path: what its blocks say, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


def blocks(language: str) -> list[str]:
    """The page's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def write_plugin(folder: Path) -> Path:
    """Write the page's file and its entry point, as an installed distribution would lie there; returns ``folder``."""
    (group, entry) = re.findall(r'entry-points\."(.+?)"\]\n(.+)\n', blocks("toml")[0])[0]
    about = folder / "toy-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "toy.py").write_text(blocks("python")[0], encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n", encoding="utf-8")
    return folder
