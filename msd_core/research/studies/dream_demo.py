"""DREAM on the demo model: its text encoder and denoiser trained from scratch, briefly, with p = infinity, 1 and 0.

Latents are those of the autoencoder that ships, which no training here changes. Starting weights, scenes, levels,
noises and dropped captions are the same for every exponent, and so are the noises that samples start from, so that
differences are paired. The shipped model and an untrained one, measured in the same way, stand beside them.
"""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...demo.evaluate import sample_scenes
from ...demo.judge import Verdict, judge
from ...demo.model import DEMO_MODEL_PATH, DemoModel, load_demo_model
from ...demo.scenes import Scene, random_scene
from ...demo.train import TrainSettings, denoiser_loss, denoiser_steps, scene_latents, trained_networks
from ...schedule import sd15_schedule
from .dream_pictures import EXPONENTS, NAMES
from .study import Cell, Context, OnStep

SHOWN = 8
"""Pictures kept of every evaluation."""
QUARTERS = 4
"""Parts of the schedule that the held-out loss is measured in, from low noise to high."""
SHIPPED, UNTRAINED = "shipped model", "untrained"
SHIPPED_STEPS, SHIPPED_BATCH = TrainSettings.steps, TrainSettings.batch
FIGURES = ("accepted", "colours_right", "shapes_right", "background_right")


@dataclass(frozen=True)
class Plan:
    """Sizes of this part. ``scenes`` and ``block``: pictures trained on, and how many are drawn at once."""

    snapshots: tuple[int, ...] = (7, 14, 28, 56, 112, 224, 448)
    batch: int = 16
    scenes: int = 2048
    block: int = 128
    held_out: int = 256
    prompts: int = 48
    steps: int = 16
    cfg: float = 3.0

    def settings(self, p: float, seed: int) -> TrainSettings:
        """Of one training; what is not named is as for the model that ships."""
        steps = self.snapshots[-1]
        return TrainSettings(seed, scenes=self.scenes, steps=steps, batch=self.batch, dream=p, save_every=steps)


QUICK = Plan(snapshots=(1, 2), batch=2, scenes=4, block=4, held_out=4, prompts=2, steps=2)

CELLS = len(EXPONENTS) + 3
"""Cells that this part asks for."""

Data = tuple[Tensor, Tensor]
"""Scaled latents (N, 4, h, w) and word numbers (N, L)."""


def as_json(settings: TrainSettings) -> dict[str, Any]:
    """What of the settings a training of the denoiser depends on."""
    names = ("seed", "side", "scenes", "steps", "batch", "lr", "decay_fraction", "dropout", "ema")
    return {name: asdict(settings)[name] for name in names} | {"dream": f"{settings.dream:g}"}


def _key(plan: Plan, part: str) -> dict[str, Any]:
    """Every size, and which weights the autoencoder has."""
    sizes = {**asdict(plan), "snapshots": list(plan.snapshots)}
    return {"part": part, **sizes, "parameters": hashlib.sha256(DEMO_MODEL_PATH.read_bytes()).hexdigest()}


def data(context: Context, plan: Plan) -> tuple[Data, Data]:
    """Scenes to train on, and scenes held out."""

    def compute(progress: OnStep) -> Cell:
        autoencoder, tensors, done, total = load_demo_model().autoencoder, {}, 0, plan.scenes + plan.held_out
        for name, seed, count in (("train", context.seed, plan.scenes), ("held out", context.seed + 7, plan.held_out)):
            blocks, settings = [], plan.settings(math.inf, seed)
            for first in range(0, count, plan.block):
                blocks.append(scene_latents(autoencoder, settings, first, min(plan.block, count - first)))
                progress(done := done + len(blocks[-1][0]), total)
            latents, tokens = zip(*blocks, strict=True)
            tensors |= {f"{name}, latents": torch.cat(latents), f"{name}, tokens": torch.cat(tokens)}
        return Cell(tensors=tensors)

    tensors = context.cell("dream", _key(plan, "demo model, scenes"), compute).tensors
    one, other = ((tensors[f"{n}, latents"], tensors[f"{n}, tokens"]) for n in ("train", "held out"))
    return one, other


