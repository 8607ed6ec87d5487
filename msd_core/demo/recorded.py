"""The settings of a training, kept in its folder: what a training goes on with is what it was started with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import write_whole
from ..echo import shown

if TYPE_CHECKING:
    from .train_settings import TrainSettings

FILE = "settings.json"


def record_settings(settings: TrainSettings, folder: Path) -> None:
    """Write ``settings`` into the ``folder`` of a new training, or refuse to go on with another one's.

    Raises:
        ValueError: the folder holds a training of other settings, naming the first that differs, or of unknown ones.
    """
    path, content = folder / FILE, json.dumps(asdict(settings), indent=1) + "\n"
    if not path.exists():
        if any(folder.glob("*.pt")):
            raise ValueError(
                f"--out: {shown(str(folder))} holds a training without {FILE}, whose settings nobody knows; name "
                f"another folder, or write {FILE}"
            )
        write_whole(path, content.encode())
        return
    wanted = json.loads(content)
    try:
        saved = json.loads(path.read_bytes())
        differing = [name for name in wanted if saved[name] != wanted[name]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"--out: {shown(str(path))} is damaged ({shown(error)}); name another folder, or restore it"
        ) from error
    for name in differing:
        raise ValueError(
            f"--{name.replace('_', '-')}: got {wanted[name]}, but the training in {shown(str(folder))} has "
            f"{shown(saved[name])}; pass the same, or name another folder"
        )
