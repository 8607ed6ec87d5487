# ruff: noqa: ANN401 - arguments of any kind are the matter here
"""An attack on the Python API: seeded calls of everything public with good and odd arguments.

    python tests/attack/api.py --count 5000 --seed 3

A call draws good arguments and then replaces some of them by odd ones: wrong shapes and types, the device "meta", NaN,
infinity, negative and huge numbers, None, texts, lists, arrays, denoisers that broadcast or return a tuple. A result is
right if it has x's shape, is finite where everything given was, and if lists and arrays give what tensors give; all else
must be a ValueError of readable length that names one of the call's arguments.

Not attacked: huge sizes of pictures and networks, which are a matter of memory; protocols and records (`RECORDS`).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import re
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import msd_core
from msd_core.generators import make_generator

SECONDS, LONGEST = 10, 1500
RECORDS = {
    "Bandwidths", "Denoiser", "Estimator", "Generator", "Guided", "Method", "Model", "Rng",  # protocols, abstract
    "Info", "State", "NonFiniteError",  # records that the core itself makes
    "SIGMA_SCHEDULES", "SOLVERS", "setting", "sd15_schedule",  # tuples; a field's description; no argument
}  # fmt: skip


# --- what is drawn ----------------------------------------------------------------------------------------------------


class Case:
    """What the arguments of one call share: rows, dtype, and the source of everything random."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self.torch = torch.Generator().manual_seed(seed)
        self.rows = self.r.choice([1, 2, 3])
        self.dtype = self.r.choice([torch.float32, torch.float64])

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.torch, dtype=self.dtype)


def mixture() -> msd_core.GaussianMixture:
    """Two Gaussians of the plane."""
    double = {"dtype": torch.float64}
    means = torch.tensor([[0.0, 0.0], [1.0, 0.5]], **double)
    return msd_core.GaussianMixture(
        torch.tensor([0.6, 0.4], **double), means, torch.eye(2, **double).repeat(2, 1, 1) / 4
    )


def other_mixture() -> msd_core.GaussianMixture:
    return mixture().product(torch.zeros(1, 2), 1.0)


def leveled() -> Any:
    guided = msd_core.GuidedDenoiser(mixture(), other_mixture(), 2.0)
    return msd_core.with_levels(guided, msd_core.sd15_schedule())


class PixelModel:
    """A model without encoder, whose pictures are all grey."""

    cell, channels, side, differentiable, encode, decode = 1, 3, 8, True, None, None

    def denoiser(self, prompt: Any, negative: Any = "", cfg: float = 1.0) -> Any:
        grey = lambda z, sigma: 0.5 + 0 * z  # noqa: E731
        return msd_core.with_levels(msd_core.GuidedDenoiser(grey, grey, cfg), msd_core.sd15_schedule())


def pixels() -> Any:
    return make_generator("pixels", height=4, width=5)


def eps_network(x: Tensor, t: Tensor) -> Tensor:
    return 0.1 * x


def bad_network(x: Tensor, t: Tensor) -> Tensor:
    return x.mean()


BAD_DENOISERS: list[Any] = [
    lambda z, sigma: z[..., :1], lambda z, sigma: z.mean(), lambda z, sigma: (z, z), lambda z, sigma: None,
    lambda z, sigma: z.tolist(), lambda z, sigma: z.long(), lambda z, sigma: z[None], lambda z, sigma: z.to("meta"),
    lambda z, sigma: z.to(torch.complex64), lambda z, sigma: "z",
]  # fmt: skip
"""Never right for a z (B, 2)."""


def nan_denoiser(z: Tensor, sigma: Any) -> Tensor:
    return z * math.nan