@torch.no_grad()
def held_out_loss(networks: nn.ModuleDict, held_out: Data, rng: torch.Generator) -> list[float]:
    """Standard objective (p = infinity) in each quarter of the schedule, low noise first; a row has one level."""
    latents, tokens = held_out
    t = torch.linspace(0, len(sd15_schedule().alphas_cumprod) - 1, len(latents)).round().long()
    noise = torch.randn(latents.shape, generator=rng)
    parts = zip(*(x.chunk(QUARTERS) for x in (latents, tokens, t, noise)), strict=True)
    return [float(denoiser_loss(networks, *part)) for part in parts]


def prompts(context: Context, plan: Plan) -> list[Scene]:
    """Scenes of one object whose captions are sampled."""
    rng = context.rng("dream", "demo model", "prompts")
    return [random_scene(rng, objects=1) for _ in range(plan.prompts)]


def judged(verdicts: Sequence[Verdict]) -> dict[str, list[float]]:
    """Of every picture: whether it is accepted and what of it is right, 0 or 1, the object's IoU, the stray share."""
    shares = {name: [float(getattr(v, name)) for v in verdicts] for name in FIGURES}
    return shares | {"iou": [v.things[0].iou for v in verdicts], "stray": [v.stray for v in verdicts]}


def _samples(context: Context, plan: Plan, model: DemoModel) -> tuple[dict[str, list[float]], Tensor]:
    """What the judge says of the model's pictures, and the first of them."""
    scenes = prompts(context, plan)
    made = list(sample_scenes(model, scenes, cfg=plan.cfg, steps=plan.steps, seed=context.seed))
    return judged([judge(picture, scene) for scene, picture in made]), torch.stack([p for _, p in made[:SHOWN]])


def _untrained(seed: int) -> DemoModel:
    """Fresh text encoder and denoiser, and the shipped autoencoder."""
    model = DemoModel.random(seed)
    model.autoencoder.load_state_dict(load_demo_model().autoencoder.state_dict())
    return model


def trained(context: Context, plan: Plan, p: float, scenes: tuple[Data, Data]) -> Cell:
    """Losses of a training with exponent ``p``, held-out losses of each snapshot's averaged weights, and its samples.

    Numbers: ``losses`` (steps), ``held_out`` (snapshots, quarters), ``training_seconds``, and the lists of `judged`.
    """
    settings, (rows, held_out) = plan.settings(p, context.seed), scenes
    key = _key(plan, "demo model, training") | {"settings": as_json(settings)}

    def compute(progress: OnStep) -> Cell:
        model = _untrained(settings.seed)
        networks, losses, standard, seconds = trained_networks(model), [], [], 0.0
        average = copy.deepcopy(networks).requires_grad_(False)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for step in denoiser_steps(networks, average, rows, settings, Path(folder) / "state.pt"):
                losses.append(step.loss)
                if step.done in plan.snapshots:
                    seconds += time.perf_counter() - began
                    standard.append(held_out_loss(average, held_out, context.rng("dream", "demo model", "loss")))
                    began = time.perf_counter()
                progress(step.done, settings.steps)
        networks.load_state_dict(average.state_dict())
        figures, pictures = _samples(context, plan, model.eval().requires_grad_(False))
        numbers = {"losses": losses, "held_out": standard, "training_seconds": seconds, **figures}
        return Cell(numbers, {"pictures": pictures})

    return context.cell("dream", key, compute)


def reference(context: Context, plan: Plan, name: str, scenes: tuple[Data, Data]) -> Cell:
    """The same figures of the shipped model, or of an untrained one; one row of held-out losses."""

    def compute(progress: OnStep) -> Cell:
        model = load_demo_model() if name == SHIPPED else _untrained(context.seed).eval()
        loss = held_out_loss(trained_networks(model), scenes[1], context.rng("dream", "demo model", "loss"))
        figures, pictures = _samples(context, plan, model)
        return Cell({"held_out": [loss], **figures}, {"pictures": pictures})

    return context.cell("dream", _key(plan, f"demo model, {name}"), compute)


def outcomes(context: Context, plan: Plan) -> dict[str, Cell]:
    """Train with every exponent, and measure; by name, the references last."""
    scenes = data(context, plan)
    cells = {NAMES[p]: trained(context, plan, p, scenes) for p in EXPONENTS}
    return cells | {name: reference(context, plan, name, scenes) for name in (SHIPPED, UNTRAINED)}
