"""Ways to change one word of a picture: DreamSampler, inversions, distillations.

A way is a frozen dataclass of JSON values, called as

    way(model, picture, words, target, rows, rng)

with the picture (1, 3, H, W), the caption that it has and the one that it shall have. It takes as many whole steps as
come nearest to ``rows`` network rows, and tells how many it took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ...demo.model import DemoModel
from ...denoiser import RowCounter
from ...distil import distil
from ...generators import Latent
from ...inversion import invert
from ...inversion.direct import Direct
from ...inversion.negative_prompt import negative_prompt
from ...inversion.resample import resample
from ...manipulation import Manipulated, edit
from ...sampling import chain_levels

LEVELS = 4
"""Of the walk to a target of the mean shift, the default: an evaluation each."""


class Way(Protocol):
    """The call above."""

    def __call__(
        self, model: DemoModel, picture: Tensor, words: str, target: str, rows: int, rng: torch.Generator
    ) -> Manipulated:
        """The picture as ``target`` has it."""
        ...


def rows_of(cfg: float) -> int:
    """Of one evaluation: both prompts are asked unless ``cfg`` is 1."""
    return 1 if cfg == 1 else 2


def steps_within(rows: float, a_step: int) -> int:
    """The number of steps of ``a_step`` rows that comes nearest to ``rows``."""
    return max(1, round(rows / a_step))


@dataclass(frozen=True)
class Nothing:
    """No edit: encoded and decoded."""

    def __call__(
        self, model: DemoModel, picture: Tensor, words: str, target: str, rows: int, rng: torch.Generator
    ) -> Manipulated:
        return Manipulated(model.decode(model.encode(picture)), 0, None)


@dataclass(frozen=True)
class Dream:
    """`edit`: DreamSampler's, by gamma, for which the caption is unknown; with it, where ``strength`` is None."""

    strength: float | None = None

    def __call__(
        self, model: DemoModel, picture: Tensor, words: str, target: str, rows: int, rng: torch.Generator
    ) -> Manipulated:
        if self.strength is None:
            return edit(picture, target, words, model=model, steps=steps_within(rows, 2))
        return edit(picture, target, model=model, strength=self.strength, steps=steps_within(rows, 3))


@dataclass(frozen=True)
class Swapped:
    """Inverted under the caption at cfg 1, and brought back with the word changed.

    Attributes:
        inversion: by name; "negative-prompt" is `uni-inv` with the caption in the place of the empty prompt.
        cfg: of the way back.
        start: fraction of the chain that the inversion climbs; less of it keeps more of the picture.
    """

    inversion: str
    cfg: float = 1.0
    start: float = 1.0

    def latent(
        self, model: DemoModel, picture: Tensor, words: str, target: str, rows: float, rng: torch.Generator
    ) -> tuple[Tensor, int]:
        """The edited latent, and the rows it took."""
        kind: Any = {"negative-prompt": "uni-inv"}.get(self.inversion, self.inversion)
        source, new = model.denoiser(words), model.denoiser(target, "", self.cfg)
        a_step = 1 + rows_of(self.cfg)
        if self.inversion == "direct":
            kind = Direct(inversion_cfg=None if self.cfg == 1 else 1.0)
            source, a_step = source.with_cfg(self.cfg), a_step + (0 if self.cfg == 1 else rows_of(self.cfg))
        back = negative_prompt(source, new, self.cfg) if self.inversion == "negative-prompt" else new
        steps = steps_within(rows, a_step)
        sigmas = chain_levels(source, steps, self.start)
        trajectory, down = invert(model.encode(picture), source, sigmas, kind, rng), RowCounter(back)
        return resample(trajectory, down), trajectory.evaluations + down.rows

    def __call__(
        self, model: DemoModel, picture: Tensor, words: str, target: str, rows: int, rng: torch.Generator
    ) -> Manipulated:
        x, spent = self.latent(model, picture, words, target, rows, rng)
        return Manipulated(model.decode(x), spent, None)


@dataclass(frozen=True)
class Distilled:
    """The picture's latent as a generator, moved by a distillation towards the new caption.

    Attributes:
        method: by name; those that edit get the picture and its caption as their source.
        cfg: guidance.
        settings: of the method and the run, by plain name.
        first: an edit that it starts from instead of the picture, with half of the rows.
    """

    method: str
    cfg: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    first: Swapped | None = None

    def __call__(
        self, model: DemoModel, picture: Tensor, words: str, target: str, rows: int, rng: torch.Generator
    ) -> Manipulated:
        x, spent = model.encode(picture), 0
        if self.first is not None:
            x, spent = self.first.latent(model, picture, words, target, rows / 2, rng)
        generator = Latent(*x.shape[1:], cell=model.cell)
        with torch.no_grad():
            generator.values.copy_(x)
        given: dict[str, Any] = {"source": picture, "source_prompt": words}
        evaluations = 2
        if self.method == "msd":
            given, evaluations = {"estimator": "exact", "solver_steps": LEVELS, "inner_steps": 1}, LEVELS
        given["steps"] = steps_within(rows - spent, evaluations * rows_of(self.cfg))
        seed = rng.initial_seed()
        run = distil(
            target,
            method=self.method,
            generator=generator,
            model=model,
            cfg=self.cfg,
            seed=seed,
            **given,
            **self.settings,
        )
        *_, state = run
        with torch.no_grad():
            made = model.decode(state.generator.render(generator.canvas.view))
        return Manipulated(made, spent + state.evaluations, None)
