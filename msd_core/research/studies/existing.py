"""Drawn pictures inpainted and restored by the demo model, beside simpler ways at equal network rows.

Every picture has a cell of its own. Holes are the half of a thing or a square in the middle; what is measured is the
hole against the picture's own, and the judge's verdict on the true caption. Edits have a study of their own (`edits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...demo.grammar import Scene
from ...demo.judge import judge
from ...demo.model import DEMO_MODEL_PATH, DemoModel, load_demo_model
from ...demo.scenes import caption
from ...manipulation import Manipulated, inpaint, restore
from ...measurement import Measurement, observe
from ...measurement.blur import Blur
from ...measurement.pool import Pool
from ...posterior.dps import DPS
from ...posterior.proximal import Proximal
from ...posterior.psld import PSLD
from ...posterior.red_diff import REDDiff
from .drawn_pictures import drawn, psnr
from .result import Result, Table
from .study import Cell, Context, OnStep, model_digest

IN_ALL = False
PICTURES, QUICK_PICTURES = 20, 2
STEPS = {"kalman": 16, "proximal": 48, "replacement": 48}
"""Of each gain: 48 rows a picture."""
RESTORE_ROWS = 40
RESTORED = {
    "restored": (Proximal(), 1.0),
    "restored, temperature 0": (Proximal(), 0.0),
    "dps": (DPS(1.0), 1.0),
    "psld": (PSLD(0.3, 0.03), 1.0),
    "red-diff": (REDDiff(0.05), 1.0),
}
"""Solvers and temperatures; settings of the others: the best of three each on one picture that is not among these."""
IN_PIXELS, GUIDED = {16: (0.0, 1.0), 48: (1.0,)}, (3.0, 7.5)
"""Steps of holes that are measured in pixels, an evaluation each, with the temperatures that they are tried at; and
scales of guidance."""
Case = Callable[[DemoModel, Scene, Tensor, torch.Generator], dict[str, float]]


def holes(scene: Scene, side: int) -> dict[str, Tensor]:
    """The right half of the first thing, and a square of three eighths in the middle: masks (side, side)."""
    x, y, radius = scene.layout()[0]
    half, box = torch.zeros(side, side), torch.zeros(side, side)
    left, right = round(x * side), round((x + 1.15 * radius) * side)
    half[max(0, round((y - 1.15 * radius) * side)) : round((y + 1.15 * radius) * side), left:right] = 1
    box[5 * side // 16 : 11 * side // 16, 5 * side // 16 : 11 * side // 16] = 1
    return {"half of a thing": half, "box": box}


def filled(kind: str, gain: str, cfg: float = 1.0) -> Case:
    """A hole of one kind, filled with one gain."""

    def case(model: DemoModel, scene: Scene, picture: Tensor, rng: torch.Generator) -> dict[str, float]:
        hole = holes(scene, model.side)[kind]
        made = inpaint(picture, hole, caption(scene), model=model, cfg=cfg, solver=gain, steps=STEPS[gain])
        return _found(made, scene, picture, hole > 0)

    return case


def filled_in_pixels(kind: str, steps: int, temperature: float, cfg: float = 1.0) -> Case:
    """A hole as a measurement of the pixels around it."""

    def case(model: DemoModel, scene: Scene, picture: Tensor, rng: torch.Generator) -> dict[str, float]:
        hole, walk = holes(scene, model.side)[kind], {"space": "pixels", "steps": steps, "temperature": temperature}
        made = inpaint(picture, hole, caption(scene), model=model, cfg=cfg, **walk)
        return _found(made, scene, picture, hole > 0)

    return case


def restored(measurement: Measurement, noise: float, way: str) -> Case:
    """A measurement, restored by a solver, or only enlarged to the size of the picture."""

    def case(model: DemoModel, scene: Scene, picture: Tensor, rng: torch.Generator) -> dict[str, float]:
        observation, side = observe(picture, measurement, noise, rng), model.side
        if way in RESTORED:
            solver, temperature = RESTORED[way]
            walk = {"solver": solver, "steps": RESTORE_ROWS // solver.rows, "temperature": temperature}
            made = restore(observation, (side, side), caption(scene), model=model, **walk)
        else:
            plain = F.interpolate(observation.b, (side, side), mode="bicubic").clamp(0, 1)
            made = Manipulated(plain, 0, None)
        return _found(made, scene, picture, torch.ones(side, side) > 0)

    return case


def _found(made: Manipulated, scene: Scene, picture: Tensor, where: Tensor) -> dict[str, float]:
    """The figures of one result; ``where`` are the pixels that are compared."""
    verdict = judge(made.picture[0], scene)
    figures = {"accepted": float(verdict.accepted), "PSNR": psnr(made.picture[..., where], picture[..., where])}
    figures["IoU"] = sum(thing.iou for thing in verdict.things) / len(verdict.things)
    return figures | {"kept": -1.0 if made.kept is None else min(made.kept, 99.0), "rows": float(made.evaluations)}


def cases() -> Iterator[tuple[str, str, Case]]:
    """Task, way, and how it is done."""
    for kind in ("half of a thing", "box"):
        for gain in STEPS:
            yield kind, gain, filled(kind, gain)
        for steps, temperatures in IN_PIXELS.items():
            for temperature in temperatures:
                yield kind, _in_pixels(steps, temperature), filled_in_pixels(kind, steps, temperature)
    for cfg in GUIDED:
        yield f"box, cfg {cfg:g}", "kalman", filled("box", "kalman", cfg)
        for temperature in (0.0, 1.0):
            yield f"box, cfg {cfg:g}", _in_pixels(16, temperature), filled_in_pixels("box", 16, temperature, cfg)
    tasks = {"x4": (Pool(4), 0.0), "x8": (Pool(8), 0.0), "blur of 4": (Blur(4.0), 0.01), "noise of .1": (Pool(1), 0.1)}
    for task, (measurement, noise) in tasks.items():
        for way in ("as given", *RESTORED):
            yield task, way, restored(measurement, noise, way)


def _in_pixels(steps: int, temperature: float) -> str:
    return f"in pixels, {steps} steps, temperature {temperature:g}"


def run(context: Context) -> Result:
    """One table: a row a task and a way."""
    count = QUICK_PICTURES if context.quick else PICTURES
    listed = list(cases())
    context.plan("existing", len(listed) * count)
    rows = []
    for task, way, case in listed:
        found = [_cell(context, task, way, case, i, count) for i in range(count)]
        mean = {name: sum(one[name] for one in found) / count for name in found[0]}
        kept = None if mean["kept"] < 0 else mean["kept"]
        rows.append([task, way, mean["accepted"], mean["PSNR"], mean["IoU"], kept, mean["rows"]])
    note = (
        f"{count} drawn scenes of two and three things, one seed. PSNR: in the hole, or of the "
        "whole restored picture. Kept: agreement with what was to stay or was given, before it was put back, dB. Rows: "
        "of the network, a picture."
    )
    columns = ("task", "way", "accepted", "PSNR", "IoU", "kept", "rows")
    formats = {"accepted": ".2f", "PSNR": ".1f", "IoU": ".2f", "kept": ".1f", "rows": ".0f"}
    table = Table("existing", "Pictures that exist: holes, measurements", columns, rows, note, formats)
    settings = {"pictures": count, "steps": dict(STEPS)}
    return Result("existing", "Inpainted and restored by the demo model", [table], settings=settings)


def _cell(context: Context, task: str, way: str, case: Case, i: int, count: int) -> dict[str, Any]:
    def compute(progress: OnStep) -> Cell:
        scenes, pictures = drawn(count, context.seed)
        rng = torch.Generator().manual_seed(context.seed + i)
        with torch.no_grad():
            return Cell(case(load_demo_model(), scenes[i], pictures[i : i + 1], rng))

    return context.cell(
        "existing", {"task": task, "way": way, "picture": i, "model": model_digest(DEMO_MODEL_PATH)}, compute
    ).numbers
