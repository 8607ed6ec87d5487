"""A generator as a safetensors file: parameters as tensors, kind and config in the metadata.

    metadata = {"format": "msd-generator", "version": "1", "kind": ..., "config": JSON, ...}

The version counts changes that older code cannot read.

A config is a few bytes that can ask for any amount of memory, and of time. So the generator is first made on torch's
meta device, which has shapes but no numbers, and its names, shapes and types are held against the file's header; what
remains is made for real, and is as large as the file. What a constructor does once a number (a layer, a level) it
bounds itself. A kind from outside that cannot be made on the meta device is held against the header once it is made;
numbers above `LARGEST` it is not asked to take.

Numbers that are finite, but so large that a picture of them is not, are refused too: above ``largest`` of the kind, or
if a picture of `DRAWN` pixels a side is not finite. That is a sample of its positions, not a proof for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..echo import shortened
from ..jsontext import entry, parse_json
from ..layout import Entry, Layout, check_layout, layout_of
from ..tensorfile import read_tensors, write_tensors
from ..validation import check_count, check_instance
from .base import Config, Generator
from .batch import MOST, kind_and_config
from .registry import make_generator

FORMAT, VERSION = "msd-generator", "1"
LARGEST = 2**24
"""Most that a whole number of a config may be, but for a seed."""
DRAWN = 32
"""Pixels a side, or cells of a latent, of the picture that a generator must be able to draw."""
_WRONG = (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError)
"""What a constructor makes of arguments that are not meant for it."""


def save_generator(generator: Generator, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``generator`` to ``path``; the same generator gives the same bytes.

    Args:
        generator: any kind in `GENERATORS`.
        path: of the file; replaced only once the new one is complete.
        metadata: further entries, text to text, such as the prompt.

    Raises:
        ValueError: if the file cannot be written, or ``metadata`` uses a name of the format's own.
    """
    check_instance("generator", generator, Generator, "a Generator. Pass one, such as state.generator")
    write_tensors(path, generator.state_dict(), FORMAT, VERSION, generator_metadata(generator), metadata)


def load_generator(path: str | Path) -> Generator:
    """The generator that `save_generator` wrote, on the CPU.

    Raises:
        ValueError: if the file is missing, truncated, foreign, of another version or damaged.
    """
    tensors, metadata = read_tensors(path, FORMAT, VERSION, lambda layout, text: check_generator(path, layout, text))
    return build_generator(path, tensors, metadata)


def generator_metadata(generator: Generator) -> dict[str, str]:
    """The entries that `build_generator` reads."""
    return {"kind": generator.kind, "config": json.dumps(generator.config(), sort_keys=True)}


def check_generator(path: str | Path, layout: Layout, metadata: Mapping[str, str]) -> None:
    """Refuse entries that do not fit together, or tensors that are not those of the generator they describe.

    Raises:
        ValueError: naming the file, the entry, and what is allowed.
    """
    try:
        _check(layout, *_described(metadata))
    except _WRONG as error:
        raise _damaged(path, error) from error


def build_generator(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Generator:
    """The generator with these entries and parameters, read from ``path`` and checked by `check_generator`.

    Raises:
        ValueError: if they do not fit together, or a parameter is not finite or too large to draw with.
    """
    try:
        kind, config = _described(metadata)
        generator = make_generator(kind, **config)
        check_layout(layout_of(tensors), layout_of(generator.state_dict()))
        generator.load_state_dict(dict(tensors))
    except _WRONG as error:
        raise _damaged(path, error) from error
    _check_numbers(path, generator, tensors)
    return generator


def _damaged(path: str | Path, error: BaseException) -> ValueError:
    reason = shortened(error).removesuffix(" Use another copy.")
    return ValueError(f"path: the generator in {str(path)!r} is damaged ({reason}). Use another copy.")


def _described(metadata: Mapping[str, str]) -> tuple[str, Config]:
    """Kind and config, of plain numbers."""
    config = parse_json("config", entry(metadata, "config"))
    if not isinstance(config, dict):
        raise ValueError(f"config: got {type(config).__name__}; allowed is a JSON object of options.")
    _check_plain("config", config)
    return entry(metadata, "kind"), config


def _check_plain(name: str, value: object) -> None:
    """Refuse a whole number above `LARGEST` in size anywhere in a config; only a seed may be larger."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(key, inner)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(name, inner)
    elif isinstance(value, int) and name != "seed" and abs(value) > LARGEST:
        raise ValueError(f"{name}: got {value}; allowed are whole numbers up to {LARGEST}.")


def _check(layout: Layout, kind: str, config: Config, prefix: str = "") -> None:
    """Hold ``layout`` against the generator that a config describes; a batch's members one by one, so that the first
    that does not fit ends it."""
    if kind == "batch":
        members = config.get("members")
        if set(config) != {"members"} or not isinstance(members, list):
            raise ValueError(f"config: got {sorted(config)[:8]} for a batch; allowed is a list of members alone.")
        parts = _by_member(layout, len(members), prefix)
        for i, member in enumerate(members):
            _check(parts[i], *kind_and_config(member), f"{prefix}members.{i}.")
        return
    try:
        # The project's own kinds only do what torch knows the shapes of; for the rest it loads its compiler, a second.
        with torch.device("meta"):
            twin = make_generator(kind, **config)
    except (NotImplementedError, RuntimeError):  # needs numbers, or is wrong: `build_generator` will see
        return
    check_layout(layout, layout_of(twin.state_dict()), prefix)


def _by_member(layout: Layout, count: int, prefix: str) -> list[dict[str, Entry]]:
    """What lies under "members.i.", for each of ``count`` members."""
    check_count("members", count, maximum=MOST)
    parts: list[dict[str, Entry]] = [{} for _ in range(count)]
    known = {str(i): own for i, own in enumerate(parts)}
    for name, one in layout.items():
        start, _, rest = name.removeprefix("members.").partition(".")
        own = known.get(start)
        if own is None or not name.startswith("members."):
            raise ValueError(f"{prefix}{name[:80]}: is of no member. Leave it out, or use another copy.")
        own[rest] = one
    return parts


def _check_numbers(path: str | Path, generator: Generator, tensors: Mapping[str, Tensor]) -> None:
    """Refuse numbers that are not finite, or with which nothing finite can be drawn."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"path: {name} in {str(path)!r} holds NaN or infinity; allowed are numbers. Use another copy."
            )
        size = float(tensor.abs().max()) if tensor.is_floating_point() and tensor.numel() else 0.0
        if size > generator.largest:
            raise ValueError(
                f"path: {name} in {str(path)!r} holds numbers as large as {size:g}; allowed are up to "
                f"{generator.largest:g}. Use another copy, from before the run went astray."
            )
    try:
        with torch.no_grad():
            finite = torch.isfinite(generator.render(generator.frame(DRAWN, DRAWN))).all()
    except _WRONG as error:
        raise _damaged(path, error) from error
    if not finite:
        raise ValueError(
            f"path: {str(path)!r} draws NaN or infinity, although its numbers are finite; allowed are generators whose "
            "pictures are. Use another copy, from before the run went astray."
        )
