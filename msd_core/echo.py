"""What an error shows of a value: on one line, printable, and short however large the value is.

A message repeats what was given, so that it can be found; a word of 100,000 characters, a number of 5,000 digits or a
list of a million entries must not bury the rest of it.
"""

from __future__ import annotations

import reprlib

LONGEST = 200
"""Characters that a value takes at most."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = LONGEST
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = 12
_short.maxlevel = 4


def shown(value: object) -> str:
    """``value`` as an error shows it: its repr, its middle left out where it is long; of a tensor shape and type."""
    if isinstance(value, type):
        return f"the class {cut(value.__name__)}"
    kind = type(value).__name__
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return cut(f"{kind} of shape {tuple(shape)}, {dtype}")
    try:
        return cut(" ".join(_short.repr(value).split()))
    except Exception:  # whatever a foreign __repr__ raises, and Python for a number of 4,300 digits and more
        return f"a value of type {cut(kind)} that cannot be shown"


def cut(text: str, longest: int = LONGEST) -> str:
    """``text`` with its middle left out where it is longer than ``longest``."""
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def shortened(error: BaseException) -> str:
    """The text of an error on one line of at most 400 characters: it may quote a file."""
    return cut(" ".join(str(error)[:4000].split()), 400)
