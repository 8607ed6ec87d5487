"""Tables of the DREAM study."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from . import dream_demo as demo
from . import dream_pictures as pictures
from . import dream_toy as toy
from .dream_gaussian import converged_denoiser
from .dream_pictures import LABELS, NAMES, Outcomes, fewest, mean_and_error, means
from .result import Table
from .study import Cell

LEVELS = (0.1, 0.3, 1.0, 3.0)


def _row(figures: pictures.Measured) -> list[float]:
    """PSNR and its error, and the other figures' means."""
    return [*mean_and_error(figures["psnr"]), *(mean_and_error(figures[k])[0] for k in list(LABELS)[1:])]


def by_steps(plan: pictures.Plan, prediction: str, outcomes: Outcomes, base: pictures.Measured) -> Table:
    """Every figure against the number of DDIM steps."""
    rows = [["bicubic", None, *_row(base), None]]
    for n in plan.steps:
        walk = (plan.snapshots[-1], n)
        for p, outcome in outcomes.items():
            difference = outcome.figures[walk]["psnr"] - outcomes[math.inf].figures[walk]["psnr"]
            shown = None if math.isinf(p) else "{:+.2f} ± {:.2f}".format(*mean_and_error(difference))
            rows.append([NAMES[p], n, *_row(outcome.figures[walk]), shown])
    columns = ["training", "DDIM steps", "PSNR", "error", "SSIM", "sharpness", "consistency", "PSNR against p = ∞"]
    return Table(
        f"dream-steps-{prediction}",
        f"{prediction.capitalize()} network: quality after {plan.snapshots[-1]:,} iterations, against sampling steps",
        columns,
        rows,
        f"{plan.held_out} held-out pictures, one sample each, the same starting noise for all. PSNR and consistency in "
        "dB; error: standard error over pictures; the last column is the mean paired difference. Sharpness: energy of "
        "neighbouring pixels' differences over the truth's, averaged over pictures; 1 is right.",
        {"PSNR": ".2f", "error": ".2f", "SSIM": ".3f", "sharpness": ".2f", "consistency": ".1f"},
    )


def by_iterations(plan: pictures.Plan, prediction: str, outcomes: Outcomes) -> Table:
    """Losses and figures against the number of training iterations."""
    rows = []
    for i, snapshot in enumerate(plan.snapshots):
        before = plan.snapshots[i - 1] if i else 0
        for p, outcome in outcomes.items():
            loss = float(outcome.losses[before:snapshot].mean())
            measured = _row(outcome.figures[snapshot, plan.curve_steps])
            rows.append([snapshot, NAMES[p], loss, outcome.held_out[snapshot], *measured])
    return Table(
        f"dream-iterations-{prediction}",
        f"{prediction.capitalize()} network: quality against training iterations, {plan.curve_steps} DDIM steps",
        ["iterations", "training", "own loss", "held-out loss", "PSNR", "error", "SSIM", "sharpness", "consistency"],
        rows,
        "Own loss: mean since the row before, of the objective that was minimised; it is not comparable between "
        "exponents, whose targets have different variances. Held-out loss: the standard objective (p = ∞) of the "
        "averaged weights, on the same pictures, levels and noises for all.",
        {"PSNR": ".2f", "error": ".2f", "SSIM": ".3f", "sharpness": ".2f", "consistency": ".1f"},
    )


def equal_quality(plan: pictures.Plan, networks: Mapping[str, Outcomes]) -> Table:
    """Who reaches whose quality in how many steps and iterations, both ways."""
    pairs = [pair for p in (1.0, 0.0) for pair in ((p, math.inf), (math.inf, p))]
    rows = []
    for prediction, outcomes in networks.items():
        for figure in ("psnr", "ssim"):
            for a, b in pairs:
                steps = dict(zip(plan.steps, means(outcomes[a], pictures.final(plan), figure), strict=True))
                goal = means(outcomes[b], pictures.final(plan)[-1:], figure)[0]
                iterations = dict(zip(plan.snapshots, means(outcomes[a], pictures.curve(plan), figure), strict=True))
                end = means(outcomes[b], pictures.curve(plan)[-1:], figure)[0]
                found = [goal, fewest(steps, goal), end, fewest(iterations, end)]
                rows.append([prediction, LABELS[figure], NAMES[a], NAMES[b], *found])
    last, total = plan.steps[-1], plan.snapshots[-1]
    columns = [f"its value at {last} steps", "DDIM steps", f"its value after {total:,}", "iterations"]
    return Table(
        "dream-equal",
        "Fewest steps and iterations to another training's quality",
        ["network", "figure", "training", "reaches", *columns],
        rows,
        f"DDIM steps: the fewest at which it is as good as the other is at {last} steps, both fully trained. "
        f"Iterations: the fewest after which it is as good as the other is after {total:,}, both at {plan.curve_steps} "
        "steps. A dash: never. Only fidelity counts here; see sharpness for the other side.",
    )


