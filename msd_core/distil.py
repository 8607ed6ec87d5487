"""From a prompt to a picture: the one place where model, preset, generator and pull are put together.

`distil` is the door for a script; `run` is what the command line, the comparison and the nodes call, each with its own
model and generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .blended import blended
from .companions import Source, with_companions
from .denoiser import Denoiser, at_least_float32
from .distillation import Method
from .distillation.base import needs_of
from .echo import shown
from .finite import check_finite
from .generators.base import Generator, on_device
from .generators.batch import Batch
from .generators.fit import fit
from .generators.picture import check_range, on_canvas
from .generators.registry import GENERATORS, checked_options, generator_for_size, options_of
from .measurement import Observation
from .model import Model, check_model, check_prompt, device_of, load_model
from .named import NAMED, preset_at
from .optimize import ByView, optimize
from .optimize import start as first_state
from .preset import Preset
from .pull import ImagePull, LatentPull, Masked, Measured, Pull, Pulling
from .state import State
from .units import units_of
from .validation import as_finite, as_floating, check_choice, check_count, check_instance, check_seed
from .warm import sample

VIEWS_KEPT = 64
"""Sets of prompts by view whose denoisers are kept."""
Prompt = Any  # what the model's ``denoiser`` takes: a text, or a list of them, one a row


def distil(
    prompt: str | list[str] | Callable[[Any], str],
    *,
    negative: str = "",
    method: str | Method | Preset = "msd",
    preset: str | None = None,
    generator: str | Generator = "fourier",
    size: tuple[int, int] | None = None,
    n: int = 1,
    seed: int = 0,
    model: Model | str | Path | None = None,
    start: Tensor | str | None = None,
    mask: Tensor | None = None,
    source: Tensor | None = None,
    source_prompt: str | list[str] | None = None,
    observation: Observation | None = None,
    **settings: Any,  # noqa: ANN401 - of the method and the run, by their plain names
) -> Iterator[State]:
    """Distil ``prompt`` into a generator; yields the `State` after each step.

        for state in distil("a red circle on a blue background", estimator="split", steps=60):
            print(state.step, state.info.norm)
        picture = state.picture(768, 1024)

    Args:
        prompt: what to draw; a list of n prompts, one a picture; or a function from the view (of each picture) to a
            prompt, or to several with a share each, {prompt: share}. Names in braces are filled in by the view, where
            the generator knows them (`Generator.words`).
        negative: what not to draw.
        method: name of a method, a method with its settings, or a whole `Preset`.
        preset: "fast", "balanced", "faithful" or "paper": settings of mean-shift distillation by name, in the model's
            own units at the size of the picture (`named`). What is given beside it wins. "faithful" begins with a
            sample, unless there is a ``start``.
        generator: kind of the generator, or one to start from.
        size: width and height in pixels to optimise at; the model's own if left out, the generator's if one is given.
        n: pictures to optimise side by side, with seeds ``seed``, ``seed + 1``, ...
        seed: of the generator and the noise.
        model: the model, or its file; the demo model if left out.
        start: (1, 3, H, W) in [0, 1], or one a picture: what to begin with. The generator is fitted to it before the
            first step, as `fit` does. "sample": a sample of the prompt, `warm.STEPS` rows a picture (twice as many with
            cfg) that no state counts.
        mask: (H, W) in [0, 1]: where the picture may change.
        source: (1, 3, H, W) in [0, 1], or one a picture: what an edit starts from, for a method that needs it. The run
            begins where the generator does; ``start`` begins it with the source.
        source_prompt: what describes the source, for the same methods; one, or one a picture.
        observation: of a picture (1, 3, H, W) of the canvas in [0, 1]: what is known of it, which the result agrees
            with. The picture is restored in the generator's own terms: as vector graphics, say.
        settings: of the method, the run and the kind of the generator, by the names of the command line's flags:
            ``steps``, ``cfg``, ``paths``, ...

    Raises:
        ValueError: for a name, a value or a combination that is not allowed; from a step as `optimize`.
    """
    known: Model = load_model(model) if model is None or isinstance(model, (str, Path)) else model
    check_prompt(prompt, negative)
    check_model(known)
    own = options_of(generator) if isinstance(generator, str) else {}
    count = _count(n, prompt)
    check_seed("seed", seed)
    width, height = _size_of(generator, size, known)
    changes = {name: value for name, value in settings.items() if name not in own}
    kind = GENERATORS[generator] if isinstance(generator, str) else generator
    chosen = preset_at(lambda: units_of(known, width, height), method, changes, kind, preset)
    if isinstance(generator, str):
        options = checked_options(generator, {name: value for name, value in settings.items() if name in own})
        options |= {"channels": known.channels, "cell": known.cell}
        made = [generator_for_size(generator, width, height, seed=seed + i, **options) for i in range(count)]
        generator = on_device(Batch(made) if count > 1 else made[0], device_of(known))
    elif count not in (1, generator.rows):
        raise ValueError(
            f"n: got {count} pictures for a generator of {generator.rows}; allowed is as many as it has. Leave n out, "
            "or pass a Batch."
        )
    if start is None and preset is not None:
        start = NAMED[preset].start or None
    if isinstance(start, str):
        start = _sampled(start, generator, known, prompt, negative, chosen.cfg, seed)
    if start is not None:
        generator = fitted(generator, known, start)
    state = first_state(generator, steps=chosen.steps, seed=seed)
    sources = {"source": source, "source_prompt": source_prompt}
    return run(state, chosen, known, prompt, negative, mask=mask, observation=observation, **sources)


def fitted(generator: Generator, model: Model, start: Tensor) -> Generator:
    """``generator`` fitted to ``start`` (1, 3, H, W), or each of its pictures to a row of it, (B, 3, H, W).

    On the model's device, wherever it was.

    Raises:
        ValueError: as `fit`; for another number of pictures.
    """
    start, generator = as_floating("start", start), on_device(generator, device_of(model))
    members = [generator[i] for i in range(generator.rows)] if isinstance(generator, Batch) else [generator]
    if start.shape[0] not in (1, len(members)):
        raise ValueError(
            f"start: got {shown(start)} for {len(members)} pictures; allowed is (1, 3, H, W), or one a picture. Stack "
            "them along the first dimension."
        )
    made = []
    for i, member in enumerate(members):
        picture = on_canvas("start", start[i % len(start)][None], member)
        *_, last = fit(member, picture, encode=model.encode)
        made.append(last.generator)
    return Batch(made) if isinstance(generator, Batch) else made[0]


def _sampled(
    start: str, generator: Generator, model: Model, prompt: Prompt, negative: str, cfg: float, seed: int
) -> Tensor:
    """The pictures to start from, one for each of the generator's, when ``start`` names where they come from."""
    check_choice("start", start, ("sample",))
    if callable(prompt):
        raise ValueError(
            "start: got 'sample' with a prompt by view; allowed is a text, or one a picture, since a sample has no "
            "view. Sample a picture yourself, and pass it."
        )
    width, height = generator.canvas.width, generator.canvas.height
    made = sample(model, prompt, negative, cfg=cfg, width=width, height=height, n=generator.rows, seed=seed)
    return made.pictures


