"""Files that are written whole or not at all: whoever reads one, or stops the writer, never meets half of it."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path``, with the same ending, to write to; put in its place in one step at the end of the block.

    When the block or the last step fails, or is stopped, what was written is removed and ``path`` stays as it was.

    Raises:
        OSError: the file cannot be put in place; whatever the block raises.
    """
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def remove_partial(path: Path) -> None:
    """Remove what writers of ``path`` that were killed have left; to be called by the only writer there is now."""
    for partial in path.parent.glob(f"{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"):
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write ``content`` to ``path``, replacing what is there in one step; when that fails, it stays as it was.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_bytes(content)