def gaussian() -> Table:
    """The closed form."""
    rows = [[s, *(converged_denoiser(s, p) for p in (math.inf, 2.0, 1.0, 0.5, 0.0))] for s in LEVELS]
    columns = ["σ", "p = ∞: E[y | z]/z", "p = 2", "p = 1", "p = 0.5", "p = 0"]
    return Table(
        "dream-gaussian",
        "D(z; σ)/z after training to convergence on N(0, 1)",
        columns,
        rows,
        "In closed form, for a linear denoiser. 1 keeps z, 0 answers with the mean of the data.",
        {"σ": "g"} | dict.fromkeys(columns[1:], ".4f"),
    )


def toy_table(plan: toy.Plan, trainings: Mapping[str, Mapping], entropy: float) -> Table:
    """Figures of the learned denoiser in the plane."""
    rows = [
        [snapshot, name, *(numbers[figure][i] for figure in toy.FIGURES)]
        for i, snapshot in enumerate(plan.snapshots)
        for name, numbers in trainings.items()
    ]
    return Table(
        "dream-toy",
        f"The learned denoiser of the {plan.density} (class {plan.cls}) against training iterations",
        ["iterations", "training", "score error", "NLL", "precision", "recall"],
        rows,
        "Score error: mean of σ²|s_θ - s|² against the exact score, over the training's levels. NLL (nats), precision "
        f"and recall (k = 3) of {plan.points:,} DDIM samples in {plan.steps} steps. As many points of the density "
        f"itself have an NLL of {entropy:.3f}.",
    )


def demo_table(plan: demo.Plan, outcomes: Mapping[str, Cell]) -> Table:
    """Held-out losses and the judge's figures of the demo model."""
    rows = []
    for name, cell in outcomes.items():
        quarters = cell.numbers["held_out"][-1]
        judged = [mean_and_error(torch.tensor(cell.numbers[k]))[0] for k in (*demo.FIGURES, "iou", "stray")]
        steps = {demo.SHIPPED: demo.SHIPPED_STEPS, demo.UNTRAINED: 0}.get(name, plan.snapshots[-1])
        rows.append([name, steps, sum(quarters) / len(quarters), *quarters, *judged])
    levels = [f"quarter {i + 1}" for i in range(demo.QUARTERS)]
    shares = ["accepted", "colour", "shape", "background"]
    return Table(
        "dream-demo",
        f"The demo model, trained for {plan.snapshots[-1]:,} steps of batch {plan.batch}",
        ["training", "steps", "held-out loss", *levels, *shares, "IoU", "stray"],
        rows,
        f"Held-out loss: the standard objective (p = ∞) of the averaged weights on {plan.held_out} scenes, with one "
        "level and one noise each, the same for all; then in each quarter of the schedule, from low noise to high. "
        f"Samples: {plan.prompts} captions of one object, {plan.steps} DDIM steps, cfg {plan.cfg:g}, the same starting "
        "noise for all. Shares of pictures in which the object's colour is there, its shape and the background's "
        "colour are right; accepted: all three. IoU: of the region of that colour with the shape that fits it best, "
        "which blobs have too. Stray: share of pixels that are neither object nor background. The shipped model's "
        f"batch was {demo.SHIPPED_BATCH}.",
        dict.fromkeys(levels, ".4f") | dict.fromkeys(shares, ".2f") | {"IoU": ".3f", "stray": ".3f"},
    )
