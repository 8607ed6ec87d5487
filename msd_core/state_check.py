"""What a file of a state must be: its text entries, its tensors' names, types and shapes, its random numbers.

    step <= steps;  history: a row a step done;  rng: a state a source;  optimizer.NAME.mean, .square: as generator.NAME

All but the last two functions need the header of the file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .generators.base import Generator
from .info import Info
from .jsontext import entry, parse_json, parse_whole
from .layout import Entry, Layout, check_layout, part
from .optimizers import OPTIMIZERS
from .randomness import seeded
from .validation import check_choice, check_count

OWN = ("format", "version", "step", "steps", "seed", "optimizer", "kind", "config")
"""Names of the text entries that are the format's."""
OF_GENERATORS = ("generator.", "optimizer.", "first.")
"""Names of tensors that are a generator's, or of its parameters."""
MOST_STEPS = 10**9
"""Most iterations of a run whose state is read."""


@dataclass(frozen=True)
class Entries:
    """The text entries that are a state's alone."""

    step: int
    steps: int
    seed: int | tuple[int, ...]
    optimizer: str


def read_entries(metadata: Mapping[str, str]) -> Entries:
    """The text entries of a file.

    Raises:
        ValueError: one is missing, or not what a state has.
    """
    steps = parse_whole("steps", entry(metadata, "steps"), MOST_STEPS)
    step = parse_whole("step", entry(metadata, "step"), MOST_STEPS)
    if step > steps:
        raise ValueError(f"step: got {step} of {steps} steps; allowed are at most all. Use another copy.")
    seed = parse_json("seed", entry(metadata, "seed"))
    for one in seed if isinstance(seed, list) else [seed]:
        check_count("seed", one, minimum=0, maximum=2**64 - 1)
    optimizer = entry(metadata, "optimizer")
    if optimizer or step:
        check_choice("optimizer", optimizer, OPTIMIZERS)
    if optimizer and not step:
        raise ValueError(f"optimizer: got {optimizer!r} before the first step; allowed is none. Use another copy.")
    return Entries(step, steps, tuple(seed) if isinstance(seed, list) else seed, optimizer)


def check_outside(layout: Layout, entries: Entries) -> None:
    """Refuse tensors that are not a state's, by name, type and shape; those of the generator are left to its own check.

    Raises:
        ValueError: naming the tensor.
    """
    generator, memory = part(layout, "generator."), part(layout, "optimizer.")
    rest = {name: one for name, one in layout.items() if not name.startswith(OF_GENERATORS)}
    state = torch.Generator().get_state().shape
    rows = (len(entries.seed),) if isinstance(entries.seed, tuple) else ()
    history = Entry("float64", (entries.step, len(fields(Info))))
    check_layout(rest, {"rng": Entry("uint8", (*rows, *state)), "history": history})
    kinds = ("mean", "square") if entries.optimizer == "adam" else ()
    if kinds and not memory:
        raise ValueError("optimizer: its means are missing; allowed are those of the last step. Use another copy.")
    for name, one in memory.items():
        of, _, kind = name.rpartition(".")
        if kind not in kinds or of not in generator:
            raise ValueError(f"optimizer.{name[:80]}: is no memory of {entries.optimizer!r}. Use another copy.")
        if one != generator[of]:
            raise ValueError(f"optimizer.{name}: got {one}; allowed is {generator[of]}. Use another copy.")


def check_streams(seed: int | tuple[int, ...], rng_state: Tensor, generator: Generator) -> None:
    """Refuse random numbers that are not one source's, or not one a member of a batch, or that would draw NaN.

    Raises:
        ValueError: as said.
    """
    members = [row for row in generator.groups().values() if row is not None]
    if len(seed if isinstance(seed, tuple) else ()) != len(members):
        raise ValueError(f"seed: got {seed!r} for {len(members)} members of a batch; allowed is one a member.")
    for row in rng_state if rng_state.ndim > 1 else [rng_state]:
        source = seeded(0)
        source.set_state(row.clone())  # a view of another tensor crashes torch
        drawn = [torch.randn(1, generator=source, dtype=dtype) for dtype in (torch.float32, torch.float64)]
        if not all(torch.isfinite(one).all() for one in drawn):
            raise ValueError("rng: it draws NaN or infinity; allowed is the state of a source. Use another copy.")


def check_finite_memory(memory: Mapping[str, Tensor]) -> None:
    """Refuse an optimiser's means that are not finite, or squares below zero.

    Raises:
        ValueError: naming the tensor.
    """
    for name, tensor in memory.items():
        if not torch.isfinite(tensor).all() or (name.endswith(".square") and bool((tensor < 0).any())):
            raise ValueError(f"optimizer.{name}: holds numbers that no mean can be. Use another copy.")
