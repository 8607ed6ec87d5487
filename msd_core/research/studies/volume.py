"""Text to 3-D where the answer is known: the demo model's round things, and the solid world's fronts and backs.

The demo model knows no views, and what looks the same from all around can be told from one picture: its circle, square
and triangle must become a ball, a cylinder and a cone. The model of the solid world knows them by name; whether they
are asked for, and in how many words, decides whether an object has one front. Methods spend equal network rows.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ...demo.judge import judge as judge_picture
from ...demo.model import DEMO_MODEL_PATH, load_demo_model
from ...demo.solids.judge import best_solid, inside_of
from ...demo.solids.judge import judge as judge_solid
from ...demo.solids.model import SOLID_MODEL_PATH, load_solid_model
from ...demo.solids.shapes import SOLIDS
from ...demo.solids.world import Scene, random_scene
from ...distil import distil
from ...generators.volume.camera import Camera
from ...generators.volume.volume import Volume
from ...preset import preset_for
from .result import Result, Table
from .study import Cell, Context, OnStep

IN_ALL = False
ROUND_THINGS = {
    "a large red circle on a blue background": "sphere",
    "a large yellow square on a purple background": "cylinder",
    "a large green triangle on a white background": "cone",
}
LEVEL = {"lowest": -10.0, "highest": 10.0}
"""Pitches for round things: seen from above, a square is none."""
SEEDS, QUICK_SEEDS = 3, 1
SOLID_SCENES, SOLID_SEEDS, QUICK_SCENES = 8, 3, 1
WORDINGS = {"four words": "{view}", "three words": "{side}", "no words": ""}
WAYS = (
    ("msd", "four words"), ("msd", "three words"), ("msd", "no words"), ("sds", "four words"), ("sdi", "four words")
)  # fmt: skip
STEPS = {"msd": 60, "sds": 540, "sdi": 56}
"""Iterations of four views that take 4,320 rows, or as near as whole ones come."""
Figures = dict[str, float]


def last_of(prompt: str, model: Any, method: str, seed: int, progress: OnStep, **settings: Any) -> tuple[Volume, int]:  # noqa: ANN401
    """The volume at the end of a run, and its network rows."""
    state = None
    steps = preset_for(Volume, method, settings_of_run(settings)).steps
    for state in distil(prompt, method=method, generator="volume", model=model, seed=seed, **settings):
        progress(state.step, steps)
    assert state is not None and isinstance(state.generator, Volume)  # noqa: S101 - a run has a step
    return state.generator, state.evaluations


def settings_of_run(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings that are the run's, not the volume's."""
    return {name: value for name, value in settings.items() if name not in Volume.settings.__dataclass_fields__}


def round_case(prompt: str, seed: int, progress: OnStep, **settings: Any) -> Figures:  # noqa: ANN401
    """A caption of the demo model in space: held-out views accepted, and IoU with the best solid of its kind."""
    volume, rows = last_of(prompt, load_demo_model(), "msd", seed, progress, **LEVEL, **settings)
    cameras = [Camera(128, 128, yaw=45.0 * i + 22.5, pitch=10.0 * (i % 2)) for i in range(8)]
    with torch.no_grad():
        pictures = torch.cat([volume.render(camera) for camera in cameras]).clamp(0, 1)
    verdicts = [judge_picture(picture, prompt) for picture in pictures]
    inside = inside_of(volume)
    iou = 0.0 if inside is None else best_solid(ROUND_THINGS[prompt], inside > 0, 0.5)[0]
    return {
        "accepted": sum(v.accepted for v in verdicts) / len(verdicts),
        "IoU of pictures": sum(v.things[0].iou for v in verdicts) / len(verdicts),
        "IoU in space": iou,
        "rows": float(rows),
    }


@cache
def scenes_of(seed: int) -> list[Scene]:
    """Large scenes, each solid in turn."""
    rng = torch.Generator().manual_seed(seed + 52_000)
    found: list[Scene] = []
    for i in range(SOLID_SCENES):
        scene = random_scene(rng)
        found.append(Scene(SOLIDS[i % len(SOLIDS)], scene.front, scene.back, scene.ground, "large"))
    return found


