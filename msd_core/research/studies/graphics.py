"""Vector graphics and pixel art: distilled, and made of a sample by the tools that there are for it.

Every picture has a cell of its own, and what is judged is what its file draws: an SVG by resvg, a sprite by its own
pixels. In the third table a drawn picture is measured, badly, and comes back as an SVG; there the rivals are to restore
it first and to draw that, to trace the measurement as it is, and to fit shapes through the measurement without a model.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...demo.evaluate import draw_scenes
from ...demo.grammar import COLOURS as DEMO_COLOURS
from ...demo.grammar import Scene
from ...demo.judge import judge
from ...demo.model import DEMO_MODEL_PATH, DemoModel, load_demo_model
from ...demo.scenes import caption, draw
from ...denoiser import Denoiser
from ...distil import distil
from ...generators import Generator, PixelArt, Vector, fit
from ...generators.paint import hex_of
from ...info import Info, measure
from ...manipulation import restore
from ...measurement import Measurement, Observation, observe
from ...measurement.blur import Blur
from ...measurement.mask import Mask
from ...measurement.pool import Pool
from ...named import preset_at
from ...optimize import optimize, start
from ...randomness import Rng
from ...units import units_of
from ...warm import sample
from .graphics_sheet import kept, sheets
from .result import Result, Table
from .study import Cell, Context, OnStep, model_digest

IN_ALL = False
PICTURES, QUICK_PICTURES = 24, 1
"""Captions of every table."""
PATHS, CELLS, COLOURS = 32, 32, 8
RESTORED_PATHS = 64
LARGE = 512
"""Pixels a side that an SVG is drawn at beside the model's own size."""
CFG = 3.0
TEN = " ".join(hex_of(torch.tensor(colour)) for colour in DEMO_COLOURS.values())
"""The palette that is given: the colours that captions name."""
WARM = {"steps": 12, "inner_steps": 5, "bandwidth_start": 2.0, "lr": 0.005}
"""Settings of a run from the drawn sample: those of the frontier's warm start."""
Figures = dict[str, float]


def psnr(a: Tensor, b: Tensor) -> float:
    """Of pixels in [0, 1], dB."""
    return float(-10 * (a - b).double().square().mean().clamp(min=1e-12).log10())


def needed() -> tuple[Any, Any]:
    """resvg and vtracer, which are no part of this project.

    Raises:
        ValueError: one is not installed.
    """
    try:
        import resvg_py
        import vtracer
    except ImportError as error:
        raise ValueError(f"{error.name}: the study needs it; install the extra: pip install '.[rivals]'.") from error
    return resvg_py, vtracer


def drawn_svg(document: bytes, side: int) -> Tensor:
    """What resvg draws of a document, (3, side, side) in [0, 1]."""
    made = bytes(needed()[0].svg_to_bytes(svg_string=document.decode(), width=side, height=side))
    return torch.from_numpy(np.array(Image.open(io.BytesIO(made)).convert("RGB"))).movedim(-1, 0) / 255


def traced(picture: Tensor) -> bytes:
    """vtracer's SVG of a picture (1, 3, H, W), with its defaults."""
    pixels = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return needed()[1].convert_raw_image_to_svg(file.getvalue(), img_format="png").encode()


def last_of(prompt: str, generator: Generator, model: DemoModel, **settings: Any) -> tuple[Generator, int]:  # noqa: ANN401
    """The generator at the end of a distillation, and its network rows."""
    *_, state = distil(prompt, generator=generator, model=model, **settings)
    return state.generator, state.evaluations


def fitted(generator: Generator, picture: Tensor) -> Generator:
    """``generator`` fitted to a picture."""
    *_, last = fit(generator, picture)
    return last.generator


# --- text to SVG, and to pixel art ------------------------------------------------------------------------------------

ON_SHEET = ("vector", "msd")
"""Table and way whose pictures are shown, all of them."""
VECTORS = ("sample", "sample, vtracer", "sample, drawn", "sds", "msd", "msd from the drawn sample")
ARTS = ("sample, cut down", "msd", "msd from the sample", "sample, cut to ten colours", "msd, ten colours")


def vector_case(model: DemoModel, scene: Scene, way: str, seed: int) -> Figures | Cell:
    """A caption as an SVG, one way; verdict, shapes, bytes and rows; with the SVG itself, if it is `ON_SHEET`."""
    words, side = caption(scene), model.side
    born = Vector(side, side, paths=PATHS, seed=seed)
    if way in ("sds", "msd"):
        made, rows = last_of(words, born, model, method=way, seed=seed)
        document = made.export("picture.svg")
        figures = _svg_figures(document, scene, side, rows)
        return kept(figures, document) if ("vector", way) == ON_SHEET else figures
    picture, rows = sample(model, words, cfg=CFG, seed=seed)
    if way == "sample":
        return _verdict(picture[0], scene) | {"rows": float(rows)}
    if way == "sample, vtracer":
        return _svg_figures(traced(picture), scene, side, rows)
    made = fitted(born, picture)
    if way == "msd from the drawn sample":
        made, more = last_of(words, made, model, seed=seed, **WARM)
        rows += more
    return _svg_figures(made.export("picture.svg"), scene, side, rows)


