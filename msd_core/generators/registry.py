"""The kinds of generator there are. To add one: write its file, and enter it here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..echo import shown
from ..registry import Registry
from ..settings import Setting, build, flatten, settings_of
from .base import Generator

GENERATORS = Registry(
    "generator",
    __package__ or "",
    {
        "fourier": "neural_image:FOURIER",
        "siren": "neural_image:SIREN",
        "hashgrid": "neural_image:HASHGRID",
        "pixels": "pixels:Pixels",
        "latent": "latent:Latent",
        "vector": "vector.shapes:Vector",
        "pixel-art": "pixel_art:PixelArt",
        "sticker": "sticker:Sticker",
        "volume": "volume.volume:Volume",
    },
)
"""Kind to the class of a generator, with a ``for_size``: what the menus offer."""

OTHERS = Registry("generator", __package__ or "", {"batch": "batch:Batch", "points": "points:Points"})
"""Kinds that are saved and loaded, but not made for a size."""


def make_generator(kind: str, **options: Any) -> Generator:  # noqa: ANN401 - checked by the constructor
    """A fresh generator of a kind in `GENERATORS`, a "batch", or "points".

    Raises:
        ValueError: for an unknown kind, or an option that is missing, unknown or out of range.
    """
    make = (OTHERS if isinstance(kind, str) and kind in OTHERS else GENERATORS).find("kind", kind)
    signature = inspect.signature(make)
    try:
        signature.bind(**options)
    except TypeError as error:
        allowed = ", ".join(name for name in signature.parameters if name != "options")
        raise ValueError(
            f"options: got {shown(options)} for {kind!r}: {error}; allowed are {allowed}. Correct them."
        ) from error
    return make(**options)


def options_of(kind: str) -> dict[str, Setting]:
    """The settings of a kind in `GENERATORS`, by plain name; none for a kind without.

    Raises:
        ValueError: for an unknown kind.
    """
    owner = getattr(GENERATORS.find("generator", kind), "settings", None)
    return {} if owner is None else {entry.flag: entry for entry in settings_of(owner).values()}


def checked_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a kind by plain name: ``options``, and the defaults of the rest.

    Raises:
        ValueError: for an unknown kind, or an option that it has not or does not allow.
    """
    known = options_of(kind)
    for name, value in options.items():
        if name not in known:
            users = [other for other in GENERATORS if name in options_of(other)]
            allowed = f"with {', '.join(users)}" if users else f"are {', '.join(known) or 'none'}"
            raise ValueError(
                f"{name}: got {shown(value)} with the generator {kind!r}; allowed {allowed}. Leave it out, or change "
                "the generator."
            )
    owner = getattr(GENERATORS[kind], "settings", None)
    return {} if owner is None else flatten(build(owner(), options))


def generator_for_size(
    kind: str,
    width: int,
    height: int,
    *,
    seed: int = 0,
    channels: int = 4,
    cell: int = 8,
    **options: Any,  # noqa: ANN401 - checked by the constructor
) -> Generator:
    """A fresh generator of a kind in `GENERATORS`, to be optimised at ``width`` x ``height`` pixels.

    Args:
        kind: its name.
        width, height: in pixels.
        seed: of its first parameters.
        channels, cell: of the model's latent, and pixels a side of its cell.
        options: further ones of the kind.

    Raises:
        ValueError: for an unknown kind, or an option that is unknown or out of range.
    """
    make = GENERATORS.find("generator", kind).for_size
    try:
        return make(width, height, seed=seed, channels=channels, cell=cell, **options)
    except TypeError as error:
        raise ValueError(f"options: got {shown(options)} for {kind!r}: {error}. Correct them.") from error