def solid_case(scene: Scene, method: str, words: str, seed: int, progress: OnStep, steps: int) -> Figures:
    """A caption of the solid world in space, and the judge's marks."""
    prompt = scene.caption(WORDINGS[words])
    volume, rows = last_of(prompt, load_solid_model(), method, seed, progress, steps=steps)
    return {**judge_solid(volume, scene).figures(), "rows": float(rows)}


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def round_cell(context: Context, prompt: str, seed: int) -> Cell:
    """A cell of the first table."""
    key = {"what": "round", "prompt": prompt, "seed": seed, "model": _digest(DEMO_MODEL_PATH)}
    quick = {"steps": 2, "rays": 16} if context.quick else {}
    return context.cell("volume", key, lambda progress: Cell(round_case(prompt, seed, progress, **quick)))


def solid_cell(context: Context, number: int, method: str, words: str, seed: int) -> Cell:
    """A cell of the second table."""
    scene, steps = scenes_of(context.seed)[number], 2 if context.quick else STEPS[method]
    key = {"what": "solid", "scene": scene.caption(), "method": method, "words": words, "seed": seed, "steps": steps}
    key |= {"model": _digest(SOLID_MODEL_PATH)}
    return context.cell("volume", key, lambda progress: Cell(solid_case(scene, method, words, seed, progress, steps)))


def run(context: Context) -> Result:
    """Two tables: round things a prompt, and the solid world a method and a wording."""
    seeds = range(QUICK_SEEDS if context.quick else SEEDS)
    scenes = range(QUICK_SCENES if context.quick else SOLID_SCENES)
    repeats = range(1 if context.quick else SOLID_SEEDS)
    context.plan("volume", len(seeds) * len(ROUND_THINGS) + len(WAYS) * len(scenes) * len(repeats))
    rounds = {p: [round_cell(context, p, context.seed + s) for s in seeds] for p in ROUND_THINGS}
    solids = {
        way: [solid_cell(context, number, *way, context.seed + s) for number in scenes for s in repeats] for way in WAYS
    }
    tables = [
        _table("round", "Captions of the demo model in space", ("caption",), {(p,): c for p, c in rounds.items()}),
        _table("solid", "Captions of the solid world in space", ("method", "prompt"), solids),
    ]
    settings = {"steps": STEPS, "pitches": LEVEL, "scenes": SOLID_SCENES, "seeds": SOLID_SEEDS}
    return Result("volume", "Text to 3-D", tables, settings=settings)


MARKS = ("accepted", "iou", "silhouettes", "front", "back", "janus", "floaters", "rows")


def _table(name: str, title: str, heads: tuple[str, ...], found: dict[tuple[str, ...], list[Cell]]) -> Table:
    """A row for each key, of means; seconds and the half-width of the 95 % interval of what is accepted last."""
    columns = [c for c in (*MARKS, "IoU of pictures", "IoU in space") if c in next(iter(found.values()))[0].numbers]
    rows = []
    for key, cells in found.items():
        means = [_mean([cell.numbers[c] for cell in cells]) for c in columns]
        accepted = [cell.numbers["accepted"] for cell in cells]
        rows.append([*key, *means, _half_width(accepted), _mean([cell.seconds for cell in cells])])
    count = len(next(iter(found.values())))
    note = f"Means of {count} runs. Rows: of the network. ±: half of the 95 % interval of what is accepted."
    formats = {column: ".0f" if column in ("rows", "seconds") else ".2f" for column in (*columns, "±", "seconds")}
    return Table(name, title, (*heads, *columns, "±", "seconds"), rows, note, formats)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _half_width(values: list[float]) -> float:
    """1.96 standard errors."""
    mean, n = _mean(values), len(values)
    return 1.96 * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(n - 1, 1) / n)
