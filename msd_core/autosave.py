"""Saving a run by time, so that whatever ends it costs no more than the last few seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Autosave(Generic[T]):
    """Called with what there is after each step; saves it when ``seconds`` have gone by since the last time.

    Args:
        save: writes it, whole or not at all (`save_state`).
        seconds: between two savings; 0 saves nothing.

    Raises:
        ValueError: for a negative number, or one that is not finite.
    """

    save: Callable[[T], None]
    seconds: float = 10.0
    last: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.last = time.monotonic()
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"seconds: got {self.seconds}; allowed is a number of at least 0. Pass 0 to save nothing.")

    def __call__(self, done: T) -> bool:
        """Whether ``done`` was saved."""
        due = self.seconds > 0 and time.monotonic() - self.last >= self.seconds
        if due:
            self.save(done)
            self.last = time.monotonic()
        return due
