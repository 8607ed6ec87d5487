"""Which files a pipeline is read from: those of a folder in the library's layout, or a single file and its settings.

model/model_index.json      the class of the pipeline, and a folder for each of its parts
model/unet/ ...

model.safetensors           all weights in one file, which does not say what they are weights of;
model/                      so its settings lie beside it, in a folder of its own name or in its own folder: the
                            layout above, without the weights
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..echo import shown

INDEX = "model_index.json"


def settings_of(file: Path) -> Path:
    """The folder that says what the weights in a single ``file`` are.

    Raises:
        ValueError: there is none; the library would look for one on the net.
    """
    for folder in (file.with_suffix(""), file.parent):
        if (folder / INDEX).is_file():
            return folder
    raise ValueError(
        f"path: {str(file)!r} holds weights, and not what they are weights of; allowed is a file with its settings "
        f"beside it. Put {INDEX} and the folders that it names, without their weights, into {file.stem}/, or name a "
        "folder of diffusers."
    )


def index_of(folder: Path) -> dict[str, Any]:
    """What ``folder`` says of its pipeline: its class, and its parts.

    Raises:
        ValueError: it is no folder of a pipeline.
    """
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"path: {str(folder)!r} has no {INDEX} that can be read; allowed is a folder that diffusers has saved a "
            "pipeline to. Name one, or a single file."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("_class_name"), str):
        raise ValueError(
            f"path: {INDEX} in {str(folder)!r} holds {shown(content)}; allowed is the name of a pipeline's class and "
            "of its parts. Use another copy."
        )
    return content


def parts_of(folder: Path) -> list[str]:
    """Names of the parts that a pipeline in ``folder`` has."""
    return [
        name
        for name, place in index_of(folder).items()
        if isinstance(place, list) and place[:1] != [None] and (folder / name).is_dir()
    ]


def files_of(path: Path) -> Iterator[Path]:
    """The files that decide what the model at ``path`` is, in a fixed order: nothing else that lies beside them.

    Those of a folder that is no pipeline are all of it, but for hidden ones.

    Raises:
        ValueError: as `index_of` and `settings_of`.
    """
    if not path.is_dir():
        folder = settings_of(path)
        yield path
    else:
        folder = path
    yield folder / INDEX
    for name in sorted(parts_of(folder)):
        yield from sorted(file for file in (folder / name).rglob("*") if file.is_file())