def _size_of(generator: str | Generator, size: tuple[int, int] | None, model: Model) -> tuple[int, int]:
    """Width and height to optimise at: the generator's own, if one is given.

    Raises:
        ValueError: it is none, or has a size of its own beside ``size``.
    """
    if isinstance(generator, str):
        return _sides(size, model)
    if not isinstance(generator, Generator):
        raise ValueError(f"generator: got {shown(generator)}; allowed is a Generator, or the name of a kind. Pass one.")
    if size is not None:
        raise ValueError(
            f"size: got {shown(size)} beside a generator, which has its own; allowed is None. Leave it out."
        )
    return generator.canvas.width, generator.canvas.height


def _sides(size: tuple[int, int] | None, model: Model) -> tuple[int, int]:
    """Width and height: those of ``size``, or the model's own."""
    if size is None:
        return model.side, model.side
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size: got {shown(size)}; allowed is (width, height) in pixels. Pass two whole numbers.")
    for name, side in zip(("width", "height"), size, strict=True):
        check_count(name, side)
    return size[0], size[1]


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


def run(
    state: State,
    preset: Preset,
    model: Model,
    prompt: Prompt,
    negative: Prompt = "",
    *,
    mask: Tensor | None = None,
    source: Tensor | None = None,
    source_prompt: Prompt = None,
    observation: Observation | None = None,
) -> Iterator[State]:
    """Go on from ``state`` with everything that ``preset`` says; yields the `State` after each step.

    Args:
        state: from `start` with the preset's steps, or of a run to resume; it goes on where the model computes.
        preset: method, guidance, optimiser, pull and where to stop.
        model: gives denoiser, encoder and decoder.
        prompt, negative: as the model takes them; a function from the view to a prompt, or to {prompt: share}, gives a
            prompt by view.
        mask: as in `distil`.
        source: as in `distil`; what the generator renders where that is no picture and the model has no encoder.
        source_prompt: as the model takes it.
        observation: as in `distil`.

    Raises:
        ValueError: for a combination that is not allowed; from a step as `optimize`.
    """
    check_model(model)
    check_instance("state", state, State, "a State. Make one with start(generator, steps=...)")
    check_instance("preset", preset, Preset, "a Preset. Make one with preset_of(method)")
    state = state.to(device_of(model))
    pull = pull_for(state.generator, model, preset.pull, mask, observation)
    needs = needs_of(preset.method)
    _check_needs(preset, source, source_prompt, negative)
    _check_one_view(state.generator, mask=mask, source=source, observation=observation)
    prompt = _by_view(prompt, state.generator)
    edited = None
    if source is not None:
        source = as_finite("source", source).float().to(device_of(model))
        x = encoded_source(state.generator, model, source)
        confined = pull.mask if isinstance(pull, Masked) else None
        edited = Source(x, model.denoiser(source_prompt, negative, preset.cfg), confined)

    def prepare(words: Prompt) -> Denoiser:
        if "negative" in needs:
            alone = model.denoiser(negative, "", 1.0)
            return with_companions(model.denoiser(words, "", preset.cfg), negative=alone)
        denoiser = model.denoiser(words, negative, preset.cfg)
        return denoiser if edited is None else with_companions(denoiser, source=edited)

    return optimize(
        state,
        preset.method,
        _denoiser(prompt, prepare),
        pull=pull,
        optimizer=preset.optimizer_config,
        min_bandwidth=preset.min_bandwidth or None,
        tolerance=preset.tolerance,
        inner_steps=preset.inner_steps,
    )


