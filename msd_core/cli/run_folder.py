"""The results in the folder of a run.

    picture.png            the generator, drawn at PICTURE_SIZE
    generator.safetensors  its parameters
    metrics.json           settings, versions, totals, every step
    plot.png               λ (or σ) and the norm of the gradient
    animation.webp         the generator over the steps
    ...                    what the kind of generator is used for elsewhere (`Generator.files`): picture.svg

All of them are written under other names and put in place together. Two runs of equal settings on one machine write
equal files to the bit, but for the entry "timing" of metrics.json.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..atomic import replacing
from ..generators import GENERATORS, save_generator
from ..plot import history_curves, plot_curves
from ..state import State
from .arguments import scaled
from .pictures import Decode, picture_of
from .settings import Settings

PICTURE_SIZE = 512
FRAME_SIZE, FRAMES, FRAME_MILLISECONDS = 256, 48, 80
RESULTS = ("picture.png", "generator.safetensors", "metrics.json", "plot.png", "animation.webp")


def every_result() -> tuple[str, ...]:
    """Names of the files that a run can write, with one kind of generator or another."""
    kinds = (name for kind in GENERATORS.values() for name in getattr(kind, "files", ()))
    return tuple(dict.fromkeys((*RESULTS, *kinds)))


Frames = dict[int, Image.Image]


@dataclass(frozen=True)
class Done:
    """What a run has so far: its state, the animation's frames by step, and the seconds it took.

    ``before`` are the evaluations that the start took, before the first step.
    """

    state: State
    frames: Frames
    seconds: float
    before: int = 0

    @property
    def evaluations(self) -> int:
        """Network rows in all."""
        return self.before + self.state.evaluations


def is_frame(step: int, steps: int) -> bool:
    """Whether the picture after ``step`` (from 1) belongs to the animation: at most `FRAMES`, the last one included."""
    return step == steps or step % -(-steps // FRAMES) == 0


def frame_of(settings: Settings, state: State, decode: Decode | None) -> Image.Image:
    """A frame of the animation."""
    return picture_of(state.generator, *scaled(settings.size, FRAME_SIZE), decode)


def write_results(
    folder: Path, settings: Settings, done: Done, decode: Decode | None, *, finished: bool, warning: str = ""
) -> None:
    """Write the files, replacing those that are there; when one cannot be written, none is replaced.

    ``warning`` is what speaks against the result of a finished run.

    Raises:
        OSError, ValueError: a file cannot be written.
    """
    state = done.state
    about = {"prompt": settings.prompt, "method": settings.method, "size": "{}x{}".format(*settings.size)}
    metrics = json.dumps(metrics_of(settings, done, finished=finished, warning=warning), indent=1, ensure_ascii=False)
    first, *rest = done.frames.values() or [frame_of(settings, state, decode)]
    movie = {"save_all": True, "append_images": rest, "duration": FRAME_MILLISECONDS, "loop": 0, "quality": 90}
    with contextlib.ExitStack() as stack:
        picture, generator, numbers, plot, animation = (stack.enter_context(replacing(folder / n)) for n in RESULTS)
        picture_of(state.generator, *scaled(settings.size, PICTURE_SIZE), decode).save(picture)
        save_generator(state.generator, generator, about)
        numbers.write_text(metrics + "\n", encoding="utf-8")
        plot_curves(history_curves(state.history)).save(plot)
        first.save(animation, **movie)
        for name in state.generator.files:
            stack.enter_context(replacing(folder / name)).write_bytes(state.generator.export(name))


def metrics_of(settings: Settings, done: Done, *, finished: bool, warning: str = "") -> dict[str, Any]:
    """Content of metrics.json."""
    packages = ("mean-shift-distillation", "torch", "numpy", "pillow", "safetensors")
    return {
        "finished": finished,
        "warning": warning,
        "settings": settings.to_json(),
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages},
        "evaluations": done.evaluations,
        "steps": [{"step": step, **asdict(info)} for step, info in enumerate(done.state.history, 1)],
        "timing": {"seconds": round(done.seconds, 3)},
    }
