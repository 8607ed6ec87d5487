"""Named tensors and text in one safetensors file, with errors that say what is wrong with a file.

Files are written whole or not at all, and equal contents give equal bytes: the safetensors writer orders the metadata
by a hash that changes from one process to the next, so the header is sorted here. A file is checked from outside to
inside: the size of its header, its format, what the header says of the tensors, and only then are they read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .atomic import write_whole
from .echo import shortened, shown
from .layout import Entry, Layout
from .validation import as_path

LARGEST_HEADER = 2**22
"""Most bytes of a header: some 40,000 tensors."""
Check: TypeAlias = Callable[[Layout, Mapping[str, str]], object]
"""Refuses tensors and text entries that do not fit what is to be read, with a ValueError."""
_DTYPES = {
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool", "U8": "uint8",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "C64": "complex64",
}  # fmt: skip
"""Names of types in a file, and torch's."""


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    format: str,  # noqa: A002 - the name of the entry
    version: str,
    metadata: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write ``tensors``, and format, version, ``metadata`` and ``extra`` as the file's text entries.

    Raises:
        ValueError: if the file cannot be written, ``extra`` uses a name of the others, or is not text to text, or
            names and text are more than a header holds.
    """
    entries = {"format": format, "version": version, **metadata}
    if extra is not None and not isinstance(extra, Mapping):
        raise ValueError(f"metadata: got {shown(extra)}; allowed is a mapping of texts to texts. Pass a dict.")
    for name, value in (extra or {}).items():
        if name in entries or not isinstance(value, str):
            raise ValueError(
                f"metadata: got {shown(name)} = {shown(value)}; allowed is text under any name but "
                f"{', '.join(entries)}. Rename it, or write it as JSON."
            )
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = _sorted_header(save(contiguous, {**entries, **(extra or {})}))
    path = as_path("path", path)
    try:
        write_whole(path, content)
    except OSError as error:
        raise ValueError(
            f"path: cannot write {str(path)!r} ({error.strerror}); allowed is a file in a folder that exists, is "
            "writable and has room. Choose another."
        ) from error


def _sorted_header(content: bytes) -> bytes:
    """The same safetensors file with the entries of its header in order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > LARGEST_HEADER:
        raise ValueError(
            f"metadata: got {len(header)} bytes of names and text; allowed are {LARGEST_HEADER}. Save fewer tensors or "
            "less text."
        )
    return len(header).to_bytes(8, "little") + header + content[end:]


def read_tensors(
    path: str | Path,
    format: str,  # noqa: A002 - the name of the entry
    version: str,
    check: Check = lambda layout, metadata: None,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, on the CPU, and text entries of a file that `write_tensors` wrote with this format and version.

    ``check`` is called with what the header says before any tensor is read, and refuses what does not fit.

    Raises:
        ValueError: if the file is missing, truncated, foreign or of another version, or ``check`` refuses it.
    """
    path = as_path("path", path)
    with _opened(path, format) as file:
        metadata = file.metadata() or {}
        _check_format(path, metadata, format, version)
        with _errors_of(path, format):
            layout = {name: _entry(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118 - not a mapping
        check(layout, metadata)
        with _errors_of(path, format):
            tensors = {name: file.get_tensor(name) for name in layout}
    return tensors, metadata


def text_entries(path: str | Path) -> dict[str, str]:
    """The text entries of a safetensors file of any format, for the cost of its header; no tensor is read.

    Raises:
        ValueError: if the file is missing, truncated or no safetensors file.
    """
    path = as_path("path", path)
    with _opened(path, "safetensors") as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path, format: str) -> Iterator[Any]:  # noqa: A002
    """safetensors' reader of a file that is there and whose header is of a size to read."""
    if not path.is_file():
        raise ValueError(f"path: there is no file {str(path)!r}; allowed is a {format} file. Check the name.")
    with _errors_of(path, format):
        _check_header(path)
        file = safe_open(str(path), framework="pt")
    with file:
        yield file


def _entry(lazy: Any) -> Entry:  # noqa: ANN401 - safetensors' own
    dtype = str(lazy.get_dtype())
    return Entry(_DTYPES.get(dtype, dtype), tuple(lazy.get_shape()))


def _check_header(path: Path) -> None:
    """Refuse a header that would take long to read."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > LARGEST_HEADER:
        raise OSError(f"a header of {size} bytes; allowed are {LARGEST_HEADER}")


@contextmanager
def _errors_of(path: Path, format: str) -> Iterator[None]:  # noqa: A002
    """Say of which file it is that safetensors complains."""
    try:
        yield
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"path: {str(path)!r} is truncated, unreadable or not a safetensors file ({shortened(error)}); allowed is "
            f"a {format} file. Use another copy."
        ) from error


def _check_format(path: Path, metadata: Mapping[str, str], format: str, version: str) -> None:  # noqa: A002
    """Refuse a file of another format or version."""
    found, age = (metadata.get(name, "")[:80] or None for name in ("format", "version"))
    if found != format:
        raise ValueError(f"path: {str(path)!r} is of format {found!r}; allowed is {format!r}. Choose another file.")
    if age != version:
        raise ValueError(
            f"path: {str(path)!r} is of version {age!r} of {format}; allowed is {version!r}. "
            "Use the release of this software that wrote it, or make the file again."
        )