def _check_one_view(generator: Generator, **pictures: object) -> None:
    """Refuse ``pictures`` for a generator that is seen from several sides: one would be taken for all of them."""
    for name, value in pictures.items():
        if value is not None and generator.views != generator.rows:
            raise ValueError(
                f"{name}: got one for a generator of the kind {generator.kind!r}, which is seen from several sides; "
                "allowed is None there, since a picture shows one side. Leave it out."
            )


def _check_needs(preset: Preset, source: Tensor | None, source_prompt: Prompt, negative: Prompt) -> None:
    """Refuse a run without what its method needs, or with what it has no use for."""
    needs, name = needs_of(preset.method), type(preset.method).__name__
    for argument, value in (("source", source), ("source_prompt", source_prompt)):
        if "source" in needs and value is None:
            raise ValueError(
                f"{argument}: got None with the method {name}, which edits a picture; allowed are a picture and the "
                "prompt that describes it. Pass source and source_prompt."
            )
        if "source" not in needs and value is not None:
            raise ValueError(
                f"{argument}: got one with the method {name}, which has no use for it; allowed is None there. Leave it "
                "out, or choose a method that edits: dds, pds or lusd."
            )
    if callable(source_prompt):
        raise ValueError(
            "source_prompt: got a function; allowed is a prompt, or one a picture, since the source has one view. "
            "Pass the prompt itself."
        )
    if "negative" in needs and negative is None:
        raise ValueError(
            f"negative: got None with the method {name}, which asks the model under it alone; allowed is a prompt that "
            "the model takes. Pass one."
        )


