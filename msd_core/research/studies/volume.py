"""Text to 3-D where the answer is known: the demo model's round things, and the solid world's fronts and backs.

The demo model knows no views, and what looks the same from all around can be told from one picture: its circle, square
and triangle must become a ball, a cylinder and a cone. The model of the solid world knows them by name; whether they
are asked for, and in how many words, decides whether an object has one front. Methods spend equal network rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import cache
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ...demo.judge import judge as judge_picture
from ...demo.model import DEMO_MODEL_PATH, load_demo_model
from ...demo.solids.judge import grid_of, inside_of
from ...demo.solids.judge import judge as judge_solid
from ...demo.solids.model import SOLID_MODEL_PATH, load_solid_model
from ...demo.solids.shapes import SOLIDS, distance
from ...demo.solids.world import Scene, random_scene
from ...distil import distil
from ...generators.volume.camera import Camera
from ...generators.volume.volume import Volume, VolumeSettings
from ...preset import Preset, preset_for
from ...settings import to_json
from .result import Figure, Result, Table
from .study import Cell, Context, OnStep, model_digest
from .volume_cost import GRIDS, QUICK_REPEATS, REPEATS, SIDES, measured

IN_ALL = False
ROUND_THINGS = {
    "a large red circle on a blue background": "sphere",
    "a large yellow square on a purple background": "cylinder",
    "a large green triangle on a white background": "cone",
}
LEVEL = {"lowest": -10.0, "highest": 10.0}
"""Pitches for round things: seen from above, a square is none."""
FINEST = 0.01
"""Of the search for the round solid that fits best, in radii of the ball."""
SEEDS, QUICK_SEEDS = 3, 1
SOLID_SCENES, SOLID_SEEDS, QUICK_SCENES = 8, 3, 1
WORDINGS = {"four words": "{view}", "three words": "{side}", "no words": ""}
ONE = "msd, one update"
WAYS = (
    ("msd", "four words"), (ONE, "four words"), (ONE, "three words"), (ONE, "no words"), ("sds", "four words"),
    ("sdi", "four words"),
)  # fmt: skip
RUNS: dict[str, tuple[str, dict[str, int]]] = {
    "msd": ("msd", {"steps": 60}),
    ONE: ("msd", {"steps": 60, "inner_steps": 1}),
    "sds": ("sds", {"steps": 540}),
    "sdi": ("sdi", {"steps": 72}),
}
"""Method and settings of a way: iterations of four views that take 4,320 rows, or as near as whole ones come."""


def last_of(prompt: str, model: Any, method: str, seed: int, progress: OnStep, **settings: Any) -> tuple[Volume, int]:  # noqa: ANN401
    """The volume at the end of a run, and its network rows."""
    state = None
    steps = resolved(method, settings)[0].steps
    for state in distil(prompt, method=method, generator="volume", model=model, seed=seed, **settings):
        progress(state.step, steps)
    assert state is not None and isinstance(state.generator, Volume)  # noqa: S101 - a run has a step
    return state.generator, state.evaluations


def resolved(method: str, settings: Mapping[str, Any]) -> tuple[Preset, VolumeSettings]:
    """What a run and its volume are made with, defaults included."""
    own = {name: value for name, value in settings.items() if name in VolumeSettings.__dataclass_fields__}
    rest = {name: value for name, value in settings.items() if name not in own}
    return preset_for(Volume, method, rest), VolumeSettings(**own)


def keyed(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `resolved` says, as entries of a cell's key: with other defaults a cell is another one."""
    run, volume = resolved(method, settings)
    return {"run": run.to_json(), "volume": to_json(volume)}


def seen_from_four_sides(volume: Volume) -> dict[str, Tensor]:
    """Small pictures from the front, the right, the back and the left, (4, 3, 64, 64) in 0 ... 255, to be looked at."""
    with torch.no_grad():
        pictures = torch.cat([volume.render(camera) for camera in volume.orbit(64, 64, 4)])
    return {"views": (255 * pictures.clamp(0, 1)).round().to(torch.uint8)}


