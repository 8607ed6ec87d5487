"""Types of command-line arguments, and the folder check; nothing here needs torch."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..echo import shown

LONGEST_SIDES = {".png": 2**31 - 1, ".jpg": 65_500, ".webp": 16_383}
"""Pixels a side that a file of this ending can hold; of JPEG its library's limit, a little below the format's own."""
PICTURE_SUFFIXES = tuple(LONGEST_SIDES)
LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of a file's name and of a path, on every common file system at most."""
Size = tuple[int, int]


def _decimal(text: str) -> int | None:
    """A number in decimal digits, below 2^63; None for any other text."""
    number = int(text) if text.isdecimal() and len(text.lstrip("0")) <= 19 and len(text) < 1000 else None
    return number if number is not None and number < 2**63 else None


def any_size(text: str) -> Size:
    """`1024x768` → (1024, 768), width first; `512` → (512, 512)."""
    sides = [_decimal(side) for side in text.lower().split("x")[:3]]
    if len(sides) not in (1, 2) or not all(sides):
        raise argparse.ArgumentTypeError(
            f"got {shown(text)}; allowed is WIDTHxHEIGHT in pixels, both > 0: write 512x384"
        )
    return int(sides[0] or 0), int(sides[-1] or 0)


def scaled(size: Size, longest: int, cell: int = 1) -> Size:
    """Width and height of the same proportions whose longer side is ``longest``, in whole cells."""
    width, height = (max(1, round(side * longest / max(size) / cell)) * cell for side in size)
    return width, height


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
    number = _decimal(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"got {shown(text)}; allowed are whole numbers from 0 to 2^63 - 1")
    return number


def count(text: str) -> int:
    """A whole number of at least 1."""
    return count_to(2**63 - 1)(text)


def count_to(most: int) -> Callable[[str], int]:
    """The type of whole numbers from 1 to ``most``."""

    def read(text: str) -> int:
        number = _decimal(text)
        if number is None or not 1 <= number <= most:
            end = "" if most == 2**63 - 1 else f", at most {most}"
            raise argparse.ArgumentTypeError(f"got {shown(text)}; allowed are whole numbers of at least 1{end}")
        return number

    return read


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {shown(text)}; allowed are whole numbers") from None


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {shown(text)}; allowed are finite numbers")
    return value


def seconds(text: str) -> float:
    """A finite number of at least 0."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed are numbers of at least 0")
    return value


def pair(text: str) -> tuple[float, float]:
    """`0.25:2` → (0.25, 2.0)."""
    numbers = text.split(":")
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(
            f"got {shown(text)}; allowed are two numbers with a colon between: write 0.25:2"
        )
    return number(numbers[0]), number(numbers[1])


def path(text: str) -> Path:
    """A path that a file system can hold."""
    parts = os.fsencode(text).split(b"/")
    if not text or "\0" in text or len(os.fsencode(text)) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        raise argparse.ArgumentTypeError(
            f"got {shown(text)}; allowed are paths of at most {LONGEST_PATH} bytes, with names of 1 to {LONGEST_NAME}"
        )
    return Path(text)


def file(text: str) -> Path:
    """The path of a file, which a folder is not."""
    found = path(text)
    if not found.name or found.is_dir():
        raise argparse.ArgumentTypeError(f"got {shown(text)}, a folder; allowed is the path of a file")
    return found


def picture_file(text: str) -> Path:
    """A file that Pillow can write without further options."""
    found = path(text)
    if found.suffix.lower() not in PICTURE_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"got {shown(text)}; allowed are names that end in {', '.join(PICTURE_SUFFIXES)}"
        )
    return file(text)


def check_format(path: Path, size: Size, argument: str = "--size") -> None:
    """Refuse a picture that is larger than its file's format allows.

    Raises:
        ValueError: naming the format and its limit.
    """
    limit = LONGEST_SIDES[path.suffix.lower()]
    if max(size) > limit:
        raise ValueError(
            f"{argument}: got a picture of {size[0]}x{size[1]} for {path.name!r}; allowed is at most {limit} pixels a "
            f"side in a {path.suffix.lower()} file: write a .png, or a smaller picture"
        )


def writable_folder(folder: Path, argument: str = "--out") -> Path:
    """Make ``folder`` if needed and try writing to it, before any work is done for it.

    Raises:
        ValueError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{argument}: got {shown(str(folder))}, where nothing can be written ({reason}); name another folder"
        ) from error
    return folder
