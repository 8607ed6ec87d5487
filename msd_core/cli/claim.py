"""Whose folder it is: results are written by one command at a time, and only over what a command here has written.

.msd-run.json    who writes, since when; and the digests of the files that were written here
.msd-run.lock    held while somebody writes; the system releases it when the process ends, however it ends
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import remove_partial, write_whole
from .digests import digest_of

MARKER, LOCK, FORMAT = ".msd-run", ".msd-run.lock", "msd-run"


@dataclass(frozen=True)
class Claim:
    """A folder that this process owns, and the names that it writes there."""

    folder: Path
    names: tuple[str, ...]

    def begin(self) -> None:
        """Say who writes; remove what writers that were killed have left half done."""
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        holder = {"process": os.getpid(), "machine": socket.gethostname(), "since": since}
        self._mark(holder, _marker(self.folder).get("files", {}))
        for name in (*self.names, MARKER):
            remove_partial(self.folder / name)

    def record(self, names: Iterable[str] | None = None) -> None:
        """The files ``names``, all if left out, were written here; what an earlier run wrote beside them goes."""
        names = self.names if names is None else tuple(names)
        for name, digest in _marker(self.folder).get("files", {}).items():
            if name in self.names and name not in names and digest == digest_of(self.folder / name):
                (self.folder / name).unlink()
        there = [name for name in names if (self.folder / name).is_file()]
        self._mark(None, {name: digest_of(self.folder / name) for name in there})

    def add(self, names: Iterable[str]) -> None:
        """The files ``names`` were written here, beside what was recorded before."""
        known = _marker(self.folder).get("files", {})
        self._mark(None, {**known, **{name: digest_of(self.folder / name) for name in names}})

    def check_foreign(self, argument: str) -> None:
        """Refuse to replace a file that was not written here.

        Raises:
            ValueError: naming it.
        """
        known = _marker(self.folder).get("files", {})
        for name in self.names:
            path = self.folder / name
            if path.exists() and (name not in known or known[name] != digest_of(path)):
                raise ValueError(
                    f"{argument}: {str(path)!r} is there already, and no run here has written it; allowed is a folder "
                    "without it. Name another folder, move the file, or add --force to replace it"
                )

    def _mark(self, holder: dict[str, Any] | None, files: dict[str, str]) -> None:
        content = {"format": FORMAT, "holder": holder, "files": files}
        write_whole(self.folder / MARKER, (json.dumps(content, indent=1) + "\n").encode())


@contextlib.contextmanager
def claimed(folder: Path, names: Iterable[str], argument: str = "--out") -> Iterator[Claim]:
    """Own ``folder`` while inside, for writing ``names`` into it.

    Args:
        folder: exists and is writable.
        names: of the files that will be written.
        argument: to be named in errors.

    Raises:
        ValueError: another process writes there.
    """
    from filelock import FileLock, Timeout

    claim, lock = Claim(folder, tuple(names)), FileLock(str(folder / LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{argument}: {str(folder)!r} is in use by {_holder(folder)}; wait, or name another") from None
    except NotImplementedError:
        print(f"msd: {folder} lies where files cannot be locked; start no second run there", file=sys.stderr)
    try:
        claim.begin()
        yield claim
    finally:
        if {path.name for path in folder.iterdir()} <= {MARKER, LOCK}:  # nothing was written
            (folder / MARKER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _marker(folder: Path) -> dict[str, Any]:
    """The marker's content; empty when there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format") == FORMAT and isinstance(content.get("files"), dict):
            return content
    return {}


def _holder(folder: Path) -> str:
    """Who writes there, in words."""
    holder = _marker(folder).get("holder")
    if not isinstance(holder, dict):
        return "another run"
    return f"process {holder.get('process')} on {holder.get('machine')}, since {holder.get('since')}"
