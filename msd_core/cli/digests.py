"""Which file it is, and which model: SHA-256 of its bytes, so that a name or a date says nothing.

A model may have gigabytes, and a sweep that goes on asks for its digest each time. So what was read is remembered, with
all that changes when a file is written: its size, inode, and times of change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import write_whole
from ..jsontext import parse_json

CHUNK = 2**22
LARGE = 2**30
"""Bytes of a model's files, from which the command says that it reads them."""
SETTLED = 2.0
"""Seconds after its last change from which a file is remembered: within the tick of a clock it could change unseen."""


def digest_of(path: Path) -> str:
    """SHA-256 of a file; empty for what is none."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass
class Digests:
    """Digests of files, kept in ``file`` from one start to the next; one that cannot be read is made anew.

    Without a ``file`` all are read each time.
    """

    file: Path | None = None
    _known: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is None:
            return
        with contextlib.suppress(OSError, ValueError):
            content = parse_json("digests", self.file.read_text(encoding="utf-8"))
            self._known = content if isinstance(content, dict) else {}

    def unread(self, paths: Sequence[Path]) -> int:
        """Bytes of ``paths`` that have to be read."""
        return sum(path.stat().st_size for path in paths if not self._remembered(path))

    def of(self, folder: Path, paths: Sequence[Path]) -> str:
        """The digest of the files ``paths`` and of their names in ``folder``; of one file, its own."""
        found = []
        for path in paths:
            mark, digest = _mark(path), self._remembered(path)
            if not digest:
                digest = digest_of(path)
                self._known.pop(str(path.resolve()), None)
                if time.time() - max(path.stat().st_mtime, path.stat().st_ctime) >= SETTLED:
                    self._known[str(path.resolve())] = [mark, digest]
            found.append(f"{digest}  {os.path.relpath(path, folder)}")
        self._keep()
        return found[0].split()[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()

    def _remembered(self, path: Path) -> str:
        entry = self._known.get(str(path.resolve()))
        whole = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
        return str(entry[1]) if entry and whole and entry[0] == _mark(path) else ""

    def _keep(self) -> None:
        if self.file is None:
            return
        with contextlib.suppress(OSError):  # a folder that cannot be written to is somebody else's to say
            write_whole(self.file, json.dumps(self._known).encode())


def _mark(path: Path) -> str:
    """What of a file changes when it is written or replaced."""
    found = path.stat()
    return f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


def digest_of_model(path: Path, kind: str, digests: Digests) -> str:
    """The digest of all files that decide what the model at ``path`` is; says so where it has gigabytes to read.

    Empty where nothing is there: the path of another package's model may be a name.

    Raises:
        ValueError: a pipeline's folder or file that is incomplete.
    """
    if not path.exists():
        return ""
    files = files_of_model(path, kind)
    unread = digests.unread(files)
    if unread > LARGE:
        print(f"msd: reading {unread / 1e9:.1f} GB of the model's files, to know them again", file=sys.stderr)
    return digests.of(path if path.is_dir() else path.parent, files)


def files_of_model(path: Path, kind: str) -> list[Path]:
    """The files that decide what the model at ``path`` is; those of a kind that is unknown here, all but hidden ones.

    Raises:
        ValueError: a pipeline's folder or file that is incomplete.
    """
    if kind == "diffusers":
        from ..pipelines.layout import files_of

        return list(files_of(path))
    if not path.is_dir():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
