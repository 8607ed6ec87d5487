"""The context of a study: what it runs with, and its cells, the units of work that are computed once and kept.

A cell is a function of its key, the study's name, ``quick``, the seed and `CELL_VERSION`. It is kept as

    folder/cells/<study>-<SHA-256 of these, 16 digits>.safetensors

with its numbers, its tensors and the seconds it took. A second call, or a run after Ctrl-C, reads it back, equal to the
bit. Hence the key must hold every setting that changes the result; a study whose code changes its meaning changes an
entry of its key (``"version": 2``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ...tensorfile import read_tensors, write_tensors
from ...training import OnStep

CELL_FORMAT, CELL_VERSION = "msd-study-cell", "2"


@dataclass(frozen=True)
class Cell:
    """The outcome of one unit of work.

    Attributes:
        numbers: JSON values by name; NaN and infinities are allowed. Tuples come back as lists.
        tensors: tensors by name; they come back on the CPU.
        seconds: wall-clock time of the computation, filled in by `Context.cell`.
    """

    numbers: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Context:
    """What a study runs with.

    Args:
        folder: where cells and results are kept.
        quick: few points and steps, for tests.
        seed: of everything random in the study.
        bar: makes progress bars; called as tqdm is. Silent if left out.

    ``seconds`` is the sum of the seconds of the cells asked for, each once, however long ago they were computed.
    """

    folder: Path
    quick: bool = False
    seed: int = 0
    bar: Callable[..., Any] = partial(tqdm, disable=True)
    seconds: float = field(default=0.0, init=False)
    _counted: set[Path] = field(default_factory=set, init=False, repr=False)
    _outer: Any = field(default=None, init=False, repr=False)
    _depth: int = field(default=0, init=False, repr=False)

    def plan(self, study: str, cells: int) -> None:
        """Open a bar over the ``cells`` that the study is going to ask for."""
        self.close()
        self._outer = self.bar(desc=study, total=cells, unit="cell")

    def close(self) -> None:
        """Close the bar of `plan`."""
        if self._outer is not None:
            self._outer.close()
        self._outer = None

    def rng(self, *names: str | int | float) -> torch.Generator:
        """A source of randomness whose stream depends on the seed and on ``names`` alone."""
        digest = hashlib.sha256(json.dumps([self.seed, *names]).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))

    def cell(self, study: str, key: Mapping[str, Any], compute: Callable[[OnStep], Cell]) -> Cell:
        """The cell of ``key``: read back if it is there and whole, else computed and kept.

        Args:
            study: name that owns the cell; cells that several studies share have a name of their own.
            key: JSON values by name: every setting that changes the result besides ``quick`` and the seed.
            compute: makes the cell; its argument is a `OnStep`. Random numbers come from `rng`.

        Raises:
            ValueError: ``study`` cannot be part of a file name, the key or the numbers are not JSON, ``compute`` asks
                for another cell, or the folder cannot be written.
        """
        path, identity = self._identify(study, key)
        if self._depth:
            raise ValueError(
                f"cell: got one of {study!r} inside the computation of another; allowed are cells side by side, whose "
                "seconds add up. Ask for it first and use its result."
            )
        cell = _read(path, identity)
        if cell is None:
            cell = self._compute(_label(study, key), compute)
            _write(path, identity, cell)
        if path not in self._counted:
            self._counted.add(path)
            self.seconds += cell.seconds
        if self._outer is not None:
            self._outer.update()
        return cell

    def _identify(self, study: str, key: Mapping[str, Any]) -> tuple[Path, str]:
        """The cell's file, and the text that says what it is."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", study):
            raise ValueError(f"study: got {study!r}; allowed are small letters, digits and hyphens. Rename it.")
        identity = _json("key", [study, dict(key), self.quick, self.seed, CELL_VERSION], allow_nan=False)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return self.folder / "cells" / f"{study}-{digest}.safetensors", identity

    def _compute(self, label: str, compute: Callable[[OnStep], Cell]) -> Cell:
        """Call ``compute`` under a bar of its steps; what comes back is as it would be read."""
        start, self._depth = time.perf_counter(), 1
        try:
            with contextlib.closing(self.bar(desc=label, total=None, leave=False, unit="step")) as bar:
                cell = compute(partial(_advance, bar))
        finally:
            self._depth = 0
        if not isinstance(cell, Cell):
            raise ValueError(
                f"compute: got {type(cell).__name__} back; allowed is a Cell. Return Cell(numbers, tensors)."
            )
        numbers = json.loads(_json("numbers", cell.numbers))
        return Cell(numbers, {k: _plain(k, v) for k, v in cell.tensors.items()}, time.perf_counter() - start)


def _advance(bar: Any, done: int, total: int) -> None:  # noqa: ANN401 - whatever the caller's bars are
    """Bring a bar to ``done`` of ``total``; it starts anew for another stage of the same cell."""
    if bar.total != total or done < bar.n:
        bar.reset(total=total)
    bar.update(done - bar.n)


def _label(study: str, key: Mapping[str, Any]) -> str:
    """What a cell's bar says: the study and the words of the key, but for the digest of a density's parameters."""
    words = (value for name, value in key.items() if isinstance(value, str) and name != "parameters")
    return " ".join([study, *words])[:60]


def _json(name: str, value: object, *, allow_nan: bool = True) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=allow_nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: got {value!r}, which is not JSON ({error}); allowed are text, {'' if allow_nan else 'finite '}"
            "numbers, booleans, None, and lists and dicts of them. Convert it: float(x), x.tolist(), str(x)."
        ) from error


def _plain(name: str, tensor: Tensor) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"tensors: got {type(tensor).__name__} as {name!r}; allowed are tensors. Use torch.as_tensor.")
    return tensor.detach().cpu().contiguous().clone()


def _read(path: Path, identity: str) -> Cell | None:
    """The cell in ``path``, or None if there is none or it is damaged."""
    try:
        tensors, text = read_tensors(path, CELL_FORMAT, CELL_VERSION)
        if text["identity"] != identity:
            return None
        return Cell(json.loads(text["numbers"]), {k: v.clone() for k, v in tensors.items()}, float(text["seconds"]))
    except (ValueError, KeyError):
        return None


def _write(path: Path, identity: str, cell: Cell) -> None:
    """Keep a cell; the folder of the cells tells git to leave it alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    text = {"identity": identity, "numbers": _json("numbers", cell.numbers), "seconds": repr(cell.seconds)}
    write_tensors(path, cell.tensors, CELL_FORMAT, CELL_VERSION, text)


@cache
def digest_of(tensor: Tensor) -> str:
    """16 digits of the SHA-256 of a tensor's numbers: what was made from another is another result."""
    return hashlib.sha256(tensor.contiguous().cpu().numpy().tobytes()).hexdigest()[:16]


def model_digest(path: Path) -> str:
    """16 digits of the SHA-256 of a model's file: other weights are another result."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
