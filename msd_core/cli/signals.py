"""Ctrl-C, SIGTERM and SIGHUP: each stops the command once, and never in the middle of a save.

The first signal raises `Stopped`, a KeyboardInterrupt, in the main thread; while `Signals.held` it waits until that
ends. Whatever comes after the first, or after `Signals.shut`, is only answered: what is being written is finished.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Stopped(KeyboardInterrupt):
    """A signal that asks the command to stop; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """Exit status of a program that this signal stopped."""
        return 128 + self.number


class Signals:
    """The signals of one command; they are watched in the main thread only."""

    def __init__(self) -> None:
        self.came: int | None = None
        self._holding = 0
        self._shut = False

    @contextlib.contextmanager
    def watched(self, *, to_the_end: bool = False) -> Iterator[None]:
        """Answer signals inside, as before afterwards. One that the caller ignores (nohup) stays ignored.

        With ``to_the_end`` they are ignored afterwards: the process has said how it ends, and only has to go.
        """
        self.__init__()
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)}
        for number in before:
            signal.signal(number, self._answer)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if to_the_end else handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes inside is raised at the end."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        if self.came is not None and not self._shut and not self._holding:
            self._shut = True
            raise Stopped(self.came)

    def shut(self) -> None:
        """From here on nothing is raised: the command is about to end anyway."""
        self._shut = True

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if self._shut or self.came is not None:
            with contextlib.suppress(OSError):  # stderr may be gone, and print is not for signal handlers
                os.write(2, b"\nmsd: one moment, what was done is being written\n")
            return
        self.came = number
        if not self._holding:
            self._shut = True
            raise Stopped(number)


signals = Signals()
"""Those of the command that runs."""
