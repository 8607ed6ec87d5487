"""What people would write on the diffusers library, beside ours: seconds of a step in one run, and the same gradients.

The three loops here are plain PyTorch on the library's own pieces, its UNet, autoencoder, DDPM, DDIM and inverse DDIM
schedulers, as its examples use them; ours is `distil` on the same pipeline. Both draw with the same neural image and
Adam, at equal evaluations, step after step in turn, so that what else the machine does falls on both. The pipeline has
random weights and a fifth of Stable Diffusion's width: speed does not depend on what a network has learned.

    SDS   eps(z_t) - n, through the encoder                                          (Poole et al. 2022, Eq. 3)
    SDI   eps(z_t) - the noise that the inversion found, through the encoder         (Lukoianov et al. 2024, Alg. 1)
    MSD   x - y, y by DDIM on the product density with the library's step             (arXiv 2502.15989, Eqs. 8-11)
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ...distil import distil
from ...generators import generator_for_size
from ...pipelines.model import PipelineModel, library
from ..random_pipeline import stable_diffusion
from .result import Result, Table
from .study import Cell, Context, OnStep

IN_ALL = False
SIDE, CFG, LR = 256, 7.5, 1e-2
STEPS, QUICK_STEPS = 12, 1
LEVELS = 4
OURS: dict[str, dict[str, Any]] = {
    "SDS": {"method": "sds", "pull": "latent", "t_min": 0.02, "t_max": 0.98},
    "SDI": {"method": "sdi", "pull": "latent"},
    "MSD": {"method": "msd", "pull": "image", "solver_steps": LEVELS, "inner_steps": 1},
}

EACH = "an evaluation"
FIGURES = ("theirs in all", "ours in all", "theirs", "ours", f"theirs {EACH}", f"ours {EACH}")
"""Evaluations of all steps, and medians of seconds: of a step, and of an evaluation in it."""

UNET: dict[str, Any] = {
    "sample_size": 32, "block_out_channels": (64, 128), "layers_per_block": 2, "attention_head_dim": (4, 8)
}  # fmt: skip


class Loop:
    """The pieces of the library that a loop needs, under one prompt.

    Args:
        pipe: a StableDiffusionPipeline.
        side: of the picture, in pixels.
    """

    def __init__(self, pipe: Any, side: int) -> None:  # noqa: ANN401 - the library's
        self.pipe, self.scale = pipe, pipe.vae.config.scaling_factor
        self.ddim: Any = library().DDIMScheduler.from_config(pipe.scheduler.config)
        self.inverse: Any = library().DDIMInverseScheduler.from_config(pipe.scheduler.config)
        self.generator = generator_for_size("fourier", side, side, seed=0)
        self.adam = torch.optim.Adam(self.generator.parameters(), lr=LR)
        self.embedding = torch.cat(pipe.encode_prompt("a red cup", "cpu", 1, True, "")[::-1])
        self.rng = torch.Generator().manual_seed(0)
        self.rows = 0
        """That the network was asked so far."""

    def picture(self) -> Tensor:
        """The generator's, (1, 3, H, W) in [0, 1]."""
        return self.generator.render(self.generator.canvas.view)

    def encode(self, picture: Tensor) -> Tensor:
        """The latent of a picture."""
        return self.pipe.vae.encode(2 * picture - 1).latent_dist.mode() * self.scale

    @torch.no_grad()
    def noise(self, z: Tensor, t: Any, cfg: float = CFG) -> Tensor:  # noqa: ANN401 - a number or a tensor
        """The network's prediction under guidance."""
        self.rows += 2 * len(z)
        uncond, cond = self.pipe.unet(torch.cat([z, z]), t, encoder_hidden_states=self.embedding).sample.chunk(2)
        return uncond + cfg * (cond - uncond)

    def step(self, pulled: Tensor, gradient: Tensor) -> None:
        """One update with a gradient on what is pulled."""
        self.adam.zero_grad()
        pulled.backward(gradient)
        self.adam.step()

    def sds(self) -> None:
        """An iteration of SDS."""
        latent = self.encode(self.picture())
        t = torch.randint(20, 980, (1,), generator=self.rng)
        noise = torch.randn(latent.shape, generator=self.rng)
        predicted = self.noise(self.ddim.add_noise(latent.detach(), noise, t), t)
        weight = 1 - self.ddim.alphas_cumprod[t]
        self.step(latent, weight * (predicted - noise))

    def sdi(self, share: float = 0.5) -> None:
        """An iteration of SDI at a fraction of the chain."""
        latent = self.encode(self.picture())
        z, steps = latent.detach(), max(1, round(10 * share))
        self.inverse.set_timesteps(10)
        for t in self.inverse.timesteps[:steps]:
            z = self.inverse.step(self.noise(z, t, -CFG), t, z).prev_sample
        t = self.inverse.timesteps[steps - 1]
        ahead = self.ddim.alphas_cumprod[t]
        noise = (z - ahead.sqrt() * latent.detach()) / (1 - ahead).sqrt()
        self.step(latent, self.noise(z, t) - noise)

    def msd(self, bandwidth: float = 2.0) -> None:
        """An iteration of MSD: DDIM, at each level on the product with the kernel around x."""
        picture = self.picture()
        with torch.no_grad():
            target = self.pipe.vae.decode(self.product_sample(self.encode(picture), bandwidth) / self.scale).sample
            gradient = picture - (target / 2 + 0.5).clamp(0, 1)
        self.step(picture, gradient)

    def product_sample(self, x: Tensor, bandwidth: float) -> Tensor:
        """A draw from p(y) N(y; x, bandwidth^2) by the library's DDIM."""
        sigmas = ((1 - self.ddim.alphas_cumprod) / self.ddim.alphas_cumprod).sqrt()
        self.ddim.set_timesteps(LEVELS)
        z = self.ddim.add_noise(x, torch.randn(x.shape, generator=self.rng), self.ddim.timesteps[:1])
        for t in self.ddim.timesteps:
            sigma = float(sigmas[t])
            level = (1 / sigma**2 + 1 / bandwidth**2) ** -0.5
            own = z * (1 + sigma**2) ** 0.5
            moved = level**2 * (own / sigma**2 + x / bandwidth**2)
            guess = self.guess(moved, (sigmas - level).abs().argmin(), sigmas)
            z = self.ddim.step((own - guess) / sigma, int(t), z).prev_sample
        return z

    def guess(self, moved: Tensor, t: Tensor, sigmas: Tensor) -> Tensor:
        """The denoised guess at a point of the variance-exploding axis."""
        sigma = float(sigmas[t])
        return moved - sigma * self.noise(moved / (1 + sigma**2) ** 0.5, t)


