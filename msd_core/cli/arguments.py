"""Types of command-line arguments, and the folder check; nothing here needs torch."""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

PICTURE_SUFFIXES = (".png", ".jpg", ".webp")
Size = tuple[int, int]


def any_size(text: str) -> Size:
    """`1024x768` → (1024, 768), width first; `512` → (512, 512)."""
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed is WIDTHxHEIGHT in pixels, both > 0: write 512x384")
    return int(sides[0]), int(sides[-1])


def check_cells(size: Size, cell: int) -> None:
    """Refuse a size whose sides are no multiples of the model's cell.

    Raises:
        ValueError: naming the nearest size that is one.
    """
    if any(side % cell for side in size):
        nearest = "x".join(str(max(cell, round(side / cell) * cell)) for side in size)
        got = "x".join(map(str, size))
        raise ValueError(
            f"--size: got {got!r}; allowed are multiples of {cell}, the side of a latent's cell: write {nearest}"
        )


def seed(text: str) -> int:
    """A whole number that every random generator takes."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed are whole numbers from 0 to 2^63 - 1")
    return int(text)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed are whole numbers of at least 1")
    return int(text)


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text[:40]!r}; allowed are whole numbers") from None


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed are finite numbers")
    return value


def pair(text: str) -> tuple[float, float]:
    """`0.25:2` → (0.25, 2.0)."""
    numbers = text.split(":")
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed are two numbers with a colon between: write 0.25:2")
    return number(numbers[0]), number(numbers[1])


def picture_file(text: str) -> Path:
    """A file that Pillow can write without further options."""
    path = Path(text)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed are names that end in {', '.join(PICTURE_SUFFIXES)}")
    return path


def writable_folder(folder: Path, argument: str = "--out") -> Path:
    """Make ``folder`` if needed and try writing to it, before any work is done for it.

    Raises:
        ValueError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{argument}: got {str(folder)!r}, where nothing can be written ({error.strerror}); name another folder"
        ) from error
    return folder
