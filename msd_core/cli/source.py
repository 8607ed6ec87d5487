"""The picture that an edit starts from: `--source` and `--source-prompt` of `msd distill`.

    source.safetensors     the picture at the size of the run, float32, beside the state that `--resume` goes on from

The run's settings know the picture's file by its digest, as they know that of --start. To go on, the file is not
needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from ..distillation import METHODS
from ..distillation.base import needs_of
from ..echo import shown
from ..generators.picture import check_picture, cover
from ..layout import Entry, check_layout
from ..preset import Preset
from ..tensorfile import read_tensors, write_tensors
from .arguments import Size
from .pictures import read_picture
from .settings import drawing

SOURCE_FILE = "source.safetensors"
_FORMAT = ("msd-source", "1")


def check_source(arguments: argparse.Namespace, preset: Preset) -> None:
    """Refuse a new run without what its method needs of a source, or with a source that it has no use for.

    Raises:
        ValueError: naming the flag.
    """
    method, edits = METHODS.name_of(preset.method), [name for name in METHODS if name not in drawing()]
    told = {"--source": "--source picture.png", "--source-prompt": "--source-prompt 'what the source shows'"}
    for flag, value in (("--source", arguments.source), ("--source-prompt", arguments.source_prompt)):
        if "source" in needs_of(preset.method) and value is None:
            raise ValueError(
                f"{flag}: got none with --method {method}, which edits a picture; allowed are the file of the picture, "
                f"and the prompt that describes it. Add {told[flag]}"
            )
        if "source" not in needs_of(preset.method) and value is not None:
            raise ValueError(
                f"{flag}: got {shown(str(value))} with --method {method}, which draws from its prompt alone; allowed "
                f"with {', '.join(edits)}. Leave it out, or begin with the picture by --start."
            )


def read_source(path: Path, size: Size) -> Tensor:
    """The picture (1, 3, H, W) in a file, cut and resampled to the ``size`` of a run.

    Raises:
        ValueError: it is no picture.
    """
    try:
        return cover(read_picture(path), *size)
    except ValueError as error:
        raise ValueError(f"--source: {error}") from error


def save_source(folder: Path, source: Tensor) -> None:
    """Keep the picture of an unfinished run, to the bit."""
    write_tensors(folder / SOURCE_FILE, {"source": source.contiguous()}, *_FORMAT, {})


def load_source(folder: Path, size: Size) -> Tensor:
    """What `save_source` wrote for a run of this ``size``.

    Raises:
        ValueError: it is missing or damaged.
    """
    wanted = {"source": Entry("float32", (1, 3, size[1], size[0]))}
    tensors, _ = read_tensors(folder / SOURCE_FILE, *_FORMAT, lambda layout, _: check_layout(layout, wanted))
    return check_picture("source", tensors["source"])
