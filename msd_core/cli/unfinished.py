"""What `msd distill --resume` goes on from, in the folder of a run that is under way or was stopped.

    state.safetensors      the state, with the run's settings
    frames.safetensors     the animation's frames so far, written first: a run does without them

Both are there from a run's first step until its results are in place.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..state import load_state, save_state
from ..tensorfile import read_tensors, write_tensors
from .run_folder import Done, Frames
from .settings import Settings

STATE, FRAMES_FILE = "state.safetensors", "frames.safetensors"
_FRAMES_FORMAT = ("msd-frames", "1")


def save_unfinished(folder: Path, settings: Settings, done: Done) -> None:
    """Write what `load_unfinished` reads; the state last, because it is what makes a run resumable."""
    frames = {f"{step:08}": torch.from_numpy(np.array(frame)) for step, frame in done.frames.items()}
    write_tensors(folder / FRAMES_FILE, frames, *_FRAMES_FORMAT, {})
    about = {"settings": json.dumps(settings.to_json()), "seconds": str(done.seconds)}
    save_state(done.state, folder / STATE, about)


def load_unfinished(folder: Path) -> tuple[Settings, Done]:
    """What `save_unfinished` wrote.

    Raises:
        ValueError: there is nothing to resume, or the state is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        raise ValueError(f"--resume: {str(folder)!r} holds no unfinished run; leave --resume out to start one")
    state = load_state(path)
    try:
        settings, seconds = json.loads(state.metadata["settings"]), float(state.metadata["seconds"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"--resume: {str(path)!r} does not say what it is a run of ({error}); allowed is a state that `msd "
            "distill` wrote. Use another copy"
        ) from error
    return Settings.from_json(settings), Done(state, _frames(folder, state.step), seconds)


def _frames(folder: Path, step: int) -> Frames:
    """The frames up to ``step``; none, and a word about it, when they cannot be read."""
    try:
        tensors, _ = read_tensors(folder / FRAMES_FILE, *_FRAMES_FORMAT)
        frames = {int(name): Image.fromarray(tensors[name].numpy()) for name in sorted(tensors)}
    except (ValueError, TypeError) as error:
        print(f"msd: the animation will lack its first frames: {error}", file=sys.stderr)
        return {}
    return {number: frame for number, frame in frames.items() if number <= step}


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
    """The run is finished: nothing is left to resume."""
    for name in (STATE, FRAMES_FILE):
        (folder / name).unlink(missing_ok=True)
