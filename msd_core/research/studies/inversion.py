"""Every inversion on the demo model: how close the picture comes back at each cfg, and what that costs.

Drawn pictures are encoded, inverted under their own caption, and walked back down with the same denoiser. What comes
back is compared with the latent, and after decoding with the autoencoder's own round trip, so that its loss does not
count.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from ...demo.evaluate import draw_scenes
from ...demo.model import DEMO_MODEL_PATH, DemoModel, load_demo_model
from ...demo.scenes import caption, draw
from ...denoiser import RowCounter
from ...inversion import INVERSIONS, invert
from ...inversion.negative_prompt import negative_prompt
from ...inversion.resample import resample, round_trip_psnr
from ...schedule import sigma_schedule
from ...settings import to_json
from .result import Result, Table
from .study import Cell, Context, OnStep, model_digest

IN_ALL = False
CFGS = (1.0, 3.0, 7.5)
PICTURES, QUICK_PICTURES, STEPS = 100, 4, 50
BATCH = 10
"""Pictures of a cell, which an interruption costs."""
SCHEDULE = "normal"
WITHOUT_GUIDANCE = {("null-text", 1.0)}
"""What is left out: at cfg 1 the unconditional embedding plays no part."""
NEGATIVE_PROMPT = "implicit + negative prompt"

COLUMNS = (
    "inversion", "cfg", "latent, median dB", "latent, worst dB", "picture, median dB", "picture, worst dB",
    "evaluations", "rows up", "rows down", "sum of residuals", "unconverged",
)  # fmt: skip
FORMATS = {
    "cfg": "g", "latent, median dB": ".1f", "latent, worst dB": ".1f", "picture, median dB": ".1f",
    "picture, worst dB": ".1f", "evaluations": ".0f", "rows up": ".0f", "rows down": ".0f", "sum of residuals": ".2g",
    "unconverged": ".3f",
}  # fmt: skip


def round_trip(context: Context, name: str, cfg: float, pictures: int) -> dict[str, float | None]:
    """The figures of one row."""
    parts = [_part(context, name, cfg, first, min(first + BATCH, pictures)) for first in range(0, pictures, BATCH)]
    values = {key: torch.cat([part.tensors[key] for part in parts]) for key in parts[0].tensors}
    means = {key: float(values[key].mean()) for key in ("evaluations", "rows up", "rows down")}
    return {
        **_spread("latent", values["latent"]),
        **_spread("picture", values["picture"]),
        **means,
        "sum of residuals": float(values["sum of residuals"].median()),
        "unconverged": float(values["unconverged"].mean()) if "unconverged" in values else None,
    }


def _part(context: Context, name: str, cfg: float, first: int, end: int) -> Cell:
    """The figures of the pictures from ``first`` up to ``end``, a number a picture."""
    inversion = INVERSIONS["implicit" if name == NEGATIVE_PROMPT else name]()
    model = {"model": model_digest(DEMO_MODEL_PATH), "levels": SCHEDULE, "steps": STEPS}
    key = {"name": name, "cfg": cfg, "first": first, "end": end, "settings": to_json(inversion), **model}

    def compute(progress: OnStep) -> Cell:
        x, captions = _latents(first, end, context.seed)
        network = load_demo_model()
        denoiser = network.denoiser(captions, cfg=1.0 if name == NEGATIVE_PROMPT else cfg)
        sigmas = sigma_schedule(SCHEDULE, STEPS, schedule=network.schedule)
        trajectory = invert(x, denoiser, sigmas, inversion, context.rng("inversion", name, first))
        progress(1, 2)
        down = RowCounter(negative_prompt(denoiser, denoiser, cfg) if name == NEGATIVE_PROMPT else denoiser)
        back = resample(trajectory, down)
        progress(2, 2)
        report = trajectory.report
        assert report is not None  # noqa: S101 - invert makes one
        found = {
            "latent": round_trip_psnr(x, back),
            "picture": _picture_psnr(network, x, back),
            "evaluations": report.evaluations.double(),
            "rows up": x.new_full((len(x),), trajectory.evaluations / len(x), dtype=torch.float64),
            "rows down": x.new_full((len(x),), down.rows / len(x), dtype=torch.float64),
            "sum of residuals": report.total,
        }
        if report.tolerance is not None:
            found["unconverged"] = report.unconverged.double().mean(dim=0)
        return Cell({}, found)

    return context.cell("inversion", key, compute)


@cache
def _latents(first: int, end: int, seed: int) -> tuple[Tensor, list[str]]:
    """Latents of the drawn pictures from ``first`` up to ``end``, (B, channels, h, w), and their captions."""
    model, scenes = load_demo_model(), draw_scenes(end, seed)
    drawn = draw(scenes, model.side, torch.Generator().manual_seed(seed))[first:]
    with torch.no_grad():
        return model.encode(drawn), [caption(scene) for scene in scenes[first:]]


@torch.no_grad()
def _picture_psnr(model: DemoModel, x: Tensor, back: Tensor) -> Tensor:
    """Of the decoded ``back`` against the decoded ``x``, dB, (B,)."""
    return round_trip_psnr(model.decode(x), model.decode(back), peak=1.0)


def _spread(name: str, values: Tensor) -> dict[str, float]:
    return {f"{name}, median dB": float(values.median()), f"{name}, worst dB": float(values.min())}


def run(context: Context) -> Result:
    """One table: a row for each inversion and cfg."""
    pictures = QUICK_PICTURES if context.quick else PICTURES
    names = [*INVERSIONS, NEGATIVE_PROMPT]
    cases = [(name, cfg) for name in names for cfg in CFGS if (name, cfg) not in WITHOUT_GUIDANCE]
    context.plan("inversion", len(cases) * math.ceil(pictures / BATCH))
    rows = []
    for name, cfg in cases:
        found = round_trip(context, name, cfg, pictures)
        rows.append([name, cfg, *(_known(found[column]) for column in COLUMNS[2:])])
    note = (
        f"{pictures} drawn pictures, {STEPS} steps of the {SCHEDULE} levels, default settings. PSNR of the latent (its "
        "own range is the peak) and of the decoded picture against the autoencoder's round trip. Evaluations: of the "
        "denoiser, on the way up, a picture; rows: of the network, a picture. Inf: equal to the bit."
    )
    table = Table("inversion", "Round trip of every inversion on the demo model", COLUMNS, rows, note, FORMATS)
    settings = {"cfg": list(CFGS), "pictures": pictures, "steps": STEPS, "schedule": SCHEDULE}
    return Result("inversion", "Inversions on the demo model", [table], settings=settings)


def _known(value: float | None) -> float | None:
    """``value``, or None for what was not measured."""
    return None if value is None or value != value else value
