"""A generator as a safetensors file: parameters as tensors, kind and config in the metadata.

    metadata = {"format": "msd-generator", "version": "1", "kind": ..., "config": JSON, ...}

The version counts changes that older code cannot read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..tensorfile import read_tensors, write_tensors
from ..validation import check_instance
from .base import Generator
from .registry import make_generator

FORMAT, VERSION = "msd-generator", "1"


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
    tensors, metadata = read_tensors(path, FORMAT, VERSION)
    return build_generator(path, tensors, metadata)


def generator_metadata(generator: Generator) -> dict[str, str]:
    """The entries that `build_generator` reads."""
    return {"kind": generator.kind, "config": json.dumps(generator.config(), sort_keys=True)}


def build_generator(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Generator:
    """The generator with these entries and parameters, read from ``path``.

    Raises:
        ValueError: if they do not fit together, or a parameter is not finite.
    """
    try:
        generator = make_generator(metadata["kind"], **json.loads(metadata["config"]))
        generator.load_state_dict(dict(tensors))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"path: the generator in {str(path)!r} is damaged ({reason}). Use another copy.") from error
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(
            f"path: {broken[0]} in {str(path)!r} holds NaN or infinity; allowed are numbers. Use another copy."
        )
    return generator
