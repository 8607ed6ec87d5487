"""The kinds of generator there are. To add one: write its file, and enter it here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ..validation import check_choice
from .base import Generator
from .latent import Latent
from .neural_image import ENCODINGS, NeuralImage
from .pixels import Pixels

GENERATORS: dict[str, Callable[..., Generator]] = {
    **{encoding: partial(NeuralImage, encoding) for encoding in ENCODINGS},
    "pixels": Pixels,
    "latent": Latent,
}


def make_generator(kind: str, **options: Any) -> Generator:  # noqa: ANN401 - checked by the constructor
    """A fresh generator of a kind: one of the encodings of `NeuralImage`, "pixels" or "latent".

    Raises:
        ValueError: for an unknown kind, or an option that is missing, unknown or out of range.
    """
    check_choice("kind", kind, GENERATORS)
    signature = inspect.signature(GENERATORS[kind])
    try:
        signature.bind(**options)
    except TypeError as error:
        allowed = ", ".join(name for name in signature.parameters if name not in ("encoding", "options"))
        raise ValueError(
            f"options: got {options!r} for {kind!r}: {error}; allowed are {allowed}. Correct them."
        ) from error
    return GENERATORS[kind](**options)
