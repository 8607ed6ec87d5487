"""What the two-dimensional studies share: densities, denoisers, methods, and points sent through them.

Conventions, where the paper (section 4.2) is silent: 10^4 points start on a 100 x 100 grid over [-1.5, 1.5]^2. With
the learned denoiser they move by Adam (lr .08, 150 steps) as in the paper; with the ideal one by what the paper calls
"a few steps of gradient descent with a high learning rate": 15 steps of lr 1, which for mean shift is x <- x'. lambda
falls linearly from sqrt(.1) to `LAST_BANDWIDTH`. SDS draws t uniformly over the sampler's own schedule (Karras, rho =
7, sigma from .002 to 5), weight 1 - alpha_bar, and averages 4 draws a step. Where the paper says 10^3 Monte-Carlo
samples, the exact estimator averages 8, each by Heun's method in 4 steps. The learned denoiser is clipped to a box
around the data (`ToyDenoiser`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from ...bandwidth import Linear
from ...denoiser import Denoiser, with_levels
from ...densities import GaussianMixture, IdealDenoiser
from ...distillation import MSD, SDS, Method
from ...generators.points import Points
from ...mean_shift import ESTIMATORS
from ...optimize import optimize, start
from ...optimizers import OptimizerConfig
from ...sampling import ddim_sample
from ...schedule import sigma_schedule
from ..densities import Density, make_density
from ..landscape import grid
from ..toy import ToyDenoiser, ToySettings, train_steps
from ..toy.train import toy_network
from .study import Cell, Context, OnStep

PAPER_ADAM = OptimizerConfig("adam", lr=0.08, betas=(0.9, 0.999), eps=1e-8)
"""Mean-Shift Distillation, section 4.2: Adam, lr = .08; its other settings are torch's defaults."""
SQUARE = (-1.5, 1.5, -1.5, 1.5)
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 5.0, 7.0
FIRST_BANDWIDTH, LAST_BANDWIDTH = math.sqrt(0.1), 0.03
SOLVER_STEPS = {"ddim": 32, "split": 16, "exact": 4}
"""Steps of the walk through the noise levels, of the methods that walk."""
DRAWS = {"sds": 4, "exact": 8}
"""Averaged in every step; 1 by the methods that are not here."""

CASES: dict[str, str | None] = {"fractal": "A", "spiral": None, "pinwheel": None}
"""The paper's three densities, and the class of each that is sought; None is all there is."""

DENOISERS = ("ideal", "learned")


@dataclass(frozen=True)
class Size:
    """How large a study is.

    Attributes:
        side: points a side of the starting grid.
        data: samples behind the ideal denoiser, and of the truth that points are compared with.
        adam_steps, descent_steps: optimisation steps with the learned and the ideal denoiser.
        toy_steps, toy_pool: training of the learned denoiser.
    """

    side: int = 100
    data: int = 10_000
    adam_steps: int = 150
    descent_steps: int = 15
    toy_steps: int = 4096
    toy_pool: int = 2**20


FULL, QUICK = Size(), Size(32, 1024, 40, 10, 256, 2**15)


def size_of(context: Context) -> Size:
    """The size that the context asks for."""
    return QUICK if context.quick else FULL


@dataclass(frozen=True)
class Case:
    """One density of the studies, with the class that is sought."""

    name: str
    density: Density
    cls: str | None

    @property
    def truth(self) -> GaussianMixture:
        """The sought density in closed form."""
        return self.density.of(self.cls)

    @property
    def key(self) -> dict[str, str]:
        """What a cell's key says of the density: its name, and a digest of its parameters."""
        digests = "".join(mixture.digest() for mixture in self.density.classes.values())
        return {"density": self.name, "parameters": hashlib.sha256(digests.encode()).hexdigest()[:8]}


def make_case(name: str) -> Case:
    """The case ``name``, one of `CASES`."""
    return Case(name, make_density(name), CASES[name])


def truth_points(context: Context, case: Case, purpose: str) -> Tensor:
    """Samples of the sought density (N, 2), float32; other ``purpose``, other samples."""
    rng = context.rng(purpose, case.name)
    return case.density.sample(size_of(context).data, rng=rng, cls=case.cls)


def toy_settings(context: Context, case: Case, cls: str | None) -> ToySettings:
    """Settings of the learned denoiser of a class (None: of all)."""
    size = size_of(context)
    return ToySettings(case.name, cls, steps=size.toy_steps, pool=size.toy_pool, seed=context.seed)


def learned_denoiser(context: Context, case: Case, settings: ToySettings | None = None) -> ToyDenoiser:
    """The denoiser of ``settings``, default the sought class's; its averaged weights are a cell."""
    settings = toy_settings(context, case, case.cls) if settings is None else settings
    mixture = case.density.of(settings.cls)

    def train(progress: OnStep) -> Cell:
        average: Mapping[str, Tensor] = {}
        for state in train_steps(settings, mixture):
            average = state.average
            progress(state.step, settings.steps)
        return Cell(tensors=dict(average))

    weights = context.cell("toy", {**case.key, **settings.as_json(), "version": 2}, train).tensors
    return ToyDenoiser(toy_network(settings, weights), box=mixture.box())