def encoded_source(generator: Generator, model: Model, source: Tensor) -> Tensor:
    """x_src (B, *): ``source`` as the pull encodes the generator's picture.

    Raises:
        ValueError: it is not of the size of the generator's canvas, not one picture or one a picture of it, or a
            picture with numbers outside of [0, 1].
    """
    picture = generator.space != "points" and model.encode is not None
    wanted = (3, generator.canvas.height, generator.canvas.width) if picture else tuple(source.shape[1:])
    if source.ndim < 2 or tuple(source.shape[1:]) != wanted or source.shape[0] not in (1, generator.rows):
        raise ValueError(
            f"source: got shape {tuple(source.shape)}; allowed is {(1, *wanted)}, or one a picture: the canvas of the "
            "generator. Resize it."
        )
    if picture:
        check_range("source", source)
    if model.encode is None or not picture:
        return source
    with torch.no_grad():
        x = at_least_float32(model.encode(source))
    check_finite("encode", [x], "source", "Run the encoder in float32.")
    return x


def _by_view(prompt: Prompt, generator: Generator) -> Prompt:
    """A prompt with names in braces as a function of the view, where the generator knows them; any other as it is."""
    one = generator[0] if isinstance(generator, Batch) else generator
    known = one.words(one.frame(one.canvas.view.height, one.canvas.view.width))
    named = [name for name in known if isinstance(prompt, str) and f"{{{name}}}" in prompt]

    def said(view: Any) -> dict[str, float]:  # noqa: ANN401 - a view of the generator's own kind
        found: dict[str, float] = {}
        for share, words in one.shares(view):
            text = prompt
            for name in named:
                text = text.replace(f"{{{name}}}", words[name])
            found[text] = found.get(text, 0.0) + share
        return found

    return said if named else prompt


def _denoiser(prompt: Prompt, prepare: Callable[[Prompt], Denoiser]) -> Denoiser | ByView:
    """That of a prompt; of a function of the view, which gives a prompt or several with a share each, one a view."""
    if not callable(prompt):
        return prepare(prompt)

    @lru_cache(maxsize=VIEWS_KEPT)
    def prepared(words: Prompt, several: bool) -> Denoiser:
        return prepare(list(words) if several else words)

    def pick(view: Any) -> Denoiser:  # noqa: ANN401 - a view of the generator's own kind, or a list of several
        several = isinstance(view, list)
        told = [prompt(part) for part in (view if several else [view])]
        shares = [list(one.items()) if isinstance(one, Mapping) else [(one, 1.0)] for one in told]
        most = range(max(map(len, shares)))
        padded = [[*known, *[(known[0][0], 0.0)] * (len(most) - len(known))] for known in shares]
        layers = [tuple(known[k][0] for known in padded) for k in most]
        denoisers = [prepared(layer if several else layer[0], several) for layer in layers]
        return blended(denoisers, [[share for _, share in known] for known in padded])

    return ByView(pick)


def pull_for(
    generator: Generator,
    model: Model,
    pull: str,
    mask: Tensor | None = None,
    observation: Observation | None = None,
) -> Pulling:
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
    if observation is not None:
        made = Measured(made, observation)
    return made if mask is None else Masked(made, mask)
