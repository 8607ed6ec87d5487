"""What `msd distill --resume` goes on from, in the folder of a run that is under way or was stopped.

    state.safetensors      the state, with the run's settings
    frames.safetensors     the animation's frames so far, written first: a run does without them
    source.safetensors     the picture that the run edits, if it edits one (`source`)

All are there from a run's first step until its results are in place.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..atomic import remove_partial
from ..echo import shortened
from ..jsontext import entry, parse_json
from ..layout import Layout
from ..state import load_state, save_state
from ..tensorfile import read_tensors, write_tensors
from ..validation import check_count, check_number
from .run_folder import FRAME_SIZE, FRAMES, Done, Frames
from .settings import Settings
from .source import SOURCE_FILE

STATE, FRAMES_FILE = "state.safetensors", "frames.safetensors"
MOST_FRAMES = 2 * FRAMES
_FRAMES_FORMAT = ("msd-frames", "1")


def save_unfinished(folder: Path, settings: Settings, done: Done) -> None:
    """Write what `load_unfinished` reads; the state last, because it is what makes a run resumable."""
    frames = {f"{step:08}": torch.from_numpy(np.array(frame)) for step, frame in done.frames.items()}
    write_tensors(folder / FRAMES_FILE, frames, *_FRAMES_FORMAT, {})
    about = {"settings": json.dumps(settings.to_json()), "seconds": str(done.seconds), "before": str(done.before)}
    save_state(done.state, folder / STATE, about)


def load_unfinished(folder: Path) -> tuple[Settings, Done]:
    """What `save_unfinished` wrote.

    Raises:
        ValueError: there is nothing to resume, or the state is damaged.
    """
    if not (folder / STATE).is_file():
        raise ValueError(f"--resume: {str(folder)!r} holds no unfinished run; leave --resume out to start one")
    state = load_state(folder / STATE)
    settings, seconds, before = saved_settings(folder / STATE, state.metadata)
    return settings, Done(state, _frames(folder, state.step), seconds, before)


def saved_settings(path: Path, metadata: Mapping[str, str]) -> tuple[Settings, float, int]:
    """The settings that the command line saved with a state, the run's seconds, and the evaluations before it.

    Raises:
        ValueError: they are not there, or damaged.
    """
    try:
        settings = parse_json("settings", entry(metadata, "settings"), infinite=True)
        seconds = json.loads(entry(metadata, "seconds")[:40])
        check_number("seconds", seconds, "Use another copy.", low=0)
        before = json.loads(metadata.get("before", "0")[:40])  # a run of version 0.1 has none
        check_count("before", before, minimum=0, maximum=2**53)
        return Settings.from_json(settings), float(seconds), before
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"path: {str(path)!r} is not of a run of the command line, or damaged ({shortened(error)}). Use another "
            "copy, or start a new run."
        ) from error


def _frames(folder: Path, step: int) -> Frames:
    """The frames up to ``step``; none, and a word about it, when they cannot be read."""
    try:
        frames = read_frames(folder / FRAMES_FILE)
    except ValueError as error:
        print(f"msd: the animation will lack its first frames: {error}", file=sys.stderr)
        return {}
    return {number: frame for number, frame in frames.items() if number <= step}


def read_frames(path: Path) -> Frames:
    """The frames in a file that `save_unfinished` wrote.

    Raises:
        ValueError: the file is missing or damaged.
    """
    tensors, _ = read_tensors(path, *_FRAMES_FORMAT, partial(check_frames, path))
    return {int(name): Image.fromarray(tensors[name].numpy()) for name in sorted(tensors)}


def check_frames(path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
    """Refuse tensors that are no frames of an animation: pictures (height, width, 3) of bytes, named by their step.

    Raises:
        ValueError: naming the file and the tensor.
    """
    if len(layout) > MOST_FRAMES:
        raise ValueError(
            f"path: {str(path)!r} holds {len(layout)} frames; allowed are {MOST_FRAMES}. Use another copy."
        )
    for name, one in layout.items():
        named = name.isascii() and name.isdigit() and len(name) <= 10
        if not named or one.dtype != "uint8" or len(one.shape) != 3 or one.shape[2] != 3:
            raise ValueError(
                f"path: {name[:80]!r} in {str(path)!r} is {one}; allowed are uint8 (height, width, 3) under the number "
                "of a step. Use another copy."
            )
        if not all(1 <= side <= FRAME_SIZE for side in one.shape[:2]):
            raise ValueError(
                f"path: {name!r} in {str(path)!r} is {one}; allowed are 1 to {FRAME_SIZE} pixels. Use another copy."
            )


def check_no_unfinished(folder: Path) -> None:
    """Refuse to start over in the folder of an unfinished run.

    Raises:
        ValueError: there is one.
    """
    if (folder / STATE).exists():
        raise ValueError(
            f"--out: {str(folder)!r} holds an unfinished run; add --resume to go on with it, --force to give it up, or "
            "name another folder"
        )


def remove_unfinished(folder: Path) -> None:
    """The run is finished: nothing is left to resume, nor what a run that was killed in mid-saving has left."""
    for name in (STATE, FRAMES_FILE, SOURCE_FILE):
        (folder / name).unlink(missing_ok=True)
        remove_partial(folder / name)
