"""Standard streams on which a command can rely, whatever the shell made of them; nothing here needs torch.

msd … >&-               a closed stream is as if it led nowhere
msd … > /dev/full       what cannot be written is an error of one line; on stderr it is lost, and the work goes on
msd … | head -0         a reader who has gone ends the command silently, as SIGPIPE does others: status 141
LC_ALL=C msd …          letters that the terminal lacks are escaped: λ is \\u03bb
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from ..echo import cut

GONE = 128 + 13
"""Exit status of a command whose reader has gone."""
LONGEST = 1200


class Stream:
    """A text stream that escapes what its encoding lacks and never fails: ``error`` is what first went wrong."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write ``text``; its length."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        try:
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self.error = self.error or error
        return len(text)

    def flush(self) -> None:
        """Write what waits."""
        try:
            self.stream.flush()
        except OSError as error:
            self.error = self.error or error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self.stream, name)


@contextlib.contextmanager
def reliable_streams() -> Iterator[None]:
    """Replace stdout and stderr by such streams for a while.

    Raises:
        OSError: at the end, for what could not be written to stdout.
    """
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = Stream(before[0] or nowhere), Stream(before[1] or nowhere)
        sys.stdout, sys.stderr = out, err
        try:
            yield
        finally:
            for stream in (out, err):
                stream.flush()
                if stream.error is not None:
                    _lead_nowhere(stream.stream)
            sys.stdout, sys.stderr = before
            if out.error is not None:
                raise out.error


def _fill_descriptors() -> None:
    """Let none of the standard descriptors be free, or the next file that is opened would take its place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def _lead_nowhere(stream: TextIO) -> None:
    """Let what waits in ``stream`` be lost: Python tries to write it once more when it ends."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def one_line(text: str) -> str:
    """``text`` as one printable line of readable length."""
    line = " ".join(text.split())
    return cut("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), LONGEST)


def complain(text: str) -> None:
    """Say on stderr, in one line, what is wrong."""
    print(f"msd: error: {one_line(text)}", file=sys.stderr)
