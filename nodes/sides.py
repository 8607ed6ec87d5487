"""Prompts by view: a CONDITIONING each entry of which is for a side of an object, or for a ground of a sticker.

An entry is marked with the name of its side and the degrees over which that goes over into the next; the host carries
and prepares it as any other, so that areas, hooks and ControlNet on it apply. For a view, of every list of
conditionings that has marked entries those of its side count, and the unmarked ones; between two sides both do, each
with its share as strength, which the host takes the weighted mean of.

A batch has one camera a row, row r that of number r mod V. Where the views' conditionings differ in their tensors
alone, these are stacked and the batch is asked once, row by row; otherwise once for each side. A guider with a rule of
its own may mix the rows of a batch, as Perp-Neg's does: it is asked for one camera after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from comfy.conds import CONDConstant, CONDRegular
from comfy.samplers import CFGGuider

from ..msd_core.generators.batch import Batch
from ..msd_core.generators.sticker import GROUNDS, Before
from ..msd_core.generators.volume.camera import SIDE_WORDS, Camera, side_weights

if TYPE_CHECKING:
    from ..msd_core.generators.base import Generator

VIEW = "msd_view"
SIDES = tuple(SIDE_WORDS)
OVERHEAD = SIDES[-1]
Conds = dict[str, list[dict[str, Any]]]
Rows = slice | list[int]


class Towards(NamedTuple):
    """Where a camera looks from, in degrees."""

    yaw: float
    pitch: float

    def shares(self, blends: Mapping[str, float]) -> dict[str, float]:
        """The shares of the sides that the camera sees, of those that there are, by name and with their blends."""
        camera = replace(Camera(1, 1), yaw=self.yaw, pitch=self.pitch if OVERHEAD in blends else 0.0)
        return side_weights(camera, max(blends.values()))


class Ground(NamedTuple):
    """Which ground a sticker is seen before."""

    name: str

    def shares(self, blends: Mapping[str, float]) -> dict[str, float]:
        """The ground alone."""
        return {self.name: 1.0}


Look = Towards | Ground


def look_of(view: object) -> Look:
    """The look of a view.

    Raises:
        ValueError: its generator has no views.
    """
    if isinstance(view, Camera):
        return Towards(view.yaw, view.pitch)
    if isinstance(view, Before):
        return Ground(view.ground)
    raise ValueError(
        "positive: holds prompts by view, and this generator has no views; allowed is a plain prompt; connect a CLIP "
        "Text Encode, or begin with a 3-D Generator or a Sticker Generator"
    )


def check_sides(guider: CFGGuider, generator: Generator) -> None:
    """Refuse conditionings by view that are for another kind of views than the generator's.

    Raises:
        ValueError: as `look_of`; for prompts by ground with an object, and by side with a sticker.
    """
    one = generator[0] if isinstance(generator, Batch) else generator
    frame = one.frame(one.canvas.view.height, one.canvas.view.width)
    known = tuple(GROUNDS) if "ground" in one.words(frame) else SIDES
    if known is SIDES:
        look_of(frame)
    for name, entries in guider.original_conds.items():
        said = [entry[VIEW][0] for entry in entries if VIEW in entry]
        if said and not set(said) <= set(known):
            raise ValueError(
                f"{name}: holds prompts for {', '.join(dict.fromkeys(said))}, and the generator's views are "
                f"{', '.join(known)}; use {{view}} in View Prompt for a 3-D Generator, {{ground}} for a sticker"
            )


def marked(conditioning: list, side: str, blend: float = 0.0) -> list:
    """The entries of a CONDITIONING for one side."""
    return [[cond, {**options, VIEW: (side, float(blend))}] for cond, options in conditioning]


def has_sides(guider: CFGGuider) -> bool:
    """Whether any of a guider's conditionings is by view."""
    return any(VIEW in entry for entries in guider.original_conds.values() for entry in entries)


def seen(conds: Conds, look: Look) -> Conds:
    """What counts of ``conds`` for one look."""
    return {name: _seen(entries, look) for name, entries in conds.items()}


def _seen(entries: list[dict[str, Any]], look: Look) -> list[dict[str, Any]]:
    blends = dict(entry[VIEW] for entry in entries if VIEW in entry)
    shares = look.shares(blends) if blends else {}
    found = []
    for entry in entries:
        share = shares.get(entry[VIEW][0], 0.0) if VIEW in entry else 1.0
        if share == 1:
            found.append(entry)
        elif share:
            found.append({**entry, "strength": share * entry.get("strength", 1.0)})
    return found


def groups(conds: Conds, looks: Sequence[Look], count: int, *, apart: bool) -> list[tuple[Rows, Conds]]:
    """Which of ``count`` rows are asked together, and under what.

    Args:
        conds: prepared by the host.
        looks: V of them; row r has number r mod V.
        count: a multiple of V.
        apart: the rows of each look alone.
    """
    views = [seen(conds, look) for look in looks]
    merged = None if apart else stacked(views)
    if merged is not None:
        return [(slice(None), merged)]
    found: dict[object, tuple[list[int], Conds]] = {}
    for row in range(count):
        number = row % len(looks)
        key = number if apart else _key(views[number])
        found.setdefault(key, ([], views[number]))[0].append(row)
    return list(found.values())


def _key(conds: Conds) -> object:
    """Equal for looks that the same entries count for, with the same shares."""
    return tuple((name, id(e["model_conds"]), e.get("strength")) for name, es in conds.items() for e in es)


def stacked(views: Sequence[Conds]) -> Conds | None:
    """One set of conditionings for a batch of one row a view; None where these differ in more than their tensors."""
    first, rest = views[0], views[1:]
    if any(len(view[name]) != len(entries) for view in rest for name, entries in first.items()):
        return None
    merged: Conds = {}
    for name, entries in first.items():
        rows = [_stacked_entries([view[name][number] for view in views]) for number in range(len(entries))]
        if any(row is None for row in rows):
            return None
        merged[name] = rows
    return merged


TENSORS = ("model_conds", "cross_attn", "pooled_output", "uuid", VIEW)
"""Of an entry: what the host makes the model's inputs of, or does not look at any more."""


def _stacked_entries(entries: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    first = entries[0]
    if all(entry is first for entry in entries):
        return first
    for name in set().union(*entries) - set(TENSORS):
        if any(not _same(entry.get(name), first.get(name)) for entry in entries):
            return None
    inputs: dict[str, Any] = {}
    own = [entry["model_conds"] for entry in entries]
    if any(set(conds) != set(own[0]) for conds in own):
        return None
    for name in own[0]:
        one = _stacked_conds([conds[name] for conds in own])
        if one is None:
            return None
        inputs[name] = one
    return {**first, "model_conds": inputs}


def _stacked_conds(conds: Sequence[Any]) -> Any:  # noqa: ANN401 - the host's own kinds of inputs
    first = conds[0]
    if all(cond is first for cond in conds):
        return first
    if any(type(cond) is not type(first) for cond in conds):
        return None
    if isinstance(first, CONDConstant):
        return first if all(_same(cond.cond, first.cond) for cond in conds) else None
    tensors = [cond.cond for cond in conds]
    alike = isinstance(first, CONDRegular) and all(t.shape == tensors[0].shape and len(t) == 1 for t in tensors)
    return first._copy_with(torch.cat(tensors)) if alike else None  # noqa: SLF001 - the host's way to a changed one


def _same(one: object, other: object) -> bool:
    """Whether two values are the same thing, or equal as plain ones."""
    if one is other:
        return True
    plain = (int, float, str, bool, tuple)
    return isinstance(one, plain) and isinstance(other, plain) and one == other
