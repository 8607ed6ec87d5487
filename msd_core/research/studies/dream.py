"""DREAM against standard training: super-resolution, the demo model, the plane, and a case in closed form.

Zhou et al. 2024 report, for SR3 on faces, 0.8 dB more and half the training or a tenth of the sampling steps for the
same quality. Here the same comparison is made in small, on drawn pictures, with what it costs in fineness beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import torch

from ...demo.train import TrainSettings
from . import dream_demo as demo
from . import dream_pictures as pictures
from . import dream_toy as toy
from .dream_figures import demo_figure, loss_figure, picture_figure, quality_figure, toy_figure
from .dream_pictures import NAMES, Outcomes, mean_and_error
from .dream_tables import by_iterations, by_steps, demo_table, equal_quality, gaussian, toy_table
from .result import Result
from .study import Cell, Context

IN_ALL = False


def run(context: Context) -> Result:
    """Train, measure, and lay out what was found."""
    plan, flat = (pictures.QUICK, toy.QUICK) if context.quick else (pictures.Plan(), toy.Plan())
    short = demo.QUICK if context.quick else demo.Plan()
    context.plan("dream", pictures.cells(plan) + len(toy.TRAININGS) + demo.CELLS)
    networks = {name: pictures.outcomes(context, plan, name) for name in pictures.PREDICTIONS}
    trainings = {name: toy.trained(context, flat, name).numbers for name in toy.TRAININGS}
    base, target = pictures.bicubic(context, plan), pictures.truth(context, plan)[: pictures.SHOWN]
    entropy, demos = toy.entropy(context, flat), demo.outcomes(context, short)
    steps = [by_steps(plan, name, outcomes, base) for name, outcomes in networks.items()]
    iterations = [by_iterations(plan, name, outcomes) for name, outcomes in networks.items()]
    quality = [quality_figure(plan, name, outcomes, base) for name, outcomes in networks.items()]
    samples = [picture_figure(plan, name, outcomes, target) for name, outcomes in networks.items()]
    return Result(
        name="dream",
        title="DREAM: training on the noise that estimates lead to",
        tables=[
            *(equal_quality(plan, networks), *steps, *iterations, gaussian()),
            *(demo_table(short, demos), toy_table(flat, trainings, entropy)),
        ],
        figures=[
            *(*quality, *samples, loss_figure(plan, networks)),
            *(demo_figure(short, demos), toy_figure(flat, trainings, entropy)),
        ],
        paragraphs=[*_paragraphs(plan, networks, base), _demo(short, demos), _plane(flat, trainings)],
        settings={
            "super-resolution": pictures.as_json(plan.settings("noise", 1.0, context.seed))
            | {"dream": ["inf", "1", "0"], "prediction": list(networks), "held-out pictures": plan.held_out},
            "demo model": {**asdict(short), "snapshots": list(short.snapshots)}
            | {"settings": demo.as_json(short.settings(math.inf, context.seed)) | {"dream": ["inf", "1", "0"]}},
            "toy": {**flat.settings("score", context.seed).as_json(), "target": list(toy.TRAININGS), "dream": None},
        },
    )


def _found(plan: pictures.Plan, prediction: str, outcomes: Outcomes) -> str:
    """What the exponents do to PSNR and sharpness at the most DDIM steps, in a sentence."""
    end = (plan.snapshots[-1], plan.steps[-1])
    figures = {p: outcome.figures[end] for p, outcome in outcomes.items()}
    fine = {p: mean_and_error(f["sharpness"])[0] for p, f in figures.items()}
    gaps = {p: mean_and_error(figures[p]["psnr"] - figures[math.inf]["psnr"]) for p in (1.0, 0.0)}
    changed = ", ".join(
        f"{gap:+.2f} ± {e:.2f} dB at p = {p:g} (sharpness {fine[p]:.2f})" for p, (gap, e) in gaps.items()
    )
    return f"{prediction} network, against p = ∞ (sharpness {fine[math.inf]:.2f}): {changed}"


def _paragraphs(plan: pictures.Plan, networks: Mapping[str, Outcomes], base: pictures.Measured) -> list[str]:
    side, low = plan.side, plan.side // 4
    plain, blurred = (mean_and_error(base[name])[0] for name in ("psnr", "sharpness"))
    found = "; ".join(_found(plan, name, outcomes) for name, outcomes in networks.items())
    last = (plan.snapshots[-1], plan.steps[-1])
    drift, held, better = (
        mean_and_error(networks[name][p].figures[last]["consistency"])[0]
        for name, p in (("noise", math.inf), ("velocity", math.inf), ("noise", 1.0))
    )
    seconds = [outcome.seconds for outcomes in networks.values() for outcome in outcomes.values()]
    return [
        "A conditional diffusion model (SR3 in small: the bicubic enlargement as further channels) enlarges drawn "
        f"pictures of {low} × {low} pixels to {side} × {side}. Two networks: one puts out the noise, as SR3's, one the "
        "velocity; the objective, on the noise, is the same. For each, three trainings differ in DREAM's exponent "
        "alone: same weights at the start, same pictures, levels and noises. "
        f"After {plan.snapshots[-1]:,} iterations, at {plan.steps[-1]} DDIM steps: {found}. "
        f"Bicubic interpolation has {plain:.2f} dB and a sharpness of {blurred:.2f}: fidelity alone is no measure of "
        "what super-resolution is for. With the velocity network at p = ∞ and 1, few DDIM steps raise it too, by "
        "leaving out detail.",
        "DREAM does not estimate the score. On N(0, 1), where its limit is known in closed form (table below), p = 0 "
        "shrinks twice as far as the posterior mean does and, from σ = 1 on, answers with the mean of the data "
        "whatever z is; around σ = 1 fluctuations carry it on to D = -z. p = 1 lies between, and is stable. In "
        "super-resolution that means towards the mean given the low-resolution picture, which has the best PSNR and no "
        "fine detail. A denoiser trained this way is not the one that mean-shift distillation assumes.",
        f"The noise network is far from converged at p = ∞ (consistency {drift:.1f} dB, {held:.1f} dB for the velocity "
        f"network): an error of the noise at high σ is magnified in the picture, and colours drift. At p = 1 it has "
        f"{better:.1f} dB; much of what DREAM gains there is that.",
        "One seed, one training of each kind; an iteration of DREAM costs one evaluation more. A training took "
        f"{min(seconds):,.0f} to {max(seconds):,.0f} s, all {sum(seconds) / 3600:.1f} h, on cores shared with other "
        "work.",
    ]


def _demo(plan: demo.Plan, outcomes: Mapping[str, Cell]) -> str:
    """How short the demo model's trainings are, and what each ended with."""
    base, losses, counts = torch.tensor(outcomes[NAMES[math.inf]].numbers["held_out"][-1]), [], []
    for name, cell in outcomes.items():
        quarters = torch.tensor(cell.numbers["held_out"][-1])
        times = (quarters / base).tolist()
        losses.append(f"{name}: {float(quarters.mean()):.3f}")
        if name in (NAMES[1.0], NAMES[0.0]):
            whole = float(quarters.mean() / base.mean())
            losses[-1] += f" (× {whole:.2f}; × {times[0]:.2f} at the lowest noises, × {times[-1]:.2f} at the highest)"
        judged = (sum(cell.numbers[k]) for k in ("accepted", "colours_right", "background_right"))
        counts.append(f"{name}: {', '.join(f'{n:.0f}' for n in judged)}")
    share = plan.snapshots[-1] * plan.batch / (demo.SHIPPED_STEPS * demo.SHIPPED_BATCH)
    seconds = [cell.numbers["training_seconds"] for cell in outcomes.values() if "training_seconds" in cell.numbers]
    return (
        "The demo model in short: text encoder and denoiser from scratch on latents of the shipped autoencoder, "
        f"{plan.snapshots[-1]:,} steps of batch {plan.batch} on {plan.scenes:,} scenes. The shipped model had "
        f"{demo.SHIPPED_STEPS:,} of {demo.SHIPPED_BATCH} on {TrainSettings.scenes:,}: these trainings saw {share:.1%} "
        f"of its rows. Held-out standard loss: {'; '.join(losses)}. Of {plan.prompts} samples, accepted by the judge, "
        f"with the object's colour, and with the background's: {'; '.join(counts)}. One seed; a training took "
        f"{min(seconds):,.0f} to {max(seconds):,.0f} s. Not measured: the same at the shipped "
        "model's length (`msd train-demo --dream 1`)."
    )


def _plane(plan: toy.Plan, trainings: Mapping[str, Mapping]) -> str:
    """Score error, NLL and recall of every training at its end, in a sentence."""
    ends = (
        "{}: score error {:.3g}, NLL {:.2f}, recall {:.2f}".format(
            name, *(numbers[figure][-1] for figure in ("score_error", "nll", "recall"))
        )
        for name, numbers in trainings.items()
    )
    return f"In the plane, after {plan.snapshots[-1]:,} iterations on the {plan.density}: {'; '.join(ends)}."
