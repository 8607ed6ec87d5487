"""From a prompt to a picture: the one place where model, preset, generator and pull are put together.

`distil` is the door for a script; `run` is what the command line, the comparison and the nodes call, each with its own
model and generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from .denoiser import Denoiser
from .distillation import Method
from .generators.base import Generator
from .generators.batch import Batch
from .generators.registry import generator_for_size
from .model import Model, load_model
from .optimize import ByView, optimize, start
from .preset import Preset, preset_of
from .pull import ImagePull, LatentPull, Masked, Pull, Pulling
from .settings import build
from .state import State
from .validation import check_count

Prompt = Any  # what the model's ``denoiser`` takes: a text, or a list of them, one a row


def distil(
    prompt: str | list[str] | Callable[[Any], str],
    *,
    negative: str = "",
    method: str | Method | Preset = "msd",
    generator: str | Generator = "fourier",
    size: tuple[int, int] | None = None,
    n: int = 1,
    seed: int = 0,
    model: Model | str | Path | None = None,
    mask: Tensor | None = None,
    **settings: Any,  # noqa: ANN401 - of the method and the run, by their plain names
) -> Iterator[State]:
    """Distil ``prompt`` into a generator; yields the `State` after each step.

        for state in distil("a red circle on a blue background", estimator="split", steps=60):
            print(state.step, state.info.norm)
        picture = state.picture(768, 1024)

    Args:
        prompt: what to draw; a list of n prompts, one a picture; or a function from the view (of each picture) to a
            prompt.
        negative: what not to draw.
        method: name of a method, a method with its settings, or a whole `Preset`.
        generator: kind of the generator, or one to start from.
        size: width and height in pixels to optimise at; the model's own if left out, the generator's if one is given.
        n: pictures to optimise side by side, with seeds ``seed``, ``seed + 1``, ...
        seed: of the generator and the noise.
        model: the model, or its file; the demo model if left out.
        mask: (H, W) in [0, 1]: where the picture may change.
        settings: of the method and the run, by the names of the command line's flags: ``steps``, ``cfg``, ...

    Raises:
        ValueError: for a name, a value or a combination that is not allowed; from a step as `optimize`.
    """
    known: Model = load_model(model) if model is None or isinstance(model, (str, Path)) else model
    preset = preset_with(method, settings)
    count = _count(n, prompt)
    if isinstance(generator, str):
        width, height = size or (known.side, known.side)
        made = [
            generator_for_size(generator, width, height, seed=seed + i, channels=known.channels, cell=known.cell)
            for i in range(count)
        ]
        generator = Batch(made) if count > 1 else made[0]
    elif size is not None:
        raise ValueError(f"size: got {size} beside a generator, which has its own; allowed is None. Leave it out.")
    elif count not in (1, generator.rows):
        raise ValueError(
            f"n: got {count} pictures for a generator of {generator.rows}; allowed is as many as it has. Leave n out, "
            "or pass a Batch."
        )
    state = start(generator, steps=preset.steps, seed=seed)
    return run(state, preset, known, prompt, negative, mask=mask)


def _count(n: int, prompt: Prompt) -> int:
    """How many pictures: n, or one a prompt of a list.

    Raises:
        ValueError: for fewer than one, or both at odds.
    """
    check_count("n", n)
    if not isinstance(prompt, list) or len(prompt) == 1:
        return n
    if not prompt or n not in (1, len(prompt)):
        raise ValueError(f"prompt: got {len(prompt)} of them with n {n}; allowed is one a picture. Leave n out.")
    return len(prompt)


def preset_with(method: str | Method | Preset, settings: dict[str, Any]) -> Preset:
    """The preset of ``method``, or that preset itself, with ``settings`` changed by plain name."""
    if isinstance(method, Preset):
        return build(method, settings)
    return preset_of(method, **settings)


def run(
    state: State, preset: Preset, model: Model, prompt: Prompt, negative: Prompt = "", *, mask: Tensor | None = None
) -> Iterator[State]:
    """Go on from ``state`` with everything that ``preset`` says; yields the `State` after each step.

    Args:
        state: from `start` with the preset's steps, or of a run to resume.
        preset: method, guidance, optimiser, pull and where to stop.
        model: gives denoiser, encoder and decoder.
        prompt, negative: as the model takes them; a function from the view to a prompt gives a prompt by view.
        mask: as in `distil`.

    Raises:
        ValueError: for a combination that is not allowed; from a step as `optimize`.
    """
    return optimize(
        state,
        preset.method,
        _denoiser(model, prompt, negative, preset.cfg),
        pull=pull_for(state.generator, model, preset.pull, mask),
        optimizer=preset.optimizer_config,
        min_bandwidth=preset.min_bandwidth or None,
        tolerance=preset.tolerance,
    )


def _denoiser(model: Model, prompt: Prompt, negative: Prompt, cfg: float) -> Denoiser | ByView:
    if not callable(prompt):
        return model.denoiser(prompt, negative, cfg)
    prepared: dict[Any, Denoiser] = {}

    def pick(view: Any) -> Denoiser:  # noqa: ANN401 - a view of the generator's own kind, or a list of a batch's
        words = [prompt(part) for part in view] if isinstance(view, list) else prompt(view)
        key = tuple(words) if isinstance(words, list) else words
        if key not in prepared:
            prepared[key] = model.denoiser(words, negative, cfg)
        return prepared[key]

    return ByView(pick)


def pull_for(generator: Generator, model: Model, pull: str, mask: Tensor | None = None) -> Pulling:
    """The pull called ``pull`` ("image" or "latent") for this generator and model; x itself where nothing is encoded.

    Raises:
        ValueError: "latent" with a model whose encoder cannot be differentiated.
    """
    made: Pulling
    if generator.space != "image" or model.encode is None or model.decode is None:
        made = Pull()
    elif pull == "image":
        made = ImagePull(model.encode, model.decode)
    elif model.differentiable:
        made = LatentPull(model.encode)
    else:
        raise ValueError(
            "pull: got 'latent', and this model's encoder cannot be differentiated; allowed is 'image'. Set "
            "pull='image'."
        )
    return made if mask is None else Masked(made, mask)
