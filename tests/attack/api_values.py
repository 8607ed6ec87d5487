# ruff: noqa: ANN401 - arguments of any kind are the matter here
"""What the attack on the Python API draws: good arguments by kind, odd ones of all kinds, and what is never right."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import msd_core
from msd_core.generators import make_generator


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


MOVING = msd_core.MSD([2.0, 1.0, 0.5], "one-step")
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
    "own_set": lambda c: c.normal(4, 2),
    "own_sigmas": lambda c: torch.tensor([2.0, 0.7, 0.0], dtype=c.dtype),
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
    "palette": lambda c: c.r.choice(["", "gameboy", "#ff0000 #00ff00"]),
    "svg": lambda c: '<svg viewBox="0 0 9 9"><path d="M0 0 L 3 3 0 3 Z"/></svg>',
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
    "stepped": lambda c: next(msd_core.optimize(msd_core.start(pixels(), steps=3), MOVING, lambda z, _: z / 2)),
    "units": lambda c: msd_core.Units(1.0, 1024, 14.6),
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
    "hole": lambda c: torch.ones(16, 16),
    "observed": lambda c: msd_core.observe(torch.full((1, 3, 8, 8), 0.5), msd_core.MEASUREMENTS["pool"](2)),
    "whole": lambda c: (8, 8),
}
for _name, _choices in {
    "space": ["image", "latent"], "kind": ["fourier", "pixels", "siren"], "init": ["flat", "noise"],
    "weighting": ["sigma", "uniform", "dreamfusion"], "anneal": ["none", "linear", "sqrt"], "solver": ["ddim", "heun"],
    "curve_name": ["linear", "cosine", "exponential", "karras"], "schedule_name": ["karras", "exponential"],
    "optimizer_name": ["adam", "gd"], "zero": ["mean", "max", "min"], "reference": ["own mean"],
    "field_kind": ["fourier"],
    "centre_kind": ["x", "inversion"], "methods": ["msd", "sds"], "estimators": ["exact"], "inversions": ["explicit"],
    "bandwidths": ["linear"], "generators": ["pixels"], "models": ["demo"], "densities": ["ring"],
    "measurements": ["pool"], "gains": ["proximal"], "walks": ["kalman", "red-diff", "dps"],
    "presets": ["fast", "balanced"],
    "dtype_name": ["float32", "float64"],
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
    lambda c: torch.ones(2), lambda c: torch.full((c.rows,), -1.0), lambda c: torch.ones(c.rows,
    2).to(torch.float8_e5m2),
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


GOOD |= {
    "inverted": lambda c: msd_core.ddim_invert(c.normal(c.rows, 2), mixture(), torch.tensor([2.0, 0.5, 0.0])),
    "times": lambda c: torch.tensor([0.999, 0.5, 0.0], dtype=c.dtype),
    "sampler": lambda c: c.r.choice(["euler", "ddim", "heun", "dpmpp_2m"]),
    "cfg_or_none": lambda c: c.r.choice([None, 1.0, 3]),
    "on_upwards": lambda c: c.r.choice([0.5, 7.5]),
    "like": lambda c: c.normal(c.rows, 2),
    "taken": lambda c: "batch",
    "leaf": lambda c: torch.rand(1, 3, 4, 4, generator=c.torch, dtype=torch.float32).requires_grad_(),
    "callable": lambda c: leveled(),
    "free_denoiser": lambda c: PixelModel().denoiser("", cfg=2.0),
    "solver_estimator": lambda c: c.r.choice(["exact", "split", "naive", "one-step"]),
}
