"""One word of a picture changed, by every way that there is, at equal network rows.

Drawn scenes of two and three things; the colour or the kind of one thing becomes another, and the rest is to stay where
and as it is. Each picture and way has a cell of its own. Of a way's settings those are taken that do best on other
pictures: by the PSNR of what was to stay, with 0 dB for a picture that the judge refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image

from ...atomic import write_whole
from ...demo.judge import judge
from ...demo.model import DEMO_MODEL_PATH, load_demo_model
from ...demo.scenes import Scene, caption
from ...sheet import Entry, contact_sheet
from .captions import eight_bits, interval, with_interval
from .drawn_pictures import drawn, overlap, psnr, reworded, where_alike
from .edit_grids import WAYS
from .edit_ways import Way
from .figures import image_bytes
from .result import Figure, Result, Table
from .study import Cell, Context, OnStep, model_digest

IN_ALL = False
PICTURES, QUICK_PICTURES, TUNED = 100, 2, 6
"""Pictures that are reported, and those that settings are chosen on; ``quick`` takes the first of each grid."""
BUDGETS = (80, 24)
"""Network rows of an edit: 40 and 12 steps up and down."""
SHOWN = 6
"""Pictures on the sheet."""
TUNING_SEED = 500_000
"""Added to the seed of the pictures that settings are chosen on."""


def scenes_of(context: Context, i: int, count: int, tuning: bool) -> tuple[Scene, Scene, torch.Tensor]:
    """A scene, the same with another word, and the picture (1, 3, side, side) of the first."""
    seed = context.seed + (TUNING_SEED if tuning else 0)
    scenes, pictures = drawn(count, seed)
    return scenes[i], reworded(scenes[i], context.rng("word", i, tuning)), pictures[i : i + 1]


def edited(context: Context, name: str, way: Way, rows: int, i: int, count: int, *, tuning: bool = False) -> Cell:
    """The figures of one picture by one way; the picture itself for the sheet."""
    settings = {"kind": type(way).__name__, **asdict(way)}  # type: ignore[call-overload]
    shown = not tuning and rows == BUDGETS[0] and i < SHOWN
    key = {"way": name, "settings": settings, "rows": rows, "picture": i, "tuning": tuning, "shown": shown}

    def compute(progress: OnStep) -> Cell:
        model = load_demo_model()
        before, after, picture = scenes_of(context, i, count, tuning)
        with torch.no_grad():
            made = way(model, picture, caption(before), caption(after), rows, context.rng("noise", i, tuning))
            again = model.decode(model.encode(picture))
        same = where_alike(before, after, model.side)
        figures = {
            "accepted": float(judge(made.picture[0], after).accepted),
            "PSNR": psnr(made.picture[..., same], picture[..., same]),
            "drift": psnr(made.picture[..., same], again[..., same]),
            "IoU": overlap(made.picture[0], after),
            "rows": float(made.evaluations),
        }
        return Cell(figures, {"picture": eight_bits(made.picture[0])} if shown else {})

    return context.cell("edits", {**key, "model": model_digest(DEMO_MODEL_PATH)}, compute)


def chosen(context: Context, name: str, rows: int) -> Way:
    """The setting of the grid that does best on other pictures; of equals the first."""
    grid = WAYS[name]
    if context.quick or len(grid) == 1:
        return grid[0]

    def kept(way: Way) -> float:
        found = [edited(context, name, way, rows, i, TUNED, tuning=True).numbers for i in range(TUNED)]
        return sum(one["accepted"] * one["PSNR"] for one in found)

    return max(grid, key=kept)


def words(way: Way) -> str:
    """What is chosen of a way, in short."""
    plain = asdict(way)  # type: ignore[call-overload]
    settings, first = plain.pop("settings", {}), plain.pop("first", None)
    for name in ("method", "inversion"):
        plain.pop(name, None)
    told = [f"{k} {v:g}" if isinstance(v, (int, float)) else str(v) for k, v in {**plain, **settings}.items()]
    return ", ".join(one for one in told if one != "gd") + (f"; from start {first['start']:g}" if first else "")


def row_of(context: Context, name: str, way: Way, cells: Sequence[Cell], changed: Sequence[str]) -> list[Any]:
    """The table's row of one way."""
    values = {key: torch.tensor([cell.numbers[key] for cell in cells]) for key in cells[0].numbers}
    drift = with_interval(values["drift"], 1) if values["rows"].any() else None
    kinds = [
        float(values["accepted"][[one == kind for one in changed]].mean()) if kind in changed else None
        for kind in ("colour", "shape")
    ]
    return [
        name,
        words(way) if len(WAYS[name]) > 1 else "",
        len(WAYS[name]),
        with_interval(values["accepted"]),
        *kinds,
        with_interval(values["PSNR"], 1),
        drift,
        with_interval(values["IoU"], 3),
        interval(values["rows"]).value,
    ]


