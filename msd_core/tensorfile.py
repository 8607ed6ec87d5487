"""Named tensors and text in one safetensors file, with errors that say what is wrong with a file.

Files are written whole or not at all, and equal contents give equal bytes: the safetensors writer orders the metadata
by a hash that changes from one process to the next, so the header is sorted here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .atomic import write_whole


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
        ValueError: if the file cannot be written, ``extra`` uses a name of the others, or is not text to text.
    """
    entries = {"format": format, "version": version, **metadata}
    for name, value in (extra or {}).items():
        if name in entries or not isinstance(value, str):
            raise ValueError(
                f"metadata: got {name!r} = {value!r}; allowed is text under any name but {', '.join(entries)}. "
                "Rename it, or write it as JSON."
            )
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = _sorted_header(save(contiguous, {**entries, **(extra or {})}))
    path = Path(path)
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
    return len(header).to_bytes(8, "little") + header + content[end:]


def read_tensors(path: str | Path, format: str, version: str) -> tuple[dict[str, Tensor], dict[str, str]]:  # noqa: A002
    """Tensors, on the CPU, and text entries of a file that `write_tensors` wrote with this format and version.

    Raises:
        ValueError: if the file is missing, truncated, foreign or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: there is no file {str(path)!r}; allowed is a {format} file. Check the name.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata, format, version)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"path: {str(path)!r} is truncated, unreadable or not a safetensors file ({error}); allowed is a {format} "
            "file. Use another copy."
        ) from error
    return tensors, metadata


def _check_format(path: Path, metadata: Mapping[str, str], format: str, version: str) -> None:  # noqa: A002
    """Refuse a file of another format or version."""
    found = metadata.get("format")
    if found != format:
        raise ValueError(f"path: {str(path)!r} is of format {found!r}; allowed is {format!r}. Choose another file.")
    if metadata.get("version") != version:
        raise ValueError(
            f"path: {str(path)!r} is of version {metadata.get('version')!r} of {format}; allowed is {version!r}. "
            "Use the release of this software that wrote it, or make the file again."
        )