def steps_of_ours(pipe: Any, side: int, steps: int, settings: dict[str, Any]) -> Iterator[int]:  # noqa: ANN401
    """The evaluations of each step of `distil` on a pipeline."""
    run = distil("a red cup", model=PipelineModel.of(pipe), size=(side, side), cfg=CFG, lr=LR, steps=steps, **settings)
    for state in run:
        yield state.info.evaluations


def timed(side: int, steps: int, method: str, progress: OnStep) -> dict[str, float]:
    """Median seconds of a step of each and of an evaluation in it, in turn, and the evaluations of all steps.

    What comes first pays for what is made once, and is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipe = stable_diffusion(Path(folder), **UNET)
    pipe.set_progress_bar_config(disable=True)
    for module in (pipe.unet, pipe.vae):
        module.requires_grad_(False)
    ours, theirs = steps_of_ours(pipe, side, steps + 1, OURS[method]), Loop(pipe, side)
    other: Callable[..., None] = getattr(theirs, method.lower())
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for step in range(steps + 1):
        marks, before = [time.perf_counter()], theirs.rows
        rows = next(ours)
        marks.append(time.perf_counter())
        other(1 - step / (steps + 1)) if method == "SDI" else other()
        marks.append(time.perf_counter())
        if step:
            found["ours"].append((marks[1] - marks[0], rows))
            found["theirs"].append((marks[2] - marks[1], theirs.rows - before))
        progress(step + 1, steps + 1)
    numbers: dict[str, float] = {}
    for name, each in found.items():
        numbers[name] = median(seconds for seconds, _ in each)
        numbers[f"{name} {EACH}"] = median(seconds / rows for seconds, rows in each)
        numbers[f"{name} in all"] = sum(rows for _, rows in each)
    return numbers


def run(context: Context) -> Result:
    """A table: seconds of a step of each method, theirs and ours."""
    side, steps = (32, QUICK_STEPS) if context.quick else (SIDE, STEPS)
    context.plan("loops", len(OURS))
    found = {method: _cell(context, method, side, steps).numbers for method in OURS}
    rows = [[m, *(f[name] for name in FIGURES), f[f"theirs {EACH}"] / f[f"ours {EACH}"]] for m, f in found.items()]
    columns = ("method", *FIGURES, "theirs/ours")
    threads = torch.get_num_threads()
    note = (
        f"{steps} steps of each in turn, {side} pixels a side, a random pipeline, {threads} threads. In all: their "
        "evaluations. Then median seconds of a step, and of an evaluation in it. theirs/ours: at equal evaluations, "
        "of which a step of SDI has other numbers at other levels."
    )
    formats = {name: ".0f" if name.endswith("in all") else ".3f" for name in FIGURES} | {"theirs/ours": ".2f"}
    table = Table("loops", "A loop on diffusers, and ours", columns, rows, note, formats)
    return Result("loops", "What people would write on diffusers, beside ours", [table], settings={"unet": UNET})


def _cell(context: Context, method: str, side: int, steps: int) -> Cell:
    key = {"method": method, "side": side, "steps": steps, "threads": torch.get_num_threads(), "version": 2}
    return context.cell("loops", key, lambda progress: Cell(dict(timed(side, steps, method, progress))))
