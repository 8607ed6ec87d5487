"""Pictures of several methods side by side, judged, as a picture and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..atomic import replacing
from ..demo.evaluate import SIDE, draw_scenes, sample_scenes
from ..demo.judge import Verdict, check_visible, judge
from ..demo.model import DemoModel, load_demo_model
from ..demo.scenes import Scene, caption, parse
from ..distil import run
from ..generators import NeuralImage
from ..optimize import start
from ..preset import Preset, preset_of
from ..pull import PULLS
from ..sheet import PICTURE, Entry, contact_sheet
from ..validation import check_choice
from .pictures import to_pil
from .settings import drawing
from .signals import Stopped, signals

DDIM_STEPS, DDIM_CFG = 32, 3.0
RESULTS = ("contact_sheet.png", "compare.json")


@dataclass(frozen=True)
class Cell:
    """One picture (3, H, W) of the sheet, what it cost and what the judge says of it."""

    method: str
    picture: Tensor
    verdict: Verdict
    evaluations: int
    seconds: float

    @property
    def label(self) -> str:
        """ "accepted", or what is wrong."""
        return "accepted" if self.verdict.accepted else f"wrong {', '.join(self.verdict.wrong)}"


def compare(arguments: argparse.Namespace, folder: Path) -> int:
    """Draw, judge and write; stopped, write the rows that are done. Returns the exit status."""
    for method in arguments.methods:
        check_choice("--methods", method, ("ddim", *drawing()))
    if arguments.pull is not None:
        check_choice("--pull", arguments.pull, PULLS)
    scenes = _scenes(arguments)
    rows: list[list[Cell]] = []
    status = 0
    try:
        for row in _rows(arguments, scenes):
            rows.append(row)
    except KeyboardInterrupt as stop:
        if not rows:
            raise
        signals.shut()
        status = stop.status if isinstance(stop, Stopped) else 130
        scenes = scenes[: len(rows)]
        print(f"msd: stopped; {len(rows)} prompts are kept", file=sys.stderr)
    report = _report(scenes, rows, arguments)
    sheet_file, report_file = (folder / name for name in RESULTS)
    with replacing(sheet_file) as sheet, replacing(report_file) as text:
        _sheet(scenes, rows).save(sheet)
        text.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for method, total in report["totals"].items():
        print(f"{method}: {total['accepted']} of {len(scenes)} accepted, {total['evaluations']} evaluations a picture")
    return status


def _scenes(arguments: argparse.Namespace) -> list[Scene]:
    """The scenes of the prompts, or drawn ones.

    Raises:
        ValueError: for a prompt that is none, or whose pictures could not be judged.
    """
    scenes = [parse(p) for p in arguments.prompts] or draw_scenes(arguments.count, arguments.seed, arguments.things)
    for scene in scenes:
        try:
            check_visible(scene)
        except ValueError as error:
            raise ValueError(f"PROMPT: {caption(scene)!r} cannot be judged: {error}") from error
    return scenes


def _rows(arguments: argparse.Namespace, scenes: list[Scene]) -> Iterator[list[Cell]]:
    """The cells of each scene, under a progress bar."""
    model = load_demo_model(arguments.model)
    with tqdm(total=len(scenes) * len(arguments.methods), desc="compare") as bar:
        for scene in scenes:
            row = []
            for method in arguments.methods:
                row.append(_cell(model, scene, method, arguments))
                bar.update()
            yield row


def _cell(model: DemoModel, scene: Scene, method: str, arguments: argparse.Namespace) -> Cell:
    start, seed = time.monotonic(), arguments.seed
    if method == "ddim":
        picture, evaluations = _ddim(model, scene, arguments.cfg, seed)
    else:
        picture, evaluations = _distil(model, caption(scene), _preset(method, arguments), seed)
    return Cell(method, picture, judge(picture, scene), evaluations, time.monotonic() - start)


def _ddim(model: DemoModel, scene: Scene, cfg: float | None, seed: int) -> tuple[Tensor, int]:
    """One DDIM sample and its evaluations."""
    scale = _scale(cfg)
    ((_, picture),) = sample_scenes(model, [scene], cfg=scale, steps=DDIM_STEPS, seed=seed)
    return picture, DDIM_STEPS * model.denoiser("", cfg=scale).cost


def _scale(cfg: float | None) -> float:
    """DDIM's guidance scale: what was given, or the usual one."""
    return DDIM_CFG if cfg is None else cfg


def _distil(model: DemoModel, prompt: str, preset: Preset, seed: int) -> tuple[Tensor, int]:
    """A neural image distilled with the preset, and its evaluations."""
    generator = NeuralImage(resolution=SIDE, seed=seed)
    states = run(start(generator, steps=preset.steps, seed=seed), preset, model, prompt)
    last = deque(states, maxlen=1)[0]
    return last.picture(2 * PICTURE, 2 * PICTURE)[0], last.evaluations


def _preset(method: str, arguments: argparse.Namespace) -> Preset:
    """The method's own, with what the arguments change in all of them."""
    changed = {name: getattr(arguments, name) for name in ("cfg", "pull") if getattr(arguments, name) is not None}
    return preset_of(method, **changed)


def _sheet(scenes: list[Scene], rows: list[list[Cell]]) -> Image.Image:
    """The contact sheet: prompts on top of their rows, verdict and evaluations under each picture."""
    return contact_sheet(
        [cell.method.upper() for cell in rows[0]],
        [(caption(scene), [_entry(cell) for cell in row]) for scene, row in zip(scenes, rows, strict=True)],
    )


def _entry(cell: Cell) -> Entry:
    return Entry(to_pil(cell.picture), [f"{cell.evaluations:,} evaluations", cell.label], cell.verdict.accepted)


def _report(scenes: list[Scene], rows: list[list[Cell]], arguments: argparse.Namespace) -> dict[str, Any]:
    """All verdicts and their totals, ready for JSON."""
    totals = {}
    for j, method in enumerate(arguments.methods):
        cells = [row[j] for row in rows]
        totals[method] = {
            "accepted": sum(c.verdict.accepted for c in cells),
            "place right": sum(c.verdict.place_right for c in cells),
            "mean IoU": sum(t.iou for c in cells for t in c.verdict.things) / sum(len(c.verdict.things) for c in cells),
            "mean stray": sum(c.verdict.stray for c in cells) / len(cells),
            "evaluations": sum(c.evaluations for c in cells) // len(cells),
            "seconds": sum(c.seconds for c in cells) / len(cells),
        }
    pictures = [
        {
            "prompt": caption(scene),
            **{
                c.method: {"verdict": c.label, "evaluations": c.evaluations, "iou": [t.iou for t in c.verdict.things]}
                for c in row
            },
        }
        for scene, row in zip(scenes, rows, strict=True)
    ]
    presets = {name: _preset(name, arguments).to_json() for name in arguments.methods if name != "ddim"}
    given = {name: getattr(arguments, name) for name in ("seed", "cfg", "pull", "things")}
    settings = {**given, "ddim": {"steps": DDIM_STEPS, "cfg": _scale(arguments.cfg)}, **presets}
    return {"totals": totals, "pictures": pictures, "settings": settings}
