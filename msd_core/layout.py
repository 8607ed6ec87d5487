"""What a file says of its tensors before any of them is read: type and shape by name.

A file is held against the layout of what it is said to be. One that is of another shape is refused by its header alone,
whatever its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
REAL = ("float16", "bfloat16", "float32", "float64")
"""Types of real numbers that torch calculates with."""


@dataclass(frozen=True)
class Entry:
    """One tensor: the name of its type as torch has it ("float32"; else the file's own), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.shape[:8])) + (", ..." if len(self.shape) > 8 else "")
        return f"{self.dtype} ({shown})"


Layout: TypeAlias = Mapping[str, Entry]


def layout_of(tensors: Mapping[str, Tensor]) -> dict[str, Entry]:
    """The layout of tensors that are there, or on the meta device."""
    return {name: Entry(str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in tensors.items()}


def part(named: Mapping[str, T], prefix: str) -> dict[str, T]:
    """What lies under names that begin with ``prefix``, without it: of a layout, or of tensors."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def check_layout(found: Layout, wanted: Layout, prefix: str = "") -> None:
    """Refuse a layout that is not the one wanted; a type that the wanted one holds exactly will do.

    Args:
        found: of the file.
        wanted: of what it is to fill.
        prefix: put before the names in an error.

    Raises:
        ValueError: a tensor is missing, unknown, or of another type or shape.
    """
    for name, entry in wanted.items():
        if name not in found:
            raise ValueError(f"{prefix}{name}: is missing; wanted is {entry}. Use another copy.")
        _check_entry(f"{prefix}{name}", found[name], entry)
    for name in found:
        if name not in wanted:
            raise ValueError(f"{prefix}{name[:80]}: is no part of it; leave it out, or use another copy.")


def _check_entry(name: str, found: Entry, wanted: Entry) -> None:
    if found.shape != wanted.shape:
        raise ValueError(f"{name}: size mismatch: got {found}; allowed is {wanted}. Use another copy.")
    if not _fits(found.dtype, wanted.dtype):
        raise ValueError(
            f"{name}: is of type {found.dtype}; allowed is {wanted.dtype}. Convert it, or use another copy."
        )


def _fits(found: str, wanted: str) -> bool:
    """Whether a type is the wanted one, or of real numbers that the wanted one holds exactly."""
    if found == wanted:
        return True
    if found not in REAL or wanted not in REAL:
        return False
    return torch.promote_types(getattr(torch, found), getattr(torch, wanted)) is getattr(torch, wanted)