def changed_word(before: Scene, after: Scene) -> str:
    """What of a thing is another: "colour" or "shape"."""
    pairs = zip(before.things, after.things, strict=True)
    return "colour" if any(one.colour != other.colour for one, other in pairs) else "shape"


def sheet(context: Context, found: dict[str, list[Cell]], count: int) -> Figure:
    """The first pictures by every way, green where the judge accepts."""
    rows = []
    for i in range(min(SHOWN, count)):
        before, after, picture = scenes_of(context, i, count, False)
        entries = [Entry(_image(eight_bits(picture[0])), [""])]
        for cells in found.values():
            numbers, shown = cells[i].numbers, cells[i].tensors["picture"]
            entries.append(Entry(_image(shown), [f"{numbers['PSNR']:.1f} dB"], bool(numbers["accepted"])))
        rows.append((f"{caption(before)}   becomes   {caption(after)}", entries))
    path = context.folder / "edits-sheet.png"
    write_whole(path, image_bytes(contact_sheet(["before", *found], rows)))
    return Figure(
        "sheet", f"One word changed, {BUDGETS[0]} rows", "Frames: the judge's verdict on the new caption.", path
    )


def _image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray(picture.movedim(0, -1).contiguous().numpy())


def run(context: Context) -> Result:
    """A table a budget, and the sheet of the first."""
    count = QUICK_PICTURES if context.quick else PICTURES
    tried = 0 if context.quick else sum(TUNED * len(grid) for grid in WAYS.values() if len(grid) > 1)
    context.plan("edits", len(BUDGETS) * (len(WAYS) * count + tried))
    columns = ("way", "setting", "tried", "accepted", "colour", "kind", "PSNR", "drift", "IoU", "rows")
    note = (
        f"{count} drawn scenes of two and three things, one word changed. Accepted: by the judge, for the new caption; "
        "where the word was a colour, or the kind of a thing. PSNR: against the picture where the drawings before and "
        "after agree, which the autoencoder limits; drift: there, against what the autoencoder alone gives back. IoU: "
        "of what is no ground, with the drawing after. Rows: of the network. Settings: the best of those tried on "
        f"{TUNED} other pictures. 95 % bootstrap intervals over the pictures."
    )
    changed = [changed_word(*scenes_of(context, i, count, False)[:2]) for i in range(count)]
    tables, figures = [], []
    for budget in BUDGETS:
        ways = {name: chosen(context, name, budget) for name in WAYS}
        found = {
            name: [edited(context, name, way, budget, i, count) for i in range(count)] for name, way in ways.items()
        }
        rows = [row_of(context, name, ways[name], cells, changed) for name, cells in found.items()]
        formats = {"colour": ".2f", "kind": ".2f", "rows": ".0f"}
        title = f"One word changed, {budget} network rows"
        tables.append(Table(f"edits-{budget}", title, columns, rows, note, formats))
        if not figures:
            figures.append(sheet(context, found, count))
    settings = {"pictures": count, "budgets": list(BUDGETS)}
    return Result("edits", "One word of a picture changed", tables, figures, settings=settings)