GOOD: dict[str, Callable[[Case], Any]] = {
    "x": lambda c: c.normal(c.rows, 2),
    "point": lambda c: c.normal(1, 2),
    "like": lambda c: c.normal(c.rows, 2),
    "level": lambda c: c.r.choice(
        [0.5, 2, torch.rand(c.rows, dtype=c.dtype, generator=c.torch) + 0.1, torch.tensor(0.3)]
    ),
    "bandwidth": lambda c: c.r.choice([0.5, 1, torch.tensor(0.7)]),
    "number": lambda c: c.r.choice([0.5, 1.0, 2]),
    "small": lambda c: c.r.choice([0.1, 0.25]),
    "time": lambda c: c.r.choice([1.5, 700, torch.tensor([1.0, 2.0])]),
    "on": lambda c: c.r.choice([3.0, -7.5]),
    "late": lambda c: 0.98,
    "big": lambda c: c.r.choice([3.0, 8.0]),
    "cfg": lambda c: c.r.choice([1.0, 3, -7.5, 0.0]),
    "sigmas": lambda c: torch.tensor([2.0, 1.0, 0.5, 0.0], dtype=c.dtype),
    "curve": lambda c: torch.tensor([4.0, 2.0, 1.0], dtype=c.dtype),
    "alphas": lambda c: torch.tensor([0.9, 0.6, 0.2], dtype=torch.float64),
    "denoiser": lambda c: c.r.choice([leveled, leveled, leveled])(),
    "network": lambda c: eps_network,
    "schedule": lambda c: msd_core.sd15_schedule(),
    "steps": lambda c: 3,
    "step": lambda c: c.r.choice([0, 1, 2]),
    "count": lambda c: c.r.choice([1, 2, 4]),
    "even": lambda c: 2,
    "side": lambda c: c.r.choice([4, 8]),
    "cells": lambda c: c.r.choice([8, 16]),
    "cell": lambda c: c.r.choice([1, 8]),
    "seed": lambda c: c.r.choice([0, 7, 2**40]),
    "rng": lambda c: torch.Generator().manual_seed(5),
    "flag": lambda c: c.r.choice([True, False]),
    "text": lambda c: "a word",
    "weights": lambda c: torch.tensor([0.5, 0.5], dtype=c.dtype),
    "means": lambda c: torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=c.dtype),
    "covariances": lambda c: torch.eye(2, dtype=c.dtype).repeat(2, 1, 1),
    "data": lambda c: c.normal(5, 2),
    "mask": lambda c: torch.tensor([[0.0, 1.0], [1.0, 0.5]], dtype=c.dtype),
    "picture": lambda c: torch.rand(1, 3, 16, 16, generator=c.torch, dtype=torch.float32),
    "pictures": lambda c: torch.rand(1, 3, 16, 16, generator=c.torch, dtype=torch.float32),
    "set": lambda c: c.normal(12, 2),
    "set2": lambda c: c.normal(10, 2),
    "radii": lambda c: torch.rand(10, generator=c.torch, dtype=c.dtype),
    "draws": lambda c: c.normal(6, 3, 2) + 1,
    "truth": lambda c: torch.ones(3, 2, dtype=c.dtype),
    "field": lambda c: c.normal(3, 4, 2),
    "extent": lambda c: (0.0, 1.0, -1.0, 1.0),
    "shape": lambda c: (3, 4),
    "generator": lambda c: pixels(),
    "members": lambda c: [pixels(), pixels()],
    "state": lambda c: msd_core.start(pixels(), steps=3),
    "model": lambda c: PixelModel(),
    "mixture": lambda c: mixture(),
    "method": lambda c: c.r.choice(["sds", msd_core.SDS(), msd_core.MSD(msd_core.Exponential(2, 1), "one-step")]),
    "estimator": lambda c: c.r.choice([*msd_core.ESTIMATORS, msd_core.Split()]),
    "optimizer": lambda c: c.r.choice(["adam", "gd", msd_core.OptimizerConfig("gd")]),
    "pull": lambda c: msd_core.Pull(),
    "upward": lambda c: c.r.choice(["explicit", msd_core.ExplicitStep()]),
    "function": lambda c: lambda *_: 0.5,
    "encode": lambda c: lambda picture: picture,
    "preset": lambda c: msd_core.preset_of("msd", steps=3),
    "size": lambda c: (8, 8),
    "prompt": lambda c: c.r.choice(["a circle", lambda view: "a circle"]),
    "negative": lambda c: "",
    "betas": lambda c: (0.9, 0.99),
    "points_of_curve": lambda c: c.r.choice([(), ((0.5, 1.5),)]),
    "interval": lambda c: c.r.choice([None, (0.1, 2.0)]),
    "path": lambda c: Path(tempfile.gettempdir()) / "msd-attack-none" / "file.safetensors",
    "metadata": lambda c: {"prompt": "a circle"},
    "settings_owner": lambda c: c.r.choice([msd_core.MSD(), msd_core.Exact(), msd_core.Preset()]),
    "trajectory": lambda c: None,
    "optional": lambda c: None,
}
for _name, _choices in {
    "space": ["image", "latent"], "kind": ["fourier", "pixels", "siren"], "init": ["flat", "noise"],
    "weighting": ["sigma", "uniform", "dreamfusion"], "anneal": ["none", "linear", "sqrt"], "solver": ["ddim", "heun"],
    "curve_name": ["linear", "cosine", "exponential", "karras"], "schedule_name": ["karras", "exponential"],
    "optimizer_name": ["adam", "gd"], "zero": ["mean", "max", "min"], "reference": ["own mean"], "field_kind": ["fourier"],
    "centre_kind": ["x", "inversion"], "methods": ["msd", "sds"], "estimators": ["exact"], "inversions": ["explicit"],
    "bandwidths": ["linear"], "generators": ["pixels"], "models": ["demo"], "densities": ["ring"], "dtype_name": ["float32", "float64"],
}.items():  # fmt: skip
    GOOD[_name] = lambda c, choices=_choices: c.r.choice(choices)