def round_case(prompt: str, seed: int, progress: OnStep, **settings: Any) -> Cell:  # noqa: ANN401
    """A caption of the demo model in space: held-out views accepted, and IoU with the best solid of its kind."""
    volume, rows = last_of(prompt, load_demo_model(), "msd", seed, progress, **LEVEL, **settings)
    cameras = [Camera(128, 128, yaw=45.0 * i + 22.5, pitch=10.0 * (i % 2)) for i in range(8)]
    with torch.no_grad():
        pictures = torch.cat([volume.render(camera) for camera in cameras]).clamp(0, 1)
    verdicts = [judge_picture(picture, prompt) for picture in pictures]
    inside = inside_of(volume)
    iou = 0.0 if inside is None else best_round(ROUND_THINGS[prompt], inside > 0)
    numbers = {
        "accepted": sum(v.accepted for v in verdicts) / len(verdicts),
        "IoU of pictures": sum(v.things[0].iou for v in verdicts) / len(verdicts),
        "IoU in space": iou,
        "rows": float(rows),
    }
    return Cell(numbers, seen_from_four_sides(volume))


def best_round(solid: str, filled: Tensor) -> float:
    """IoU of ``filled`` (48, 48, 48) with the upright round solid of its kind that fits best: width, height and place.

    A drawn triangle says nothing of how high it is for its width, nor of where it stands. Searched coarsely over width,
    height and place upright, then finely over these and the place sideways in turn.
    """
    place, step = grid_of(filled), 0.1
    sizes, heights = [0.3 + step * i for i in range(7)], [-0.3 + step * i for i in range(7)]
    coarse = itertools.product(sizes, sizes, heights, (0.0,), (0.0,))
    best = max((_overlap(solid, filled, place, *shape), shape) for shape in coarse)
    while step > FINEST:
        step /= 2
        for moved in (range(3), range(3, 5)):
            shifts = ((-step, 0.0, step) if i in moved else (0.0,) for i in range(5))
            near = [tuple(map(sum, zip(best[1], shift, strict=True))) for shift in itertools.product(*shifts)]
            best = max((_overlap(solid, filled, place, *shape), shape) for shape in near)
    return best[0]


def _overlap(
    solid: str, filled: Tensor, place: Tensor, width: float, height: float, up: float, right: float, front: float
) -> float:
    x, y, z = place.unbind(dim=-1)
    own = torch.stack([(x - right) / width, (y - up) / height, (z - front) / width], dim=-1)
    inside = distance(solid, own, 1.0) < 0
    return float((inside & filled).sum() / (inside | filled).sum().clamp(min=1))


@cache
def scenes_of(seed: int) -> list[Scene]:
    """Large scenes, each solid in turn."""
    rng = torch.Generator().manual_seed(seed + 52_000)
    found: list[Scene] = []
    for i in range(SOLID_SCENES):
        scene = random_scene(rng)
        found.append(Scene(SOLIDS[i % len(SOLIDS)], scene.front, scene.back, scene.ground, "large"))
    return found


def solid_case(scene: Scene, method: str, words: str, seed: int, progress: OnStep, settings: dict[str, int]) -> Cell:
    """A caption of the solid world in space, and the judge's marks."""
    prompt = scene.caption(WORDINGS[words])
    volume, rows = last_of(prompt, load_solid_model(), method, seed, progress, **settings)
    return Cell({**judge_solid(volume, scene).figures(), "rows": float(rows)}, seen_from_four_sides(volume))


def round_cell(context: Context, prompt: str, seed: int) -> Cell:
    """A cell of the first table."""
    quick = {"steps": 2, "rays": 16} if context.quick else {}
    key = {"what": "round", "version": 2, "prompt": prompt, "seed": seed, "model": model_digest(DEMO_MODEL_PATH)}
    key |= keyed("msd", LEVEL | quick)
    return context.cell("volume", key, lambda progress: round_case(prompt, seed, progress, **quick))


def solid_cell(context: Context, number: int, way: str, words: str, seed: int) -> Cell:
    """A cell of the second table."""
    method, settings = RUNS[way]
    scene, settings = scenes_of(context.seed)[number], settings | ({"steps": 2} if context.quick else {})
    key = {"what": "solid", "scene": scene.caption(), "words": words, "seed": seed}
    key |= {"model": model_digest(SOLID_MODEL_PATH)} | keyed(method, settings)
    return context.cell("volume", key, lambda progress: solid_case(scene, method, words, seed, progress, settings))


def cost_cell(context: Context, grid: str, rays: int) -> Cell:
    """A cell of the third table."""
    repeats = QUICK_REPEATS if context.quick else REPEATS
    key = {"what": "cost", "grid": grid, "rays": rays, "repeats": repeats}
    return context.cell("volume", key, lambda _: Cell(dict(measured(grid, rays, repeats))))