def art_case(model: DemoModel, scene: Scene, way: str, seed: int) -> Figures:
    """A caption as pixel art, one way; verdict, colours and rows."""
    words, side, named = caption(scene), model.side, TEN if "ten colours" in way else ""
    born = PixelArt(side, side, cells=CELLS, colours=COLOURS, palette=named, seed=seed)
    if way in ("msd", "msd, ten colours"):
        made, rows = last_of(words, born, model, seed=seed)
        return _art_figures(made, scene, side, rows)
    picture, rows = sample(model, words, cfg=CFG, seed=seed)
    if way == "msd from the sample":
        made, more = last_of(words, fitted(born, picture), model, seed=seed, **WARM)
        return _art_figures(made, scene, side, rows + more)
    shown = cut_down(picture, born if named else None)
    return _verdict(shown, scene) | {"colours": float(len(shown.flatten(1).T.unique(dim=0))), "rows": float(rows)}


def cut_down(picture: Tensor, palette: PixelArt | None) -> Tensor:
    """A picture scaled down and quantised by Pillow, as one does, and shown at its own size: (3, H, W)."""
    pixels = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).contiguous().numpy()
    small = Image.fromarray(pixels).resize((CELLS, CELLS), Image.Resampling.BOX)
    if palette is None:
        small = small.quantize(COLOURS, dither=Image.Dither.NONE)
    else:
        known = Image.new("P", (1, 1))
        known.putpalette((palette.colours().detach() * 255).round().to(torch.uint8).flatten().tolist())
        small = small.quantize(palette=known, dither=Image.Dither.NONE)
    large = small.convert("RGB").resize((picture.shape[3], picture.shape[2]), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(large)).movedim(-1, 0) / 255


def _verdict(picture: Tensor, scene: Scene) -> Figures:
    verdict = judge(picture, scene)
    return {
        "accepted": float(verdict.accepted),
        "IoU": sum(thing.iou for thing in verdict.things) / len(verdict.things),
    }


def _svg_figures(document: bytes, scene: Scene, side: int, rows: int) -> Figures:
    size = {"shapes": float(document.count(b"<path")), "bytes": float(len(document))}
    return _verdict(drawn_svg(document, side), scene) | size | {"rows": float(rows)}


def _art_figures(made: Generator, scene: Scene, side: int, rows: int) -> Figures:
    with torch.no_grad():
        shown = made.render(made.frame(side, side))[0]
    return _verdict(shown, scene) | {"colours": float(len(shown.flatten(1).T.unique(dim=0))), "rows": float(rows)}


# --- a bad picture to an SVG ------------------------------------------------------------------------------------------

RESTORATIONS = ("as given, vtracer", "fit through", "restored, then drawn", "msd through")


