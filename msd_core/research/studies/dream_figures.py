"""Figures of the DREAM study."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from . import dream_demo as demo
from . import dream_pictures as pictures
from . import dream_toy as toy
from .dream_pictures import LABELS, NAMES, Outcomes, mean_and_error
from .figures import curves, panels
from .result import Figure
from .study import Cell

_LOSS_CAPTION = (
    "Left: the objective each training minimised; with DREAM the target noise n + λ(n - ε̂) has another variance, so "
    "that heights are not comparable. Right: the same objective for all."
)


def _smooth(values: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Iterations and means over the last ``window`` losses, at every window's end."""
    window = min(window, len(values))
    whole = values[: len(values) // window * window].view(-1, window).mean(dim=1)
    return (torch.arange(len(whole)) + 1) * window, whole


def loss_figure(plan: pictures.Plan, networks: Mapping[str, Outcomes]) -> Figure:
    """Losses against iterations."""
    figure, axes = panels(len(networks), 2, height=2.7 * len(networks))
    for line, (prediction, outcomes) in zip(axes, networks.items(), strict=True):
        own = {NAMES[p]: _smooth(o.losses, 32) for p, o in outcomes.items()}
        held = {NAMES[p]: (plan.snapshots, [o.held_out[s] for s in plan.snapshots]) for p, o in outcomes.items()}
        titles = ("own objective (mean of 32)", "standard objective, held out, averaged weights")
        for ax, series, title in zip(line, (own, held), titles, strict=True):
            title = f"{prediction}: {title}"
            curves(ax, series, xlabel="iterations", ylabel="loss", title=title, xscale="log", yscale="log")
    return Figure("dream-loss", "Losses of the super-resolution training", _LOSS_CAPTION, figure)


def quality_figure(plan: pictures.Plan, prediction: str, outcomes: Outcomes, base: pictures.Measured) -> Figure:
    """Quality against iterations and against DDIM steps."""
    figure, axes = panels(2, 3, height=5.6)
    walks = ((pictures.curve(plan), plan.snapshots, "iterations"), (pictures.final(plan), plan.steps, "DDIM steps"))
    for row, (where, x, xlabel) in zip(axes, walks, strict=True):
        for ax, name in zip(row, ("psnr", "ssim", "sharpness"), strict=True):
            series = {}
            for p, outcome in outcomes.items():
                points = [mean_and_error(outcome.figures[walk][name]) for walk in where]
                series[NAMES[p]] = (x, *map(list, zip(*points, strict=True)))
            level = {"bicubic": mean_and_error(base[name])[0]}
            yscale, legend = "log" if name == "sharpness" else "linear", ax is row[0]
            words = {"xlabel": xlabel, "ylabel": LABELS[name], "xscale": "log", "yscale": yscale}
            curves(ax, series, levels=level, legend=legend, **words)
    return Figure(
        f"dream-quality-{prediction}",
        f"{prediction.capitalize()} network: quality of the enlarged pictures",
        f"Above: against training iterations, {plan.curve_steps} DDIM steps. Below: against DDIM steps, after "
        f"{plan.snapshots[-1]:,} iterations. Bands: one standard error over {plan.held_out} pictures.",
        figure,
    )


def picture_figure(plan: pictures.Plan, prediction: str, outcomes: Outcomes, target: Tensor) -> Figure:
    """Low resolution, bicubic, each exponent at few steps and at many, truth."""
    low, few, many = pictures.reduce(target), plan.steps[len(plan.steps) // 3], plan.steps[-1]
    rows = {"low": F.interpolate(low, scale_factor=4.0), "bicubic": pictures.enlarge(low)}
    for n in (few, many):
        for p, outcome in outcomes.items():
            rows[f"{NAMES[p].split(' (')[0]}, {n}"] = outcome.pictures[plan.snapshots[-1], n]
    rows["truth"] = target
    figure, axes = panels(len(rows), len(target), width=6.0, height=len(rows) * 6.0 / len(target) * 0.95)
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(line, row, strict=True):
            ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    caption = f"Held-out pictures; p and the number of DDIM steps are written beside the rows. Side {plan.side} pixels."
    title = f"{prediction.capitalize()} network: pictures enlarged by 4"
    return Figure(f"dream-pictures-{prediction}", title, caption, figure)


def toy_figure(plan: toy.Plan, trainings: Mapping[str, Mapping], entropy: float) -> Figure:
    """Figures of the learned denoiser in the plane against iterations."""
    figure, axes = panels(1, 3, height=3.0)
    for ax, name in zip(axes[0], ("score_error", "nll", "recall"), strict=True):
        series = {training: (plan.snapshots, numbers[name]) for training, numbers in trainings.items()}
        log, truth = name == "score_error", {"density": entropy} if name == "nll" else None
        label = {"score_error": "score error", "nll": "NLL (nats)"}.get(name, name)
        scale = "log" if log else "linear"
        curves(ax, series, xlabel="iterations", ylabel=label, xscale="log", yscale=scale, levels=truth, legend=log)
    return Figure("dream-toy", "DREAM in the plane", "Figures of the table above against iterations.", figure)


def demo_figure(plan: demo.Plan, outcomes: Mapping[str, Cell]) -> Figure:
    """Held-out loss of the demo model against iterations, and samples of the last averaged weights."""
    figure, axes = panels(1, 2, height=3.4)
    losses = {
        name: [sum(quarters) / len(quarters) for quarters in c.numbers["held_out"]] for name, c in outcomes.items()
    }
    series = {name: (plan.snapshots, values) for name, values in losses.items() if len(values) > 1}
    levels, title = {demo.SHIPPED: losses[demo.SHIPPED][-1]}, "standard objective, held out, averaged weights"
    words = {"xlabel": "iterations", "ylabel": "loss", "title": title, "xscale": "log", "yscale": "log"}
    curves(axes[0, 0], series, levels=levels, legend=True, **words)
    rows = {name.split(" (")[0]: cell.tensors["pictures"] for name, cell in outcomes.items() if name != demo.UNTRAINED}
    montage = torch.cat([torch.cat(list(F.pad(row, (1,) * 4, value=1.0)), dim=2) for row in rows.values()], dim=1)
    side, ax = montage.shape[1] / len(rows), axes[0, 1]
    ax.imshow(montage.permute(1, 2, 0).numpy(), interpolation="nearest")
    ax.set(xticks=[], yticks=[(i + 0.5) * side for i in range(len(rows))], yticklabels=list(rows))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return Figure(
        "dream-demo",
        "DREAM on the demo model",
        f"Left: held-out loss against iterations; at p = 0 and 1 it is not what was minimised. Right: samples after "
        f"{plan.snapshots[-1]:,} iterations, {plan.steps} DDIM steps, cfg {plan.cfg:g}; one caption a column.",
        figure,
    )
