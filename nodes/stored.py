"""Files of generators in the host's folders: which there are, where a name leads, and what is in one.

A name is what the host writes for its own files: ``folder/x.safetensors [output]``, or without the word for the input
folder. Whatever a name says, nothing outside of these two folders is read. A step's kept state counts as its generator.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths

from ..msd_core.echo import shortened, shown
from ..msd_core.memory import check_fits
from ..msd_core.tensorfile import text_entries

if TYPE_CHECKING:
    from ..msd_core.generators.base import Generator

ENDING = ".safetensors"
UNFINISHED = f".partial{ENDING}"
OUTPUT = " [output]"
GENERATOR, STATE = "msd-generator", "msd-state"
"""Formats, as files name them."""
SETTLED = 2_000_000_000
"""Nanoseconds after which a folder's time tells that nothing came later: some file systems count it in two seconds."""
TIMES = 3
"""Memory that reading takes, of the file's size: its tensors, the generator that they fill, and a look at them."""


def listed() -> list[str]:
    """Names of the generators and kept states in the two folders, the newest first."""
    roots = {folder_paths.get_input_directory(): "", folder_paths.get_output_directory(): OUTPUT}
    found = [(when, name + mark) for root, mark in roots.items() for when, name in _found_below(Path(root))]
    return [name for _, name in sorted(found, key=lambda one: (-one[0], one[1]))]


def _found_below(root: Path) -> Iterator[tuple[int, str]]:
    """Time and name of each file below ``root`` that says that it holds a generator or a state."""
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        below, names = _held_by(folder)
        waiting += [os.path.join(folder, name) for name in below]
        for name in names:
            path = Path(folder, name)
            if not _is_within(root, path):
                continue
            try:
                about = path.stat()
                written = path.relative_to(root).as_posix()
                written.encode()  # a name that is no text cannot be shown
            except (OSError, UnicodeEncodeError):
                continue
            if stat.S_ISREG(about.st_mode) and _says(str(path), about.st_mtime_ns, about.st_size):
                yield about.st_mtime_ns, written


def _held_by(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders in a folder, and the names in it that a generator's file may have; what cannot be read holds none.

    The host asks for the list several times a queue, and its output folder may hold any number of pictures: a folder
    is read again only when its own time says that a name has come or gone, or may have come since that time.
    """
    try:
        changed = os.stat(folder).st_mtime_ns
        if time.time_ns() - changed < SETTLED:
            return _read_folder(folder)
        return _known_folder(folder, changed)
    except OSError:
        return (), ()


def _read_folder(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with os.scandir(folder) as entries:
        here = [(entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
    below = tuple(name for name, is_folder, linked in here if is_folder and not linked)
    names = (name for name, is_folder, _ in here if not is_folder and name.lower().endswith(ENDING))
    return below, tuple(name for name in names if not name.endswith(UNFINISHED))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


@functools.lru_cache(maxsize=4096)
def _known_folder(folder: str, changed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _read_folder(folder)


@functools.lru_cache(maxsize=4096)
def _says(path: str, when: int, size: int) -> bool:
    """Whether the header of a file, as it is at that time, names one of the formats."""
    try:
        return text_entries(path).get("format") in (GENERATOR, STATE)
    except ValueError:
        return False


def _is_within(root: str | Path, path: str | Path) -> bool:
    """Whether ``path`` lies below ``root``, whatever links it goes through."""
    try:
        return Path(os.path.realpath(root)) in Path(os.path.realpath(path)).parents
    except (OSError, ValueError):  # a name with a NUL
        return False


def path_of(name: object) -> Path:
    """The file that a name stands for.

    Raises:
        ValueError: it lies in neither of the two folders, or is not there.
    """
    bare, root = folder_paths.annotated_filepath(name) if isinstance(name, str) else ("", None)
    root = folder_paths.get_input_directory() if root is None else root
    path, allowed = Path(root, bare), (folder_paths.get_input_directory(), folder_paths.get_output_directory())
    if root not in allowed or not bare.lower().endswith(ENDING) or not _is_within(root, path):
        raise ValueError(
            f"file: got {shown(name)}; allowed is a {ENDING} file inside of the host's input or output folder; choose "
            "one from the list"
        )
    if not os.path.isfile(path):
        raise ValueError(
            f"file: got {shown(name)}, which is not there; allowed is one from the list; reload the list (R) and "
            "choose one"
        )
    return path


def new_path(prefix: str, width: int, height: int, ending: str = ENDING) -> Path:
    """A file that is not there yet, in the output folder, by the host's rules for the names of what it saves.

    Raises:
        ValueError: for a prefix that leads out of the output folder, or that no file can have.
    """
    root, name = folder_paths.get_output_directory(), os.path.basename(os.path.normpath(prefix or "."))
    try:
        if name in ("", ".", "..") or not _is_within(root, Path(root, prefix)):
            raise ValueError("it is no name inside of it")
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, root, width, height)
        path = Path(folder, f"{name}_{counter:05}_{ending}")
        while path.exists():
            counter += 1
            path = Path(folder, f"{name}_{counter:05}_{ending}")
    except Exception as error:  # the host raises a plain one
        raise ValueError(
            f"filename_prefix: got {shown(prefix)} ({shortened(error)}); allowed is a name inside of the output "
            "folder, such as 'generators/msd'; choose another"
        ) from error
    return path


def name_of(path: Path) -> str:
    """What the user finds a file under, within the output folder."""
    return path.relative_to(folder_paths.get_output_directory()).as_posix()


def digest(name: object) -> str:
    """Of a file's content, so that a node runs again when it is another; empty if there is none."""
    try:
        path = path_of(name)
        about = path.stat()
        return _digest(str(path), about.st_mtime_ns, about.st_size, about.st_ino)
    except (OSError, ValueError):
        return ""


@functools.lru_cache(maxsize=64)
def _digest(path: str, when: int, size: int, number: int) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            sha.update(block)
    return sha.hexdigest()


def read(name: str) -> tuple[Generator, Mapping[str, str]]:
    """The generator of a file, on the CPU, and the file's text entries. Call inside `grad_mode()`.

    Raises:
        ValueError: the file is not in the two folders, not ours, damaged, or larger than the memory.
    """
    path = path_of(name)
    try:
        entries = text_entries(path)
        if entries.get("format") not in (GENERATOR, STATE):
            raise ValueError(
                f"{name!r} is of format {shown(entries.get('format'))}; allowed are {GENERATOR!r}, of Save Generator, "
                f"and {STATE!r}, which a step keeps. Choose another file."
            )
        size = path.stat().st_size
        check_fits("file", f"{size} bytes", TIMES * size, "Free memory, or choose a smaller file.")
        return _loaded(path, entries)
    except (OSError, ValueError) as error:
        told = str(error).removeprefix("path: ").removeprefix("file: ")
        raise ValueError(f"file: {told}") from error


def _loaded(path: Path, entries: Mapping[str, str]) -> tuple[Generator, Mapping[str, str]]:
    from ..msd_core.generators.files import load_generator
    from ..msd_core.state import load_state

    if entries["format"] == GENERATOR:
        generator = load_generator(path)
    else:
        state = load_state(path)
        generator = state.generator
        entries = {**entries, "steps": f"{state.step} of {state.steps}"}
    if generator.space not in ("image", "latent"):
        raise ValueError(
            f"{path.name!r} holds {generator.space}; allowed are generators of an image or a latent. Choose another "
            "file."
        )
    return generator, entries