def run(context: Context) -> Result:
    """Three tables: round things a prompt, the solid world a method and a wording, and what a step costs by part."""
    seeds = range(QUICK_SEEDS if context.quick else SEEDS)
    scenes = range(QUICK_SCENES if context.quick else SOLID_SCENES)
    repeats = range(1 if context.quick else SOLID_SEEDS)
    costs = len(GRIDS) * len(SIDES)
    context.plan("volume", len(seeds) * len(ROUND_THINGS) + len(WAYS) * len(scenes) * len(repeats) + costs)
    rounds = {p: [round_cell(context, p, context.seed + s) for s in seeds] for p in ROUND_THINGS}
    solids = {
        way: [solid_cell(context, number, *way, context.seed + s) for number in scenes for s in repeats] for way in WAYS
    }
    tables = [
        _table("round", "Captions of the demo model in space", ("caption",), {(p,): c for p, c in rounds.items()}),
        _table("solid", "Captions of the solid world in space", ("method", "prompt"), solids),
    ]
    tables.append(_cost_table({(grid, rays): cost_cell(context, grid, rays) for grid in GRIDS for rays in SIDES}))
    settings = {"runs": RUNS, "pitches": LEVEL, "scenes": SOLID_SCENES, "seeds": SOLID_SEEDS}
    figures = [
        _sheet("volume-round", "Captions of the demo model, each seed from four sides", rounds, (0, 1, 2, 3), 1),
        _sheet("volume-solids", "Captions of the solid world, each from the front and from behind", solids, (0, 2),
               len(repeats)),
    ]  # fmt: skip
    return Result("volume", "Text to 3-D", tables, figures, settings=settings)


def _sheet(name: str, title: str, found: dict[Any, list[Cell]], sides: tuple[int, ...], each: int) -> Figure:
    """A row of pictures a key: some sides of every ``each``-th of its cells."""
    from matplotlib import pyplot as plt

    rows = [torch.cat([cell.tensors["views"][list(sides)] for cell in cells[::each]]) for cells in found.values()]
    figure, axes = plt.subplots(len(rows), 1, figsize=(0.7 * len(rows[0]), 0.95 * len(rows)), squeeze=False)
    for axis, key, row in zip(axes[:, 0], found, rows, strict=True):
        axis.imshow(row.movedim(0, 2).flatten(2).movedim(0, -1).numpy())
        axis.set_title(key if isinstance(key, str) else ", ".join(key), fontsize=7, loc="left", pad=2)
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    return Figure(name, title, title + ".", figure)


def _cost_table(found: dict[tuple[str, int], Cell]) -> Table:
    """A row for each field and size."""
    parts = ("render", "backward", "update")
    rows = [
        [grid, rays, *(cell.numbers[part] for part in parts), cell.numbers["memory"] / 1e6]
        for (grid, rays), cell in found.items()
    ]
    model = next((cell.numbers["model"] for cell in found.values() if "model" in cell.numbers), None)
    note = "Seconds of a step of four views, and MB that it takes at most."
    if model is not None:
        note += f" A mean shift of the demo model for the four: {model:.2f} s."
    formats = dict.fromkeys(parts, ".3f") | {"MB": ".0f"}
    return Table("cost", "What a step costs", ("field", "rays", *parts, "MB"), rows, note, formats)


MARKS = ("accepted", "iou", "silhouettes", "front", "back", "janus", "floaters", "rows")


def _table(name: str, title: str, heads: tuple[str, ...], found: dict[tuple[str, ...], list[Cell]]) -> Table:
    """A row for each key, of means; seconds and the half-width of the 95 % interval of what is accepted last."""
    columns = [c for c in (*MARKS, "IoU of pictures", "IoU in space") if c in next(iter(found.values()))[0].numbers]
    rows = []
    for key, cells in found.items():
        means = [_mean([cell.numbers[c] for cell in cells]) for c in columns]
        accepted = [cell.numbers["accepted"] for cell in cells]
        rows.append([*key, *means, _half_width(accepted), median(cell.seconds for cell in cells)])
    count = len(next(iter(found.values())))
    note = (
        f"Means of {count} runs; of seconds, the median. Rows: of the network. ±: half of the 95 % interval of what is "
        "accepted."
    )
    formats = {column: ".0f" if column in ("rows", "seconds") else ".2f" for column in (*columns, "±", "seconds")}
    return Table(name, title, (*heads, *columns, "±", "seconds"), rows, note, formats)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _half_width(values: list[float]) -> float:
    """1.96 standard errors."""
    mean, n = _mean(values), len(values)
    return 1.96 * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(n - 1, 1) / n)