ODD: list[Callable[[Case], Any]] = [
    *(lambda c, v=v: v for v in (
        None, "nonsense", "", b"x", 3, 0, -1, -1.5, math.nan, math.inf, -math.inf, 1e308, 10**5000, 2**64, True, 2.5,
        [], (), {}, [1.0, "a"], [[1.0], [2.0, 3.0]], [None], [1, 2], [0.5, 0.25], "x" * 100_000, "a\0b", 1 + 2j, object,
        "\udcff", range(3), {"a": 1}, np.float32(0.5), np.int64(2),
    )),
    lambda c: object(),
    lambda c: np.array([]), lambda c: np.array(["a"]), lambda c: np.array([1.0, 2.0]), lambda c: np.array(0.5),
    lambda c: torch.tensor([]), lambda c: torch.zeros(2, 0), lambda c: torch.zeros(0, 2),
    lambda c: torch.zeros(c.rows, 2, device="meta"), lambda c: torch.ones(c.rows, 2, dtype=torch.long),
    lambda c: torch.ones(c.rows, 2, dtype=torch.bool), lambda c: torch.ones(c.rows, 2, dtype=torch.complex64),
    lambda c: torch.tensor(0.5), lambda c: torch.eye(2).to_sparse(), lambda c: torch.full((c.rows, 2), math.nan),
    lambda c: torch.full((c.rows, 2), math.inf), lambda c: torch.ones(c.rows, 3), lambda c: torch.ones(c.rows + 1, 2),
    lambda c: torch.ones(2), lambda c: torch.full((c.rows,), -1.0), lambda c: torch.ones(c.rows, 2).to(torch.float8_e5m2),
    lambda c: torch.full((c.rows, 2), 1e30), lambda c: torch.ones(c.rows, 2, requires_grad=True),
    lambda c: torch.ones(c.rows, 2, dtype=torch.float16), lambda c: torch.ones(c.rows, 2, dtype=torch.bfloat16),
    lambda c: lambda *_: None, lambda c: nan_denoiser, lambda c: torch.ones(1, 1, 1, 1),
    lambda c: torch.tensor([0.5, 1.0, 2.0]), lambda c: torch.tensor([2.0, math.nan, 0.0]),
]  # fmt: skip
OWN_ODD: dict[str, list[Any]] = {"denoiser": BAD_DENOISERS, "network": [bad_network], "seed": [2**64, 2**63, -1]}


def never_right(kind: str, value: Any) -> bool:
    """Whether a call with this value can only be refused."""
    if kind == "denoiser":
        return any(value is bad for bad in BAD_DENOISERS) or not callable(value)
    if kind == "network":
        return value is bad_network or not callable(value)
    if kind in ("x", "like", "data", "set", "means", "weights", "covariances"):
        if isinstance(value, Tensor):
            return (
                value.is_meta or not value.is_floating_point() or not value.numel() or value.dtype == torch.float8_e5m2
            )
        return not isinstance(value, (list, tuple, np.ndarray))
    if kind == "seed":
        return not isinstance(value, (int, list, tuple, range, np.integer)) or value in (10**5000, 2**64, -1)
    if kind in ("level", "bandwidth", "cfg", "number"):
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        return isinstance(value, (str, bytes, dict)) or (plain and (math.isnan(value) or (kind != "cfg" and value < 0)))
    if kind == "sigmas":
        return not isinstance(value, (Tensor, np.ndarray, list, tuple))
    return False


# --- what is called ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A public name with its arguments' kinds; ``shaped`` if it returns a tensor of x's (or z's) shape."""

    name: str
    call: Callable[..., Any]
    kinds: dict[str, str]
    shaped: str = ""
    also: tuple[str, ...] = field(default=())  # further names that an error may use
    refuses: bool = False  # good arguments too: files that are not there, names that are taken


def first(steps: Iterator[Any]) -> Any:
    """The first two of a walk; the last of them."""
    return list(islice(steps, 2))[-1]


