"""Where the time of a run goes, by part, and against an earlier measurement.

    network     evaluations of the model, guidance included
    encode      pictures to latents
    decode      latents to pictures
    render      the generator's pictures
    update      backward through the generator, and the encoder where it is pulled through, and the optimiser
    rest        all else: the estimator's arithmetic, random numbers, copies of the state

The first step is not counted: it pays for what is made once. On CUDA each part waits for the device, so that it is told
what it took; the whole is then a little slower than a run.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from .distil import distil
from .generators.base import Generator
from .model import Model, load_model
from .state import State
from .validation import check_count

PARTS = ("network", "encode", "decode", "render", "update")


@dataclass
class Stopwatch:
    """Seconds by part; a part that is asked for within another counts there alone."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    _inside: bool = False

    def around(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, timed."""

        def timed(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - as the call
            if self._inside:
                return call(*args, **options)
            self._inside, start = True, _now()
            try:
                return call(*args, **options)
            finally:
                self._inside = False
                self.seconds[part] += _now() - start

        return timed

    def reset(self) -> None:
        """Begin again at zero."""
        self.seconds = dict.fromkeys(PARTS, 0.0)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class _Timed:
    """A denoiser whose evaluations are timed, and those of what it gives."""

    def __init__(self, denoiser: Any, watch: Stopwatch) -> None:  # noqa: ANN401 - a Denoiser
        self._denoiser, self._watch = denoiser, watch

    def __call__(self, *args: Any) -> Any:  # noqa: ANN401 - as the denoiser
        return self._watch.around("network", self._denoiser)(*args)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the denoiser
        found = getattr(self._denoiser, name)
        if name == "uncond":
            return _Timed(found, self._watch)
        if name in ("with_cfg", "with_embedding"):
            return lambda *args: _Timed(found(*args), self._watch)
        return self._watch.around("network", found) if name == "parts" else found


class _TimedModel:
    """A model whose parts are timed."""

    def __init__(self, model: Model, watch: Stopwatch) -> None:
        self._model, self._watch = model, watch
        self.encode = None if model.encode is None else watch.around("encode", model.encode)
        self.decode = None if model.decode is None else watch.around("decode", model.decode)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the model
        return getattr(self._model, name)

    def denoiser(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as the model's
        """The model's, timed."""
        return _Timed(self._model.denoiser(*args, **options), self._watch)


@contextmanager
def _timed_generators(watch: Stopwatch) -> Iterator[None]:
    """All generators' renders, and the updates, timed."""
    loop = importlib.import_module(".optimize", __package__)  # the package's name of that is the function
    places = [(kind, "renderer") for kind in _below(Generator) if "renderer" in vars(kind)]
    before = [(owner, name, vars(owner)[name]) for owner, name in (*places, (loop, "_update"))]
    try:
        for owner, name, own in before:
            timed = watch.around("update", own) if owner is loop else _timed_renderer(own, watch)
            setattr(owner, name, timed)
        yield
    finally:
        for owner, name, own in before:
            setattr(owner, name, own)


def _timed_renderer(own: Callable[..., Any], watch: Stopwatch) -> Callable[..., Any]:
    def renderer(self: Generator, *args: Any) -> Callable[..., Any]:  # noqa: ANN401 - a view of its own kind
        return watch.around("render", own(self, *args))

    return renderer


def _below(kind: type) -> list[type]:
    """A class and all that are derived from it."""
    return [kind, *(other for child in kind.__subclasses__() for other in _below(child))]


@dataclass(frozen=True)
class Bench:
    """What ``steps`` steps took.

    Attributes:
        steps: iterations that are counted.
        evaluations: network rows of them.
        seconds: by part, ``rest`` among them; they sum to ``total``.
        total: seconds of all.
    """

    steps: int
    evaluations: int
    seconds: dict[str, float]
    total: float

    @property
    def overhead(self) -> float:
        """``rest`` as a share of what the parts took: 0.05 is the most that it should be."""
        return self.seconds["rest"] / max(self.total - self.seconds["rest"], 1e-12)


def bench(prompt: str, *, steps: int = 5, model: Model | None = None, **settings: Any) -> Bench:  # noqa: ANN401
    """Time ``steps`` steps of `distil` with these ``settings``, after one that is not counted.

    Raises:
        ValueError: as `distil`.
    """
    check_count("steps", steps)
    watch = Stopwatch()
    timed = _TimedModel(load_model() if model is None else model, watch)
    before, start = 0, 0.0
    last: State | None = None
    states = distil(prompt, model=timed, steps=steps + 1, **settings)  # pyright: ignore[reportArgumentType]
    with _timed_generators(watch):  # now that the generator's class is there
        for state in states:
            if last is None:
                watch.reset()
                before, start = state.evaluations, _now()
            last = state
        total = _now() - start
    assert last is not None  # noqa: S101 - there are at least two steps
    seconds = dict(watch.seconds)
    seconds["rest"] = total - sum(seconds.values())
    return Bench(last.step - 1, last.evaluations - before, seconds, total)
