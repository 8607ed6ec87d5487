"""An earlier measurement of `msd bench`, and what has become slower since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bench import PARTS, Bench

FORMAT = "msd-bench"
SLOWER, SMALL = 1.1, 0.01
"""A part is called slower from so many times its seconds on, where it is more than so large a share of all."""
WORK = ("method", "generator", "size", "n")
"""Settings that decide what a step's work is: seconds of two runs compare where these are equal."""
BESIDE = ("prompt", "model", "torch", "threads", "machine", "evaluations a step")
"""What else may make one of two runs the slower one."""


@dataclass(frozen=True)
class Earlier:
    """The figures in a file: ``settings`` and what else is said of the run, by name, and ``seconds`` a step by part."""

    path: Path
    settings: Mapping[str, Any]
    seconds: Mapping[str, float]

    @classmethod
    def read(cls, path: Path, side: int) -> Earlier:
        """What `msd bench --out` wrote; ``side`` is that of the model, which a size that is not told is.

        Raises:
            ValueError: the file holds something else.
        """
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise ValueError(told["format"])
            settings = {**told, **told["settings"]}
            settings["size"] = tuple(settings["size"] or (side, side))
            settings["evaluations a step"] = told["evaluations"] / settings["steps"]
            seconds = {part: float(told["seconds a step"][part]) for part in (*PARTS, "rest")}
            return cls(path, {name: settings[name] for name in (*WORK, *BESIDE)}, seconds)
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise ValueError(
                f"--against: {str(path)!r} holds no figures; allowed is what `msd bench --out FILE` wrote. Name it."
            ) from error

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse to be compared with a run of other work.

        Raises:
            ValueError: naming what differs.
        """
        for name in WORK:
            if self.settings[name] != settings[name]:
                before, now = (_shown(which[name]) for which in (self.settings, settings))
                raise ValueError(
                    f"--against: {str(self.path)!r} is of --{name} {before}, this run of {now}; allowed is an equal "
                    f"one, since their steps do other work. Pass --{name} {before}, or leave --against out."
                )

    def differences(self, settings: Mapping[str, Any]) -> str:
        """What else differs from a run that is compared, in words; "" if nothing does."""
        return ", ".join(
            f"{name} {_shown(self.settings[name])} then and {_shown(settings[name])} now"
            for name in BESIDE
            if self.settings[name] != settings[name]
        )

    def slower(self, found: Bench) -> str:
        """The parts of ``found`` that have become slower, and by how much, in a line."""
        total, parts = self.ratio(found), []
        for part, seconds in found.seconds.items():
            before = self.seconds[part]
            if seconds > SLOWER * before * found.steps and seconds > SMALL * found.total:
                parts.append(
                    f"{part} {seconds / found.steps / before:.2f} times" if before else f"{part}, which is new"
                )
        told = ", ".join(parts) or "no part by more than a tenth"
        return f"slower than before: {told}; all of it takes {total:.2f} times as long"

    def ratio(self, found: Bench) -> float:
        """Seconds a step of ``found``, in those of before."""
        return found.total / found.steps / max(sum(self.seconds.values()), 1e-12)


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever the file holds
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
