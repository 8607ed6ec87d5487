"""argparse with one-line errors, whose arguments are added, and whose details are made, only when they are needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .streams import one_line


class Parser(argparse.ArgumentParser):
    """A parser that ``fill`` adds arguments to before it is first used, and ``details`` gives the help's last part.

    Flags are not abbreviated: the next release may have another that begins alike.
    """

    fill: Callable[[Parser], None] | None = None
    details: Callable[[], str] | None = None

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(**{"allow_abbrev": False, **settings})

    def filled(self) -> None:
        """Add the arguments, once."""
        fill, self.fill = self.fill, None
        if fill is not None:
            fill(self)

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401 - argparse's own
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does, with all arguments."""
        self.filled()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without the usage text."""
        self.exit(2, f"msd: error: {one_line(message)}; see `{self.prog} --help`\n")

    def format_help(self) -> str:
        """The help with its details."""
        self.filled()
        return super().format_help() + (f"\n{self.details()}\n" if self.details else "")