def make_denoiser(context: Context, case: Case, kind: str) -> Denoiser:
    """The "ideal" denoiser over samples, the "learned" one, or the density's own, "exact"; on the sampler's levels."""
    if kind == "exact":
        denoiser: Denoiser = case.truth
    elif kind == "learned":
        denoiser = learned_denoiser(context, case)
    else:
        denoiser = IdealDenoiser(truth_points(context, case, "data"))
    return with_levels(denoiser, sampler_level)


def sampler_level(percent: float) -> float:
    """Noise level at a fraction of the sampler's schedule, 0 = all noise (Karras et al. 2022, Eq. 5)."""
    low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
    return (high + percent * (low - high)) ** RHO


@dataclass(frozen=True)
class Recipe:
    """How points are moved; plain values, since it is part of a cell's key.

    Attributes:
        method: "ddim", "sds", or an estimator of MSD. "split" is the paper's solver, walked from 2 lambda down; "exact"
            takes Heun steps, and starts at the mean, where an exact denoiser knows it.
        steps: of the optimisation.
        optimizer, lr: Adam as in the paper, or "gd", with lr = 1 the mean-shift iteration.
        first, last: bandwidths between which lambda falls linearly.
        samples: draws averaged in every step.
        solver_steps: of the walk through the noise levels, given by the method; 0 if it walks none.
    """

    method: str
    steps: int
    optimizer: str = "adam"
    lr: float = PAPER_ADAM.lr
    first: float = FIRST_BANDWIDTH
    last: float = LAST_BANDWIDTH
    samples: int = 1
    solver_steps: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver_steps", SOLVER_STEPS.get(self.method, 0))

    def make(self) -> Method:
        """The distillation method; SDS asks for a denoiser on the sampler's levels."""
        if self.method == "sds":
            return SDS(weighting="sigma", samples=self.samples)
        walk = {"steps": self.solver_steps, "samples": self.samples}
        options = {"split": {**walk, "truncation": 2.0}, "exact": {**walk, "solver": "heun", "walk_from": "mean"}}
        estimator = ESTIMATORS.find("method", self.method)(**options.get(self.method, {}))
        return MSD(Linear(self.first, self.last), estimator)

    def optimiser(self) -> OptimizerConfig:
        """The optimiser's settings."""
        return replace(PAPER_ADAM, name=self.optimizer, lr=self.lr)


def recipe_of(context: Context, kind: str, method: str) -> Recipe:
    """The recipe of ``method`` with the denoiser ``kind``, as in Table 2."""
    size, samples = size_of(context), DRAWS.get(method, 1)
    if kind == "ideal":
        return Recipe(method, size.descent_steps, "gd", 1.0, samples=samples)
    return Recipe(method, size.adam_steps, samples=samples)


def start_points(side: int) -> Tensor:
    """The starting grid (side^2, 2), float32."""
    return grid(SQUARE, (side, side)).reshape(-1, 2).float()


def sample_ddim(denoiser: Denoiser, n: int, rng: torch.Generator) -> Tensor:
    """DDIM samples (n, 2), from 5 n to 0 in 32 steps of the Karras schedule."""
    sigmas = sigma_schedule("karras", SOLVER_STEPS["ddim"], sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    return ddim_sample(SIGMA_MAX * torch.randn(n, 2, generator=rng), denoiser, sigmas)


def moved_points(context: Context, case: Case, kind: str, recipe: Recipe, side: int) -> Cell:
    """Where the recipe takes the grid of side² points with the denoiser ``kind``: tensor "x", "evaluations" a point."""
    data = size_of(context).data
    key = {**case.key, "denoiser": kind, **asdict(recipe), "side": side, "data": data}
    denoiser = make_denoiser(context, case, kind)

    def compute(progress: OnStep) -> Cell:
        rng = context.rng("move", case.name, kind, recipe.method)
        if recipe.method == "ddim":
            return Cell({"evaluations": recipe.solver_steps}, {"x": sample_ddim(denoiser, side**2, rng)})
        return move_points(start_points(side), recipe, denoiser, rng, progress)

    return context.cell("points", key, compute)


def move_points(x: Tensor, recipe: Recipe, denoiser: Denoiser, rng: torch.Generator, progress: OnStep) -> Cell:
    """The points ``x`` (B, 2) after all steps of the recipe, as a cell."""
    state = before = start(Points(x), steps=recipe.steps, rng=rng)
    for state in optimize(before, recipe.make(), denoiser, optimizer=recipe.optimiser()):
        progress(state.step, recipe.steps)
    return Cell({"evaluations": state.evaluations / len(x)}, {"x": state.picture()})
