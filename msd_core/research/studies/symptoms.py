"""Whether a run's own figures tell that it has ended at no picture: runs by sound and by unsound settings, judged.

A run is destroyed where the judge finds things that hardly match their shapes, or a ground that is none; what is told
of it by `symptoms.warning_of` knows no judge: the last shift, from `SHIFT` on, for generators that can draw every
picture, as those here. The threshold was chosen on other prompts (`CHOSEN`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from ...demo.evaluate import draw_scenes
from ...demo.judge import judge
from ...demo.model import DEMO_MODEL_PATH, load_demo_model
from ...demo.scenes import caption
from ...distil import distil
from ...state import State
from ...symptoms import SHIFT, symptoms_of
from .result import Result, Table
from .study import Cell, Context, OnStep, model_digest

IN_ALL = False
CHOSEN = 77
"""Seed of the prompts on which the thresholds were chosen; the study's own are others."""
MATCH, STRAY = 0.65, 0.01
"""Of a picture that is not destroyed: IoU at least, share of pixels of neither ground nor thing at most. Whole things
of an odd shape have .7."""
QUICK = {"steps": 2, "inner_steps": 2, "solver_steps": 1}
FAST = {"preset": "fast"}


class Way(NamedTuple):
    """A setting: its name, how many runs, whether it is sound, and what `distil` is given."""

    name: str
    runs: int
    sound: bool
    settings: dict[str, Any]


WAYS = (
    Way("fast", 8, True, FAST),
    Way("faithful", 8, True, {"preset": "faithful"}),
    Way("fast, hash grid", 3, True, {**FAST, "generator": "hashgrid"}),
    Way("fast, pixels", 3, True, {**FAST, "generator": "pixels"}),
    Way("fast, vector graphics", 3, True, {**FAST, "generator": "vector"}),
    Way("fast, λ from 30", 3, True, {**FAST, "bandwidth_start": 30.0}),
    Way("learning rate .3", 5, False, {**FAST, "lr": 0.3}),
    Way("learning rate .1", 5, False, {**FAST, "lr": 0.1}),
    Way("learning rate .00001", 4, False, {**FAST, "lr": 1e-5}),
    Way("three updates", 6, False, {**FAST, "steps": 3, "inner_steps": 1}),
    Way("cfg 30", 6, False, {**FAST, "cfg": 30.0}),
    Way("λ ends at 8", 4, False, {**FAST, "bandwidth_start": 9.0, "bandwidth_end": 8.0}),
)


class Found(NamedTuple):
    """One run: whether it is destroyed, its shift, and whether it is warned of."""

    destroyed: bool
    shift: float
    warned: bool


@cache
def _scenes(seed: int) -> list[Any]:
    """Scenes of two and three things, other than those of `CHOSEN`."""
    return draw_scenes(max(way.runs for way in WAYS), seed + 55_000, (2, 3))


def run(context: Context) -> Result:
    """A row a setting, and the sum of sound ones and of destroyed runs."""
    ways = [way._replace(runs=1, settings={**way.settings, **QUICK}) for way in WAYS] if context.quick else list(WAYS)
    context.plan("symptoms", sum(way.runs for way in ways))
    found = {way.name: [_cell(context, way, i) for i in range(way.runs)] for way in ways}
    rows = [[way.name, *counted(found[way.name])] for way in ways]
    sound = [one for way in ways if way.sound for one in found[way.name] if not one.destroyed]
    lost = [one for runs in found.values() for one in runs if one.destroyed]
    rows += [["sound, and not destroyed", *counted(sound)], ["destroyed", *counted(lost)]]
    columns = ("setting", "runs", "destroyed", "warned", "least shift", "largest shift")
    note = (
        f"Drawn scenes of two and three things, the first few of one list. Destroyed: the judge's IoU below {MATCH:g}, "
        f"or {STRAY:.0%} of the pixels of neither ground nor thing. Shift: the last |m|, in deviations of the data; "
        f"from {SHIFT:g} the run is warned of."
    )
    formats = {"runs": "d", "destroyed": "d", "warned": "d", "least shift": ".2f", "largest shift": ".2f"}
    table = Table("symptoms", "Runs that are warned of", columns, rows, note, formats)
    return Result("symptoms", "Runs that end at no picture", [table], settings={"shift": SHIFT, "stray": STRAY})


def counted(found: Sequence[Found]) -> list[Any]:
    """How many there are, are destroyed and are warned of; the least and the largest shift."""
    shifts = [one.shift for one in found] or [float("nan")]
    destroyed, warned = sum(one.destroyed for one in found), sum(one.warned for one in found)
    return [len(found), destroyed, warned, min(shifts), max(shifts)]


def _cell(context: Context, way: Way, i: int) -> Found:
    def compute(progress: OnStep) -> Cell:
        scene = _scenes(context.seed)[i]
        state: State | None = None
        for state in distil(caption(scene), model=load_demo_model(), seed=context.seed + i, **way.settings):
            progress(state.step, state.steps)
        assert state is not None  # noqa: S101 - a run has a step
        picture, known = state.picture(), symptoms_of(state)
        verdict = judge(picture[0], scene)
        iou = sum(thing.iou for thing in verdict.things) / len(verdict.things)
        numbers = {"iou": iou, "stray": verdict.stray, "shift": known.shift}
        return Cell(numbers, {"picture": (picture[0] * 255).round().byte()})

    settings = {"settings": {**way.settings}, "picture": i, "model": model_digest(DEMO_MODEL_PATH)}
    numbers = context.cell("symptoms", settings, compute).numbers
    destroyed = numbers["iou"] < MATCH or numbers["stray"] >= STRAY
    return Found(destroyed, numbers["shift"], numbers["shift"] >= SHIFT)