def tasks(side: int) -> Mapping[str, tuple[Measurement, float]]:
    """What is done to a picture, and the noise."""
    hole = torch.ones(1, 1, side, side)
    hole[..., 5 * side // 16 : 11 * side // 16, 5 * side // 16 : 11 * side // 16] = 0
    return {
        "blur of 4": (Blur(4.0), 0.01),
        "x4": (Pool(4), 0.0),
        "x8": (Pool(8), 0.0),
        "hole": (Mask(hole), 0.0),
        "noise of .2": (Pool(1), 0.2),
    }


def restored_case(model: DemoModel, scene: Scene, task: str, way: str, seed: int) -> Figures:
    """A measured picture as an SVG, one way; PSNR at two sizes against the drawing, verdict, bytes and rows."""
    words, side = caption(scene), model.side
    measurement, noise = tasks(side)[task]
    rng = torch.Generator().manual_seed(seed)
    observation = observe(draw([scene], side), measurement, noise, rng)
    plain = F.interpolate(observation.b, (side, side), mode="bicubic").clamp(0, 1)
    born, rows = Vector(side, side, paths=RESTORED_PATHS, simplify=99.0, seed=seed), 0
    if way == "as given, vtracer":
        document = traced(plain)
    elif way == "fit through":
        document = through(fitted(born, plain), observation, seed).export("picture.svg")
    elif way == "restored, then drawn":
        found = restore(observation, (side, side), words, model=model, seed=seed)
        document, rows = fitted(born, found.picture).export("picture.svg"), found.evaluations
    else:
        made, rows = last_of(words, fitted(born, plain), model, observation=observation, seed=seed)
        document = made.export("picture.svg")
    drawn = {size: draw([scene], size)[0] for size in (side, LARGE)}
    found = {f"PSNR at {size}": psnr(drawn_svg(document, size), picture) for size, picture in drawn.items()}
    return found | _svg_figures(document, scene, side, rows)


def through(generator: Generator, observation: Observation, seed: int, steps: int = 300) -> Generator:
    """``generator`` fitted so that what is measured of its picture is what was observed."""

    def pull(x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        gradient = -observation.measurement.adjoint(observation.missing(x))
        return gradient, measure(gradient, 0)

    *_, last = optimize(start(generator, steps=steps, seed=seed), pull, lambda z, sigma: z)
    return last.generator


# --- the study --------------------------------------------------------------------------------------------------------

Case = Callable[[DemoModel, Scene, int], Figures | Cell]


def cases() -> dict[tuple[str, str], Case]:
    """What is done with each scene, by table or task and way."""
    found: dict[tuple[str, str], Case] = {}
    for way in VECTORS:
        found["vector", way] = lambda model, scene, seed, way=way: vector_case(model, scene, way, seed)
    for way in ARTS:
        found["pixel art", way] = lambda model, scene, seed, way=way: art_case(model, scene, way, seed)
    for task in tasks(1):
        for way in RESTORATIONS:
            found[task, way] = lambda model, scene, seed, task=task, way=way: restored_case(
                model, scene, task, way, seed
            )
    return found


@cache
def scenes_of(seed: int) -> list[Scene]:
    """Scenes of one, two and three things in turn."""
    return draw_scenes(PICTURES, seed + 41_000, (1, 2, 3))


def keyed(task: str, way: str) -> dict[str, Any]:
    """The whole run of a way that distils, defaults included: with other ones a cell is another one."""
    method = next((name for name in ("msd", "sds") if name in way), None)
    if method is None:
        return {}
    warm = WARM if "from the" in way else {}
    kind = PixelArt if task == "pixel art" else Vector
    model = load_demo_model()
    return preset_at(lambda: units_of(model, model.side, model.side), method, warm, kind).to_json()


def cell(context: Context, task: str, way: str, case: Case, picture: int) -> Cell:
    """The figures of one picture, computed once and kept."""

    def compute(progress: OnStep) -> Cell:
        found = case(load_demo_model(), scenes_of(context.seed)[picture], context.seed + picture)
        return found if isinstance(found, Cell) else Cell(found)

    key = {"task": task, "way": way, "picture": picture, "model": model_digest(DEMO_MODEL_PATH)}
    key["run"] = keyed(task, way)
    if (task, way) == ON_SHEET:
        key["version"] = 2  # with its SVG
    return context.cell("graphics", key, compute)


def run(context: Context) -> Result:
    """Three tables, a row a way, and the sheets of all captions."""
    needed()
    listed = cases()
    count = QUICK_PICTURES if context.quick else PICTURES
    context.plan("graphics", count * len(listed))
    found, figures = {}, []
    for (task, way), case in listed.items():
        cells = [cell(context, task, way, case, picture) for picture in range(count)]
        if (task, way) == ON_SHEET:
            words = [caption(scene) for scene in scenes_of(context.seed)[: len(cells)]]
            figures = sheets(cells, words, drawn_svg, context.folder / "cells")
        each = [one.numbers for one in cells]
        found[task, way] = {name: math.fsum(one[name] for one in each) / len(each) for name in each[0]}
    tables = [_table(name, title, columns, found, count) for name, title, columns in TABLES]
    settings = {
        "pictures": PICTURES,
        "paths": PATHS,
        "restored paths": RESTORED_PATHS,
        "cells": CELLS,
        "warm": dict(WARM),
    }
    return Result("graphics", "Vector graphics and pixel art of the demo model", tables, figures, settings=settings)


TABLES = (
    ("vector", "A caption as an SVG", ("accepted", "IoU", "shapes", "bytes", "rows")),
    ("pixel art", "A caption as pixel art", ("accepted", "IoU", "colours", "rows")),
    (
        "restored",
        "A measured picture as an SVG",
        ("accepted", "PSNR at 128", f"PSNR at {LARGE}", "shapes", "bytes", "rows"),
    ),
)
FORMATS = {"accepted": ".2f", "IoU": ".3f", "shapes": ".0f", "bytes": ".0f", "rows": ".0f", "colours": ".1f"}


def _table(name: str, title: str, columns: tuple[str, ...], found: dict[tuple[str, str], Figures], count: int) -> Table:
    """The rows of one table; a figure that a way has not is left empty."""
    own = (name,) if name != "restored" else tuple(tasks(1))
    rows = [[task, way, *(figures.get(c) for c in columns)] for (task, way), figures in found.items() if task in own]
    note = f"{count} drawn captions of one to three things, one seed. Rows: of the network, a picture."
    formats = {column: FORMATS.get(column, ".1f") for column in columns}
    return Table(name.replace(" ", "-"), title, ("task", "way", *columns), rows, note, formats)