def saved(save: Callable[..., None]) -> Callable[..., Any]:
    def call(metadata: Any, **subject: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            save(*subject.values(), Path(folder) / "x.safetensors", metadata)

    return call


def core_targets() -> list[Target]:
    m = msd_core
    shift = {"x": "x", "denoiser": "denoiser", "bandwidth": "bandwidth", "rng": "rng"}
    walk = {"z": "x", "denoiser": "denoiser", "sigmas": "sigmas"}
    asked = {"x": "x", "denoiser": "denoiser", "step": "step", "steps": "steps", "rng": "rng"}
    at = {"z": "x", "sigma": "level"}
    ends = {"start": "big", "end": "small"}
    walking = {"solver": "solver", "steps": "steps", "samples": "even", "antithetic": "flag"}
    noising = {"weighting": "weighting", "anneal": "anneal", "t_min": "small", "t_max": "late"}
    picture = {"height": "side", "width": "side", "init": "init", "seed": "seed"}

    def asking(method: Any) -> Callable[..., Any]:
        return lambda x, denoiser, step, steps, rng: method(x, denoiser, step=step, steps=steps, rng=rng)[0]

    found = [
        Target("ddim_sample", m.ddim_sample, walk, "z"),
        Target("ddim_steps", lambda z, denoiser, sigmas: first(m.ddim_steps(z, denoiser, sigmas))[1], walk, "z"),
        Target("heun_steps", lambda z, denoiser, sigmas: first(m.heun_steps(z, denoiser, sigmas))[1], walk, "z"),
        Target("ddim_invert", lambda x, denoiser, sigmas: m.ddim_invert(x, denoiser, sigmas).states[-1],
               {"x": "x", "denoiser": "denoiser", "sigmas": "sigmas"}, "x"),
        Target("invert", lambda x, denoiser, sigmas, step, rng: m.invert(x, denoiser, sigmas, step, rng).states[-1],
               {"x": "x", "denoiser": "denoiser", "sigmas": "sigmas", "step": "upward", "rng": "rng"}, "x"),
        Target("Trajectory", lambda sigma: m.ddim_invert(torch.ones(1, 2), mixture(), torch.tensor([2.0, 0])).at(sigma),
               {"sigma": "number"}),
        Target("mean_shift", lambda **k: m.mean_shift(**k)[0], shift | {"estimator": "estimator"}, "x"),
        Target("mean_shift", lambda x, denoiser, bandwidth, noise, sigmas, estimator: m.mean_shift(
            x, denoiser, bandwidth, noise=noise, sigmas=sigmas, estimator=estimator)[0],
            {"x": "x", "denoiser": "denoiser", "bandwidth": "bandwidth", "noise": "like", "sigmas": "sigmas",
             "estimator": "solver_estimator"}, "x"),
        Target("mean_shift", lambda x, denoiser, bandwidth, centre, steps, rng: m.mean_shift(
            x, denoiser, bandwidth, estimator="split", centre=centre, steps=steps, rng=rng)[0],
            shift | {"centre": "trajectory", "steps": "steps"}, "x"),
        Target("Exact", lambda x, denoiser, bandwidth, rng: m.Exact()(x, denoiser, bandwidth, rng)[0], shift, "x"),
        Target("Split", lambda x, denoiser, bandwidth, rng: m.Split()(x, denoiser, bandwidth, rng)[0], shift, "x"),
        Target("Naive", lambda x, denoiser, bandwidth, rng: m.Naive()(x, denoiser, bandwidth, rng)[0], shift, "x"),
        Target("OneStep", lambda x, denoiser, bandwidth, rng: m.OneStep()(x, denoiser, bandwidth, rng)[0], shift, "x"),
        Target("Exact", m.Exact, walking, also=("antithetic",)),
        Target("Split", m.Split, walking | {"interval": "interval", "truncation": "big"}),
        Target("Naive", m.Naive, walking | {"interval": "interval"}),
        Target("OneStep", m.OneStep, {"steps": "steps", "centre": "centre_kind"}),
        Target("SDS", asking(m.SDS()), asked, "x"), Target("SDI", asking(m.SDI()), asked, "x", ("inversion_cfg",)),
        Target("MSD", asking(m.MSD(m.Exponential(2, 1), "one-step")), asked, "x"),
        Target("SDS", m.SDS, noising, also=("t_min, t_max",)), Target("SDI", m.SDI, {"t_min": "small", "eta": "number",
               "inversion_steps": "steps", "inversion_cfg": "cfg", "jitter": "flag"}, also=("t_max",)),
        Target("MSD", m.MSD, {"bandwidths": "curve", "estimator": "estimator"}, also=("values",)),
        Target("MSD", lambda step, steps: m.MSD().bandwidth(step, steps), {"step": "step", "steps": "steps"}),
        Target("METHODS", lambda name: m.METHODS.find("name", name), {"name": "methods"}),
        Target("ESTIMATORS", lambda name: m.ESTIMATORS.find("name", name), {"name": "estimators"}),
        Target("INVERSIONS", lambda name: m.INVERSIONS.find("name", name), {"name": "inversions"}),
        Target("BANDWIDTHS", lambda name: m.BANDWIDTHS.find("name", name), {"name": "bandwidths"}),
        Target("GENERATORS", lambda name: m.GENERATORS.find("name", name), {"name": "generators"}),
        Target("MODELS", lambda name: m.MODELS.find("name", name), {"name": "models"}),
        *(Target(kind.__name__, kind, ends) for kind in (m.Linear, m.Cosine, m.Exponential, m.Karras)),
        *(Target(kind.__name__, lambda steps, kind=kind: kind()(steps), {"steps": "steps"}, also=("bandwidths",))
          for kind in (m.Linear, m.Karras)),
        Target("Karras", m.Karras, ends | {"rho": "number"}),
        Target("Piecewise", m.Piecewise, ends | {"points": "points_of_curve"}),
        Target("Listed", m.Listed, {"values": "curve"}, also=("bandwidths",)),
        Target("check_bandwidths", m.check_bandwidths, {"bandwidths": "curve"}),
        Target("bandwidth_schedule", m.bandwidth_schedule, {"name": "curve_name", **ends, "steps": "steps"},
               also=("bandwidths",)),
        Target("product_sigmas", m.product_sigmas, {"bandwidth": "bandwidth", "steps": "steps"}),
        Target("cost", m.cost, {"denoiser": "callable"}), Target("sigma_range", m.sigma_range, {"denoiser": "callable"}),
        Target("differentiable", m.differentiable, {"denoiser": "callable"}),
        Target("eps", m.eps, at | {"denoised": "like"}, "z"), Target("score", m.score, at | {"denoised": "like"}, "z"),
        Target("expand_sigma", lambda sigma, z: m.expand_sigma(sigma, z), {"sigma": "level", "z": "x"}),
        Target("with_levels", lambda denoiser, levels, z, sigma: m.with_levels(denoiser, levels)(z, sigma),
               {"denoiser": "denoiser", "levels": "function", **at}, "z"),
        Target("GaussianMixture", m.GaussianMixture,
               {"weights": "weights", "means": "means", "covariances": "covariances"}),
        Target("GaussianMixture", lambda z, sigma: mixture()(z, sigma), at, "z"),
        Target("GaussianMixture", lambda z, sigma: mixture().score(z, sigma), at, "z"),
        Target("GaussianMixture", lambda x, sigma: mixture().log_prob(x, sigma), {"x": "x", "sigma": "level"}, also=("z",)),
        Target("GaussianMixture", lambda n, rng: mixture().sample(n, rng=rng), {"n": "count", "rng": "rng"}),
        Target("GaussianMixture", lambda x, bandwidth: mixture().product(x, bandwidth).mean(),
               {"x": "point", "bandwidth": "bandwidth"}, also=("weights", "means", "covariances", "z", "sigma")),
        Target("GaussianMixture", lambda reach: mixture().box(reach), {"reach": "number"}),
        Target("IdealDenoiser", lambda data, block: m.IdealDenoiser(data, block), {"data": "data", "block": "count"}),
        Target("IdealDenoiser", lambda z, sigma: m.IdealDenoiser(torch.eye(2))(z, sigma), at, "z"),
        Target("guide", m.guide, {"cond": "x", "uncond": "like", "cfg": "cfg"}, "cond"),
        Target("guided", lambda denoiser: m.guided(denoiser, "this"), {"denoiser": "callable"}),
        Target("GuidedDenoiser", lambda cond, uncond, cfg, z, sigma: m.GuidedDenoiser(cond, uncond, cfg)(z, sigma),
               {"cond": "denoiser", "uncond": "denoiser", "cfg": "on", **at}, "z", ("denoiser",)),
        Target("GuidedDenoiser", lambda cond, uncond, z, sigma: m.GuidedDenoiser(cond, uncond).parts(z, sigma)[1],
               {"cond": "denoiser", "uncond": "denoiser", **at}, "z", ("denoiser",)),
        Target("ProductDenoiser", lambda denoiser, x, bandwidth, z, sigma: m.ProductDenoiser(denoiser, x, bandwidth)(
            z, sigma), {"denoiser": "denoiser", "x": "x", "bandwidth": "bandwidth", **at}, "z"),
        Target("product_denoiser", m.product_denoiser, {"denoiser": "callable", "x": "x", "bandwidth": "bandwidth"}),
        Target("EpsDenoiser", lambda network, schedule, z, sigma: m.EpsDenoiser(network, schedule)(z, sigma),
               {"network": "network", "schedule": "schedule", **at}, "z"),
        Target("VDenoiser", lambda network, schedule, z, sigma: m.VDenoiser(network, schedule)(z, sigma),
               {"network": "network", "schedule": "schedule", **at}, "z"),
        Target("FlowDenoiser", lambda network, z, sigma: m.FlowDenoiser(network)(z, sigma), {"network": "network", **at}, "z"),
        Target("FlowDenoiser", lambda t_min, t_max: m.FlowDenoiser(eps_network, t_min, t_max),
               {"t_min": "small", "t_max": "late"}, also=("t_min, t_max",)),
        Target("DiscreteSchedule", m.DiscreteSchedule, {"alphas_cumprod": "alphas"}),
        Target("DiscreteSchedule", lambda sigma: m.sd15_schedule().timestep(sigma), {"sigma": "level"}),
        Target("DiscreteSchedule", lambda t: m.sd15_schedule().sigma(t), {"t": "time"}),
        Target("DiscreteSchedule", lambda percent: m.sd15_schedule().percent_to_sigma(percent), {"percent": "small"}),
        Target("sigma_schedule", m.sigma_schedule, {"name": "schedule_name", "steps": "steps", "schedule": "schedule"},
               also=("sigma_min", "sigma_max")),
        Target("sigma_schedule", m.sigma_schedule, {"name": "schedule_name", "steps": "steps", "sigma_min": "small",
               "sigma_max": "big"}, also=("schedule",)),
        Target("seeded", m.seeded, {"seed": "seed"}),
        Target("draw_normal", lambda x, rng, samples: m.draw_normal(x, rng, samples)[0],
               {"x": "x", "rng": "rng", "samples": "count"}, "x", ("noise",)),
        Target("draw_uniform", m.draw_uniform, {"rows": "count", "rng": "rng", "samples": "count"}),
        Target("GivenNoise", m.GivenNoise, {"noise": "like"}),
        Target("measure", lambda vector, evaluations: m.measure(vector, evaluations),
               {"vector": "x", "evaluations": "count"}),
        Target("AncestralStep", m.AncestralStep, {"eta": "number"}),
        Target("ExplicitStep", lambda z, denoiser, sigma, sigma_next: m.ExplicitStep()(z, denoiser, sigma, sigma_next),
               {"z": "x", "denoiser": "denoiser"} | {"sigma": "small", "sigma_next": "big"}, "z"),
        Target("View", m.View, {"height": "side", "width": "side"}),
        Target("Canvas", m.Canvas, {"width": "cells", "height": "cells", "cell": "cell", "space": "space"}),
        Target("Pixels", m.Pixels, picture), Target("Latent", m.Latent, {"channels": "count", **picture, "cell": "count"}),
        Target("NeuralImage", m.NeuralImage, {"kind": "field_kind", "resolution": "side", "size": "size",
               "hidden": "count", "layers": "count", "seed": "seed"}, also=("width", "height")),
        Target("Points", m.Points, {"x": "x", "dtype": "dtype_name"}),
        Target("Batch", m.Batch, {"members": "members"}),
        Target("make_generator", lambda kind, seed: m.make_generator(kind, seed=seed),
               {"kind": "field_kind", "seed": "seed"}, also=("options", "height", "width")),
        Target("generator_for_size", m.generator_for_size, {"kind": "kind", "width": "side", "height": "side",
               "seed": "seed", "channels": "count", "cell": "count"}, also=("generator", "resolution")),
        Target("save_generator", saved(m.save_generator), {"generator": "generator", "metadata": "metadata"}),
        Target("save_state", saved(m.save_state), {"state": "state", "metadata": "metadata"}),
        Target("load_generator", m.load_generator, {"path": "path"}, refuses=True),
        Target("load_state", m.load_state, {"path": "path"}, refuses=True),
        Target("load_model", m.load_model, {"path": "path", "kind": "models"}, refuses=True),
        Target("OptimizerConfig", m.OptimizerConfig, {"name": "optimizer_name", "lr": "small", "betas": "betas",
               "eps": "small", "lr_coupling": "number"}),
        Target("OptimizerConfig", lambda bandwidth: m.OptimizerConfig(lr_coupling=1.0).rate(bandwidth),
               {"bandwidth": "bandwidth"}, also=("lr_coupling",)),
        Target("start", lambda generator, steps, seed, rng: m.start(generator, steps=steps, seed=seed, rng=rng),
               {"generator": "generator", "steps": "steps", "seed": "seed", "rng": "rng"}),
        Target("optimize", lambda state, method, denoiser, pull, optimizer, tolerance: first(m.optimize(
            state, method, denoiser, pull=pull, optimizer=optimizer, tolerance=tolerance)),
            {"state": "state", "method": "method", "denoiser": "free_denoiser", "pull": "pull", "optimizer": "optimizer",
             "tolerance": "optional"}, also=("min_bandwidth", "name", "encode", "lr")),
        Target("ByView", m.ByView, {"pick": "function"}),
        Target("Preset", m.Preset, {"method": "method", "steps": "steps", "cfg": "cfg", "lr": "small",
               "optimizer": "optimizer_name", "tolerance": "optional", "min_bandwidth": "small"}),
        Target("preset_of", lambda method, cfg: m.preset_of(method, cfg=cfg), {"method": "method", "cfg": "cfg"}),
        Target("run", lambda state, preset, model, mask: first(m.run(state, preset, model, "a circle", mask=mask)),
               {"state": "state", "preset": "preset", "model": "model", "mask": "mask"}),
        Target("distil", lambda **k: first(m.distil(**k, steps=3, generator="pixels", estimator="one-step")),
               {"prompt": "prompt", "negative": "negative", "size": "size", "n": "count", "seed": "seed", "model": "model",
                "mask": "mask"}, also=("width", "height", "path", "pull")),
        Target("distil", lambda method, generator, cfg, model: first(m.distil(
            "a", method=method, generator=generator, cfg=cfg, model=model)),
            {"method": "method", "generator": "generator", "cfg": "cfg", "model": "model"}, also=("path",)),
        Target("Pull", lambda picture: m.Pull()(picture, lambda x: x), {"picture": "leaf"}, also=("generator",)),
        Target("ImagePull", m.ImagePull, {"encode": "encode", "decode": "encode"}),
        Target("LatentPull", m.LatentPull, {"encode": "encode"}),
        Target("Masked", m.Masked, {"pull": "pull", "mask": "mask"}),
        Target("check_settings", m.check_settings, {"instance": "settings_owner"}, also=("owner",)),
        Target("settings_of", m.settings_of, {"owner": "settings_owner"}),
        Target("settings_table", m.settings_table, {"owner": "settings_owner"}),
        *(Target(register.__name__, lambda name, entry, r=register: r(name, entry), {"name": "taken", "entry": "optional"},
                 also=("owner", "object"), refuses=True) for register in (m.register_method, m.register_estimator, m.register_generator)),
    ]  # fmt: skip
    return found


GOOD |= {
    "taken": lambda c: "batch",
    "leaf": lambda c: torch.rand(1, 3, 4, 4, generator=c.torch, dtype=torch.float32).requires_grad_(),
    "callable": lambda c: leveled(),
    "free_denoiser": lambda c: PixelModel().denoiser("", cfg=2.0),
    "solver_estimator": lambda c: c.r.choice(["exact", "split", "naive", "one-step"]),
}


def research_targets() -> list[Target]:
    from msd_core.research import dream, landscape, metrics
    from msd_core.research.densities import entropy, find_modes, make_density
    from msd_core.research.super_resolution import quality
    from msd_core.research.toy import ToyDenoiser, ToyNetwork

    network = ToyNetwork(dim=8, layers=1, rng=torch.Generator().manual_seed(0)).requires_grad_(False)
    at = {"z": "x", "sigma": "level"}
    two = {"generated": "set", "reference": "set2"}
    balls = {"points": "set", "centres": "set2", "radii": "radii"}
    pair = {"pictures": "picture", "truth": "pictures"}
    return [
        Target("mmd", metrics.mmd, two | {"bandwidth": "number"}),
        Target("nll", metrics.nll, {"points": "set", "mixture": "mixture"}),
        Target("precision_recall", metrics.precision_recall, two | {"k": "count"}),
        Target("radii", metrics.radii, {"points": "set", "k": "count"}),
        Target("covered", metrics.covered, balls),
        Target("distance_to_nearest", metrics.distance_to_nearest, {"points": "set", "modes": "set2"}),
        Target("modes_reached", metrics.modes_reached, {"points": "set", "modes": "set2", "radius": "number"}),
        Target("gradient_error", metrics.gradient_error, {"draws": "draws", "truth": "truth", "evaluations": "count"},
               also=("scale",)),
        Target("fit_scale", metrics.fit_scale, {"draws": "draws", "truth": "truth"}),
        Target("efficiency", metrics.efficiency, {"draws": "draws", "cost": "count", "reference": "reference"},
               also=("evaluations", "truth")),
        Target("angle", metrics.angle, {"g": "x", "truth": "like"}),
        Target("grid", landscape.grid, {"extent": "extent", "shape": "shape"}, also=("shape[0]", "shape[1]")),
        Target("integrate_gradient", landscape.integrate_gradient, {"field": "field", "extent": "extent", "zero": "zero"}),
        Target("residual", landscape.residual, {"field": "field", "extent": "extent"}),
        Target("dream_noise", dream.dream_noise, {"y": "x", "sigma": "level", "noise": "like", "denoiser": "denoiser",
               "p": "number"}, "y", ("s",)),
        Target("rectified_noise", lambda noise, s, p: dream.rectified_noise(noise, lambda: torch.as_tensor(noise), s, p),
               {"noise": "x", "s": "small", "p": "number"}, "noise", ("sigma", "predict")),
        Target("find_modes", lambda mixture, starts: find_modes(mixture, starts=starts),
               {"mixture": "mixture", "starts": "set"}),
        Target("entropy", entropy, {"mixture": "mixture", "n": "even", "rng": "rng"}),
        Target("make_density", make_density, {"name": "densities"}),
        Target("ToyNetwork", lambda z, sigma: network.score(z, sigma), at, "z"),
        Target("ToyNetwork", lambda z, sigma: network.log_density(z, sigma), at),
        Target("ToyDenoiser", lambda z, sigma: ToyDenoiser(network)(z, sigma), at, "z"),
        *(Target(f.__name__, f, pair) for f in (quality.psnr, quality.ssim, quality.sharpness, quality.consistency)),
    ]  # fmt: skip


# --- one call and its verdict -----------------------------------------------------------------------------------------


def tame(value: Any) -> bool:
    """Whether a value is finite and of usual size, so that a result has to be finite."""
    if isinstance(value, Tensor):
        plain = value.is_floating_point() and not value.is_meta and value.dtype != torch.float8_e5m2
        return plain and bool((value.detach().abs() < 1e6).all())
    if isinstance(value, (int, float, np.number)):
        return bool(abs(value) < 1e6)
    if isinstance(value, (list, tuple)):
        return all(map(tame, value))
    return value is not nan_denoiser and not isinstance(value, np.ndarray)


def as_other(value: Tensor, r: random.Random) -> Any:
    """A tensor as a list or an array of the same numbers and, for a list, of the same type."""
    return value.tolist() if r.random() < 0.5 and value.dtype == torch.get_default_dtype() else value.numpy()


def numbers_of(result: Any) -> list[Tensor]:
    """The tensors in a result."""
    if isinstance(result, Tensor):
        return [result]
    return [t for part in result for t in numbers_of(part)] if isinstance(result, (tuple, list)) else []


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise TimeoutError after `SECONDS` of this process's time."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"over {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def fault_of(target: Target, given: dict[str, Any], odd: set[str], reference: Any = None) -> tuple[str, Any]:
    """What is wrong with a call, or nothing; and its result, None if it was refused."""
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = target.call(**given)
    except ValueError as error:
        text = str(error)
        names = re.split(r", ", text.partition(":")[0])
        known = {"z", *given, *target.also, *(part for name in target.also for part in name.split(", "))}
        if not odd and not target.refuses:
            return f"good arguments were refused: {text[:300]}", None
        if len(text) > LONGEST:
            return f"a message of {len(text)} characters: {text[:80]}", None
        unnamed = not all(name.split("[")[0] in known for name in names)
        return (f"names no argument of its own: {text[:300]}" if unnamed else ""), None
    except Exception as error:  # noqa: BLE001 - what the attack looks for
        return f"{type(error).__name__}: {str(error)[:300]}", None
    for name in odd:
        if never_right(target.kinds[name], given[name]):
            return f"accepted {name}", result
    return _wrong(target, given, result, reference), result


def _wrong(target: Target, given: dict[str, Any], result: Any, reference: Any) -> str:
    """What is wrong with a result."""
    if target.shaped:
        shape = (
            np.shape(given[target.shaped])
            if not isinstance(given[target.shaped], Tensor)
            else given[target.shaped].shape
        )
        if not isinstance(result, Tensor) or tuple(result.shape) != tuple(shape):
            return f"result of {getattr(result, 'shape', type(result))}, not of {target.shaped}'s shape {tuple(shape)}"
        if all(map(tame, given.values())) and not bool(torch.isfinite(result.detach()).all()):
            return "a result that is not finite, of finite arguments"
    for got, wanted in zip(numbers_of(result), numbers_of(reference), strict=False):
        if not torch.allclose(got.detach().double(), wanted.detach().double(), rtol=1e-4, atol=1e-5, equal_nan=True):
            return "lists or arrays give another result than tensors"
    return ""


def attack(seed: int, targets: list[Target]) -> tuple[str, str, str]:
    """One call: (target, outcome, fault)."""
    c = Case(seed)
    target = c.r.choice(targets)
    how = c.r.choice(["good", "other", "odd", "odd", "odd", "odd"])
    with default_dtype(c.r.choice([torch.float32] * 4 + [torch.float64])):
        given = {name: GOOD[kind](c) for name, kind in target.kinds.items()}
        if how == "other":
            state = c.torch.get_state()
            fault, reference = fault_of(target, given, set())
            changed = {k: as_other(v, c.r) for k, v in given.items() if _convertible(target.kinds[k], v)}
            c.torch.set_state(state)
            fresh = {k: GOOD["rng"](c) if target.kinds[k] == "rng" else v for k, v in given.items()}
            given = fresh | changed
            fault = fault or fault_of(target, given, set(), reference)[0]
            return target.name, "equal", fault and f"{fault} [{_told(given, set(changed))}]"
        names = c.r.sample(list(given), k=min(len(given), c.r.choice([1, 1, 2]))) if how == "odd" else []
        for name in names:
            own = OWN_ODD.get(target.kinds[name], [])
            given[name] = c.r.choice(own) if own and c.r.random() < 0.5 else c.r.choice(ODD)(c)
            if "estimator" in target.kinds[name] and callable(given[name]):
                given[name] = object()  # a function is an estimator of one's own, and may return what it likes
        fault, result = fault_of(target, given, set(names))
    outcome = "refused" if result is None else "returned"
    return target.name, outcome, fault and f"{fault} [{_told(given, set(names))}]"


_WHOLE = ("leaf",)


def _convertible(kind: str, value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and kind not in _WHOLE and not value.requires_grad


def _told(given: dict[str, Any], names: set[str]) -> str:
    from msd_core.echo import shown

    return f"default {torch.get_default_dtype()}; " + ", ".join(
        f"{name}={shown(given[name])[:80]}" for name in sorted(names)
    )


def run(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """``count`` calls; outcomes, and a line for each fault."""
    targets = core_targets() + research_targets()
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(count):
        name, outcome, fault = attack(seed * 1_000_003 + number, targets)
        outcomes["fault" if fault else outcome] += 1
        if fault:
            faults.append(f"{seed * 1_000_003 + number} {name}: {fault}")
    return outcomes, faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Attack the Python API.")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes, faults = run(arguments.count, arguments.seed)
    print(*faults, sep="\n")
    print(f"{arguments.count} calls, seed {arguments.seed}: {dict(outcomes)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
