"""Where an optimisation stands: everything that the next step needs, so that a run can be saved and resumed.

    metadata = {"format": "msd-state", "version": "1", "step", "steps", "seed", "optimizer", "kind",
                "config", ...}
    tensors  = {"generator.*", "optimizer.*", "rng" (uint8), "history" (steps done, 5) float64}, and "first.*" of a
               masked run

A file holds nothing else, and is checked before its tensors are read: see `state_check`.

Model, prompt and encoder are not part of it: whoever resumes a run rebuilds them. A state is never changed: the next
step makes another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from .echo import shortened
from .generators.base import Generator, on_device
from .generators.files import build_generator, check_generator, generator_metadata
from .info import Info
from .layout import Layout, part
from .optimizers import check_memory
from .state_check import OWN, check_finite_memory, check_outside, check_streams, read_entries
from .tensorfile import read_tensors, write_tensors
from .validation import check_instance

FORMAT, VERSION = "msd-state", "1"


@dataclass(frozen=True, eq=False)
class State:
    """An optimisation after ``step`` of ``steps`` iterations.

    Attributes:
        step: iterations done.
        steps: iterations of the whole run, on which the annealing depends.
        seed: of the run's noise; one a member for a batch of generators.
        optimizer: name of the optimiser; empty before the first iteration.
        generator: with the parameters after the last iteration.
        optimizer_state: the optimiser's means, by name; empty for "gd".
        rng_state: of the run's random numbers, uint8; (B, *) for a batch of generators.
        history: an `Info` for every iteration done: of the gradient at x before its update.
        metadata: text that was saved along.
        target: where the last iteration pulled what it rendered, (B, C, h, w) in the pull's space: the picture that the
            model wants, for a preview. Not saved: None before an iteration of this process.
        first: the generator that a masked run began with, which it is held to outside of the mask; None for others.
    """

    step: int
    steps: int
    seed: int | tuple[int, ...]
    optimizer: str
    generator: Generator
    optimizer_state: Mapping[str, Tensor]
    rng_state: Tensor
    history: tuple[Info, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    target: Tensor | None = None
    first: Generator | None = None

    @property
    def info(self) -> Info:
        """The last iteration's `Info`.

        Raises:
            ValueError: before the first iteration.
        """
        if not self.history:
            raise ValueError("info: no iteration is done yet, so there is none. Ask after the first.")
        return self.history[-1]

    @property
    def evaluations(self) -> int:
        """Network rows evaluated so far."""
        return sum(info.evaluations for info in self.history)

    def to(self, device: torch.device) -> State:
        """The same with everything of it that the next step calculates with on ``device``; itself if it is there."""
        generator = on_device(self.generator, device)
        first = None if self.first is None else on_device(self.first, device)
        moved = {name: tensor.to(device) for name, tensor in self.optimizer_state.items()}
        target = None if self.target is None else self.target.to(device)
        same = generator is self.generator and first is self.first and target is self.target
        if same and all(moved[name] is tensor for name, tensor in self.optimizer_state.items()):
            return self
        return replace(self, generator=generator, first=first, optimizer_state=moved, target=target)

    def picture(self, height: int | None = None, width: int | None = None) -> Tensor:
        """The generator's picture (B, C, height, width) without gradient; an image is clamped to [0, 1].

        ``height`` and ``width`` are pixels, or cells of a latent; those of its canvas if they are left out.
        """
        own = self.generator.canvas.view
        frame = self.generator.frame(own.height if height is None else height, own.width if width is None else width)
        with torch.no_grad():
            picture = self.generator.render(frame)
        return picture.clamp(0, 1) if self.generator.space == "image" else picture


def save_state(state: State, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``state`` to ``path``, whole or not at all.

    Args:
        state: what `optimize` yielded.
        path: of the file, safetensors.
        metadata: further entries, text to text, such as the settings of the run; they replace the state's own.

    Raises:
        ValueError: if the file cannot be written, or ``metadata`` uses a name of the format's own.
    """
    check_instance("state", state, State, "a State, as `optimize` yields it")
    history = torch.tensor([_numbers(info) for info in state.history], dtype=torch.float64)
    tensors = {f"generator.{name}": tensor for name, tensor in state.generator.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state.optimizer_state.items()}
    if state.first is not None:
        tensors |= {f"first.{name}": tensor for name, tensor in state.first.state_dict().items()}
    tensors |= {"rng": state.rng_state, "history": history.reshape(-1, len(fields(Info)))}
    entries = {name: str(getattr(state, name)) for name in ("step", "steps", "optimizer")}
    entries["seed"] = json.dumps(state.seed)
    entries |= generator_metadata(state.generator)
    write_tensors(path, tensors, FORMAT, VERSION, entries, state.metadata if metadata is None else metadata)


def load_state(path: str | Path) -> State:
    """The state that `save_state` wrote, on the CPU.

    Raises:
        ValueError: if the file is missing, truncated, foreign, of another version or damaged.
    """
    tensors, metadata = read_tensors(path, FORMAT, VERSION, lambda layout, text: check_state(path, layout, text))
    generator = build_generator(path, part(tensors, "generator."), metadata)
    kept = part(tensors, "first.")
    first = build_generator(path, kept, metadata) if kept else None
    with _damage(path):
        entries = read_entries(metadata)
        state = State(
            step=entries.step,
            steps=entries.steps,
            seed=entries.seed,
            optimizer=entries.optimizer,
            generator=generator,
            optimizer_state=part(tensors, "optimizer."),
            rng_state=tensors["rng"],
            history=tuple(_info(row) for row in tensors["history"].tolist()),
            metadata={name: text for name, text in metadata.items() if name not in OWN},
            first=first,
        )
        check_streams(state.seed, state.rng_state, generator)
        check_memory(state.optimizer, dict(generator.named_parameters()), state.optimizer_state)
        check_finite_memory(state.optimizer_state)
    return state


def check_state(path: str | Path, layout: Layout, metadata: Mapping[str, str]) -> None:
    """Refuse what the header of a file says of a state that cannot be.

    Raises:
        ValueError: naming the file, the entry, and what is allowed.
    """
    check_generator(path, part(layout, "generator."), metadata)
    if kept := part(layout, "first."):
        check_generator(path, kept, metadata)
    with _damage(path):
        check_outside(layout, read_entries(metadata))


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    """Say of which file it is that something does not fit."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        reason = shortened(error).removesuffix(" Use another copy.")
        raise ValueError(f"path: the state in {str(path)!r} is damaged ({reason}). Use another copy.") from error


def _numbers(info: Info) -> list[float]:
    """The fields of ``info``, NaN for None."""
    return [math.nan if value is None else float(value) for value in astuple(info)]


def _info(row: list[float]) -> Info:
    """The inverse of `_numbers`."""
    evaluations, norm, rms, sigma, bandwidth = row
    known = [evaluations, norm, rms, *(0.0 if math.isnan(level) else level for level in (sigma, bandwidth))]
    if not all(0 <= number < math.inf for number in known) or evaluations != int(evaluations):
        raise ValueError(f"history: got the row {row}; allowed are numbers >= 0, the first a count. Use another copy.")
    return Info(int(evaluations), norm, rms, *(None if math.isnan(v) else v for v in (sigma, bandwidth)))
