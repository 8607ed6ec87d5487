"""The folder of a run: its results, and while it is unfinished what `--resume` needs.

    picture.png            the generator, drawn at PICTURE_SIZE
    generator.safetensors  its parameters
    metrics.json           settings, versions, totals, every step
    plot.png               λ (or σ) and the norm of the gradient
    animation.webp         the generator over the steps
    state.safetensors, frames.safetensors     only after Ctrl-C: to go on from

Two runs of equal settings on one machine write equal files to the bit, but for the entry "timing" of metrics.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..generators import save_generator
from ..plot import history_curves, plot_curves
from ..state import State, load_state, save_state
from ..tensorfile import read_tensors, write_tensors
from .pictures import Decode, picture_of
from .settings import Settings

PICTURE_SIZE = 512
FRAME_SIZE, FRAMES, FRAME_MILLISECONDS = 256, 48, 80
STATE, FRAMES_FILE = "state.safetensors", "frames.safetensors"
_FRAMES_FORMAT = ("msd-frames", "1")

Frames = dict[int, Image.Image]


@dataclass(frozen=True)
class Done:
    """What a run has so far: its state, the animation's frames by step, and the seconds it took."""

    state: State
    frames: Frames
    seconds: float


def is_frame(step: int, steps: int) -> bool:
    """Whether the picture after ``step`` (from 1) belongs to the animation: at most `FRAMES`, the last one included."""
    return step == steps or step % -(-steps // FRAMES) == 0


def frame_of(settings: Settings, state: State, decode: Decode | None) -> Image.Image:
    """A frame of the animation."""
    return picture_of(state.generator, *scaled(settings.size, FRAME_SIZE), decode)


def scaled(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height of the same proportions whose longer side is ``longest``."""
    width, height = (max(1, round(side * longest / max(size))) for side in size)
    return width, height


def write_results(folder: Path, settings: Settings, done: Done, decode: Decode | None, *, finished: bool) -> None:
    """Write the five files, replacing those that are there."""
    state = done.state
    picture_of(state.generator, *scaled(settings.size, PICTURE_SIZE), decode).save(folder / "picture.png")
    about = {"prompt": settings.prompt, "method": settings.method, "size": "{}x{}".format(*settings.size)}
    save_generator(state.generator, folder / "generator.safetensors", about)
    metrics = json.dumps(metrics_of(settings, done, finished=finished), indent=1, ensure_ascii=False)
    (folder / "metrics.json").write_text(metrics + "\n", encoding="utf-8")
    plot_curves(history_curves(state.history)).save(folder / "plot.png")
    first, *rest = done.frames.values() or [frame_of(settings, state, decode)]
    movie = {"save_all": True, "append_images": rest, "duration": FRAME_MILLISECONDS, "loop": 0, "quality": 90}
    first.save(folder / "animation.webp", **movie)


def metrics_of(settings: Settings, done: Done, *, finished: bool) -> dict[str, Any]:
    """Content of metrics.json."""
    packages = ("mean-shift-distillation", "torch", "numpy", "pillow", "safetensors")
    return {
        "finished": finished,
        "settings": settings.to_json(),
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages},
        "evaluations": done.state.evaluations,
        "steps": [{"step": step, **asdict(info)} for step, info in enumerate(done.state.history, 1)],
        "timing": {"seconds": round(done.seconds, 3)},
    }


def save_unfinished(folder: Path, settings: Settings, done: Done) -> None:
    """Write what `load_unfinished` reads; the state last, because it is what makes a run resumable."""
    frames = {f"{step:08}": torch.from_numpy(np.array(frame)) for step, frame in done.frames.items()}
    write_tensors(folder / FRAMES_FILE, frames, *_FRAMES_FORMAT, {})
    about = {"settings": json.dumps(settings.to_json()), "seconds": str(done.seconds)}
    save_state(done.state, folder / STATE, about)


def load_unfinished(folder: Path) -> tuple[Settings, Done]:
    """What `save_unfinished` wrote.

    Raises:
        ValueError: there is nothing to resume, or a file is damaged.
    """
    if not (folder / STATE).is_file():
        raise ValueError(f"--resume: {str(folder)!r} holds no unfinished run; leave --resume out to start one")
    state = load_state(folder / STATE)
    tensors, _ = read_tensors(folder / FRAMES_FILE, *_FRAMES_FORMAT)
    frames = {int(name): Image.fromarray(tensors[name].numpy()) for name in sorted(tensors)}
    settings = Settings.from_json(json.loads(state.metadata["settings"]))
    return settings, Done(state, frames, float(state.metadata["seconds"]))


def check_no_unfinished(folder: Path) -> None:
    """Refuse to start over in the folder of an unfinished run.

    Raises:
        ValueError: there is one.
    """
    if (folder / STATE).exists():
        raise ValueError(
            f"--out: {str(folder)!r} holds an unfinished run; add --resume to go on with it, name another folder, or "
            f"delete {str(folder / STATE)!r}"
        )


def remove_unfinished(folder: Path) -> None:
    """The run is finished: nothing is left to resume."""
    for name in (STATE, FRAMES_FILE):
        (folder / name).unlink(missing_ok=True)
