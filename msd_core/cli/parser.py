"""argparse with one-line errors, and with details that are made only when help is printed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """``details`` makes the last part of the help, only when help is printed."""

    details: Callable[[], str] | None = None

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without the usage text."""
        self.exit(2, f"msd: error: {message}; see `{self.prog} --help`\n")

    def format_help(self) -> str:
        """The help with its details."""
        return super().format_help() + (f"\n{self.details()}\n" if self.details else "")
