"""The cells of a sweep as files, a JSON and a picture each, written whole; the JSON last, it says that all is there.

folder/cells/<identity>.json    setting, options, prompt, seed, and the row's figures
folder/cells/<identity>.png     the picture
folder/cells/<identity>.error   why a cell has failed, in one line, until it is tried again
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..atomic import replacing, write_whole
from ..jsontext import parse_json
from .cells import Row, as_json
from .grid import Cell

FOLDER = "cells"


def keep(folder: Path, identity: str, cell: Cell, row: Row, picture: Tensor) -> None:
    """Write what came out of ``cell``; ``picture`` is (3, H, W) in [0, 1]."""
    from PIL import Image

    pixels = (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy()
    with replacing(picture_file(folder, identity)) as file:
        Image.fromarray(pixels).save(file)
    content = {"setting": cell.setting, "options": dict(cell.options), "prompt": cell.prompt, "seed": cell.seed}
    write_whole(_file(folder, identity), json.dumps({**content, **as_json(row)}, indent=1).encode())


def kept(folder: Path, identity: str) -> Mapping[str, Any] | None:
    """What was written of a cell; None if nothing was, or it is damaged."""
    try:
        content = parse_json("cell", _file(folder, identity).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and {"setting", "prompt", "seed", *Row.__dataclass_fields__} <= content.keys()
    return content if whole and picture_file(folder, identity).is_file() else None


def note(folder: Path, identity: str, failed: str) -> None:
    """Write why a cell has failed."""
    write_whole(_note(folder, identity), failed.encode())


def noted(folder: Path, identity: str) -> str:
    """Why a cell has failed; "" if it has not."""
    try:
        return _note(folder, identity).read_text(encoding="utf-8")
    except OSError:
        return ""


def forget(folder: Path, identity: str) -> None:
    """Remove what was noted of a cell that is tried again."""
    _note(folder, identity).unlink(missing_ok=True)


def picture_file(folder: Path, identity: str) -> Path:
    """Where the picture of a cell is."""
    return folder / FOLDER / f"{identity}.png"


def _file(folder: Path, identity: str) -> Path:
    return folder / FOLDER / f"{identity}.json"


def _note(folder: Path, identity: str) -> Path:
    return folder / FOLDER / f"{identity}.error"
