"""Fig. 6 on the demo model: what a λ asks for, early, in the middle and late in a run.

The picture that the model wants, x + m(x; λ), for a kernel that hardly counts, for those of the schedule, and for one
that hardly lets go. The paper shows pictures of Stable Diffusion; here the judge reads them, too, and several draws say
how far they differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...demo.model import load_demo_model
from ...mean_shift import mean_shift
from .captions import CFG, TOGETHER, captions, eight_bits, encoded, in_cells, passed, verdicts
from .result import Figure, Result, Table
from .study import Cell, Context, OnStep, digest_of

IN_ALL = False
CAPTIONS, QUICK_CAPTIONS = 12, 2
STEPS = 20
PLACES = {"early": 2, "middle": 8, "late": 20}
BANDWIDTHS = (1000.0, 8.0, 2.0, 0.7, 0.1)
DRAWS = 4
LEVELS = 16


def cell_of(context: Context, prompts: list[str], place: str, bandwidth: float) -> Cell:
    """The targets of some captions at one place of their runs, under one λ."""
    steps = 2 if context.quick else STEPS
    marks = sorted({min(mark, steps) for mark in PLACES.values()})
    mark = min(PLACES[place], steps)
    pictures = passed(context, prompts, "msd", marks, steps=steps).tensors["pictures"][marks.index(mark)]

    def compute(progress: OnStep) -> Cell:
        model, x, rng = load_demo_model(), encoded(pictures), context.rng("fig6", prompts[0], mark, bandwidth)
        rows = x.repeat(DRAWS, 1, 1, 1)
        denoiser = model.denoiser(prompts, "", CFG)
        target, _ = mean_shift(rows, denoiser, bandwidth, estimator="exact", steps=LEVELS, rng=rng)
        drawn = target.unflatten(0, (DRAWS, len(x)))
        with torch.no_grad():
            wanted = eight_bits(model.decode(target))
        accepted, iou = verdicts(wanted, prompts * DRAWS)
        shift = float((drawn.mean(0) - x).square().mean().sqrt())
        spread = float(drawn.var(0).mean().sqrt())
        numbers = {"shift": shift, "spread": spread, "accepted": accepted.tolist(), "IoU": iou.tolist()}
        return Cell(numbers, {"targets": wanted[: len(x)], "pictures": pictures})

    sizes = {"bandwidth": bandwidth, "draws": DRAWS, "levels": LEVELS, "cfg": CFG}
    key = {"prompts": prompts, "mark": mark, **sizes, "pictures": digest_of(pictures)}
    return context.cell("fig6", key, compute)


def run(context: Context) -> Result:
    """A table by place and λ, and the pictures of the first captions."""
    batches = in_cells(captions(context.seed, QUICK_CAPTIONS if context.quick else CAPTIONS))
    context.plan("fig6", len(batches) * (1 + 2 * len(PLACES) * len(BANDWIDTHS)))
    found = {(p, b): [cell_of(context, prompts, p, b) for prompts in batches] for p in PLACES for b in BANDWIDTHS}
    rows = [[place, bandwidth, *_means(cells)] for (place, bandwidth), cells in found.items()]
    columns = ("place", "λ", "|m|", "spread", "accepted", "IoU")
    formats = {"λ": ".4g", "|m|": ".2f", "spread": ".2f", "accepted": ".2f", "IoU": ".2f"}
    note = (
        f"Targets x + m(x; λ) of {sum(map(len, batches))} captions, {DRAWS} draws each, judged as "
        "pictures. |m| and the standard deviation between draws, spread: root mean squares over the latent's numbers."
    )
    table = Table("fig6", "What a λ asks for", columns, rows, note, formats)
    caption = (
        "From left to right: the picture, and what the model wants of it under each λ. From above: after 2, 8 and 20 "
        f"of 20 targets. First caption: {batches[0][0]}."
    )
    settings = {"places": PLACES, "bandwidths": list(BANDWIDTHS), "draws": DRAWS, "levels": LEVELS, "cfg": CFG}
    return Result("fig6", "Fig. 6: λ early, in the middle and late", [table],
                  [Figure("fig6", "Fig. 6 on the demo model", caption, _figure(found, min(2, TOGETHER)))],
                  settings=settings)  # fmt: skip


def _means(cells: list[Cell]) -> list[float]:
    means = [sum(cell.numbers[name] for cell in cells) / len(cells) for name in ("shift", "spread")]
    judged = [torch.tensor([value for cell in cells for value in cell.numbers[name]]) for name in ("accepted", "IoU")]
    return [*means, *(float(values.mean()) for values in judged)]


def _figure(found: Mapping[tuple[str, float], list[Cell]], count: int) -> Any:  # noqa: ANN401 - matplotlib's
    from matplotlib import pyplot as plt

    count = min(count, len(next(iter(found.values()))[0].tensors["targets"]))
    places, bandwidths = list(PLACES), list(BANDWIDTHS)
    figure, axes = plt.subplots(count * len(places), 1 + len(bandwidths), figsize=(8.4, 1.42 * count * len(places)))
    for number in range(count):
        for row, place in enumerate(places):
            shown: list[tuple[str, Tensor]] = []
            for bandwidth in bandwidths:
                cell = found[place, bandwidth][0]
                shown.append((f"λ = {bandwidth:g}", cell.tensors["targets"][number]))
            shown.insert(0, ("x", found[place, bandwidths[0]][0].tensors["pictures"][number]))
            for axis, (title, picture) in zip(axes[number * len(places) + row], shown, strict=True):
                axis.imshow(picture.movedim(0, -1).numpy())
                axis.set(xticks=[], yticks=[])
                if row == 0:
                    axis.set_title(title, fontsize=8)
            axes[number * len(places) + row][0].set_ylabel(place, fontsize=8)
    figure.tight_layout(pad=0.4)
    return figure
