# ruff: noqa: ANN401 - arguments of any kind are the matter here
"""What the attack on the Python API calls: every public name, and those of the research wing that take tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from api_values import eps_network, mixture

import msd_core

RECORDS = {
    "Bandwidths", "Denoiser", "Estimator", "Generator", "Guided", "Method", "Model", "Rng",
    "Inversion", "Measurement", "Gain",  # protocols, abstract
    "Info", "Sampled", "Manipulated", "State", "NonFiniteError",  # records that the core itself makes
    "SIGMA_SCHEDULES", "SOLVERS", "setting", "sd15_schedule",  # tuples; a field's description; no argument
}  # fmt: skip


class Everything:
    """The measurement of all there is."""

    def apply(self, y: Any) -> Any:
        return y

    adjoint = inverse = apply


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
        Target("ImplicitStep", m.ImplicitStep, {"evaluations": "count", "tolerance": "small", "window": "count",
               "damping": "small"}),
        Target("ImplicitStep", lambda z, denoiser, sigma, sigma_next: m.ImplicitStep()(z, denoiser, sigma, sigma_next),
               {"z": "x", "denoiser": "denoiser"} | {"sigma": "small", "sigma_next": "big"}, "z"),
        Target("Direct", m.Direct, {"inversion_cfg": "cfg_or_none"}),
        Target("resample", m.resample, {"trajectory": "inverted", "denoiser": "denoiser", "below": "big"}),
        Target("resample_steps", lambda trajectory, denoiser, below: first(m.resample_steps(trajectory, denoiser,
               below))[1], {"trajectory": "inverted", "denoiser": "denoiser", "below": "big"}),
        Target("round_trip_psnr", m.round_trip_psnr, {"x": "x", "back": "like", "peak": "number"}),
        Target("inversion_for", m.inversion_for, {"sampler": "sampler"}),
        Target("flow_sigmas", m.flow_sigmas, {"times": "times"}),
        Target("negative_prompt", lambda source, target, cfg, z, sigma: m.negative_prompt(source, target, cfg)(
               z, sigma),
               {"source": "denoiser", "target": "denoiser", "cfg": "on_upwards", **at}, "z", ("denoiser",)),
        Target("Source", lambda x, denoiser, mask: m.Source(x, denoiser, mask).like(torch.ones(6, 2)),
               {"x": "x", "denoiser": "callable", "mask": "mask"}, also=("source",)),
        Target("with_companions", m.with_companions, {"denoiser": "callable", "source": "optional",
               "negative": "optional"}),
        Target("Trajectory", lambda sigma: m.ddim_invert(torch.ones(1, 2), mixture(), torch.tensor([2.0, 0])).at(sigma),
               {"sigma": "number"}),
        Target("mean_shift", lambda **k: m.mean_shift(**k)[0], shift | {"estimator": "estimator"}, "x"),
        Target("mean_shift", lambda x, denoiser, bandwidth, noise, sigmas, estimator: m.mean_shift(
            x, denoiser, bandwidth, noise=noise, sigmas=sigmas, estimator=estimator)[0],
            {"x": "x", "denoiser": "denoiser", "bandwidth": "bandwidth", "noise": "like", "sigmas": "own_sigmas",
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
        Target("cost", m.cost, {"denoiser": "callable"}), Target("sigma_range", m.sigma_range,
        {"denoiser": "callable"}),
        Target("differentiable", m.differentiable, {"denoiser": "callable"}),
        Target("eps", m.eps, at | {"denoised": "like"}, "z"), Target("score", m.score, at | {"denoised": "like"}, "z"),
        Target("expand_sigma", lambda sigma, z: m.expand_sigma(sigma, z), {"sigma": "level", "z": "x"}),
        Target("with_levels", lambda denoiser, levels, z, sigma: m.with_levels(denoiser, levels)(z, sigma),
               {"denoiser": "denoiser", "levels": "function", **at}, "z"),
        Target("GaussianMixture", m.GaussianMixture,
               {"weights": "weights", "means": "means", "covariances": "covariances"}),
        Target("GaussianMixture", lambda z, sigma: mixture()(z, sigma), at, "z"),
        Target("GaussianMixture", lambda z, sigma: mixture().score(z, sigma), at, "z"),
        Target("GaussianMixture", lambda x, sigma: mixture().log_prob(x, sigma), {"x": "x", "sigma": "level"},
        also=("z",)),
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
        Target("FlowDenoiser", lambda network, z, sigma: m.FlowDenoiser(network)(z, sigma), {"network": "network",
        **at}, "z"),
        Target("FlowDenoiser", lambda t_min, t_max: m.FlowDenoiser(eps_network, t_min, t_max),
               {"t_min": "small", "t_max": "late"}, also=("t_min, t_max",)),
        Target("EDMDenoiser", lambda network, data_std, z, sigma: m.EDMDenoiser(network, data_std=data_std)(z, sigma),
               {"network": "network", "data_std": "number", **at}, "z"),
        Target("EDMDenoiser", lambda rho: m.EDMDenoiser(eps_network, rho=rho), {"rho": "number"}),
        Target("EDMDenoiser", lambda sigma_min, sigma_max: m.EDMDenoiser(eps_network, sigma_min, sigma_max),
               {"sigma_min": "small", "sigma_max": "big"}),
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
        Target("Pixels", m.Pixels, picture), Target("Latent", m.Latent, {"channels": "count", **picture,
        "cell": "count"}),
        Target("NeuralImage", m.NeuralImage, {"kind": "field_kind", "resolution": "side", "size": "size",
               "hidden": "count", "layers": "count", "seed": "seed"}, also=("width", "height")),
        Target("Points", m.Points, {"x": "x", "dtype": "dtype_name"}),
        Target("Batch", m.Batch, {"members": "members"}),
        Target("make_generator", lambda kind, seed: m.make_generator(kind, seed=seed),
               {"kind": "field_kind", "seed": "seed"}, also=("options", "height", "width")),
        Target("Vector", m.Vector, {"width": "side", "height": "side", "paths": "count", "segments": "even",
               "tidy": "small", "seed": "seed"}),
        Target("PixelArt", m.PixelArt, {"width": "side", "height": "side", "cells": "even",
               "colours": "even", "palette": "palette", "mirror": "flag", "tidy": "small", "seed": "seed"},
               also=("colour",)),
        Target("Sticker", m.Sticker, {"width": "side", "height": "side", "hidden": "count",
               "layers": "count", "seed": "seed"}, also=("resolution", "size")),
        Target("Volume", m.Volume, {"width": "side", "height": "side", "views": "count", "rays": "side", "ray_samples":
               "count", "lowest": "small", "blob": "small", "seed": "seed"}, also=("highest", "distance")),
        Target("Camera", m.Camera, {"height": "side", "width": "side"}),
        Target("palette_from", m.palette_from, {"picture": "picture", "count": "even"}, also=("colours",)),
        Target("read_svg", lambda document: len(m.read_svg(document).shapes), {"document": "svg"},
               also=("svg", "colour")),
        Target("generator_for_size", m.generator_for_size, {"kind": "kind", "width": "side", "height": "side",
               "seed": "seed", "channels": "count", "cell": "count"}, also=("generator", "resolution")),
        Target("fit", lambda picture, steps, lr, psnr: first(m.fit(
            m.NeuralImage(resolution=16, hidden=4, layers=1), picture, steps=steps, lr=lr, psnr=psnr)),
            {"picture": "picture", "steps": "steps", "lr": "small", "psnr": "optional"}),
        Target("fit", lambda generator: m.fit(generator, torch.full((1, 3, 4, 5), 0.5)), {"generator": "generator"},
               also=("encode",)),
        Target("save_generator", saved(m.save_generator), {"generator": "generator", "metadata": "metadata"}),
        Target("save_state", saved(m.save_state), {"state": "state", "metadata": "metadata"}),
        Target("load_generator", m.load_generator, {"path": "path"}, refuses=True),
        Target("load_state", m.load_state, {"path": "path"}, refuses=True),
        Target("load_model", m.load_model, {"path": "path", "kind": "models"}, refuses=True),
        Target("load_pipeline", m.load_pipeline, {"path": "path", "dtype": "dtype_name"}, also=("kind",), refuses=True),
        Target("PipelineModel", m.PipelineModel.of, {"pipe": "callable"}, refuses=True),
        Target("OptimizerConfig", m.OptimizerConfig, {"name": "optimizer_name", "lr": "small", "betas": "betas",
               "eps": "small", "lr_coupling": "number"}),
        Target("OptimizerConfig", lambda bandwidth: m.OptimizerConfig(lr_coupling=1.0).rate(bandwidth),
               {"bandwidth": "bandwidth"}, also=("lr_coupling",)),
        Target("start", lambda generator, steps, seed, rng: m.start(generator, steps=steps, seed=seed, rng=rng),
               {"generator": "generator", "steps": "steps", "seed": "seed", "rng": "rng"}),
        Target("optimize", lambda state, method, denoiser, pull, optimizer, tolerance: first(m.optimize(
            state, method, denoiser, pull=pull, optimizer=optimizer, tolerance=tolerance)),
            {"state": "state", "method": "method", "denoiser": "free_denoiser", "pull": "pull",
            "optimizer": "optimizer",
             "tolerance": "optional"}, also=("min_bandwidth", "name", "encode", "lr")),
        Target("ByView", m.ByView, {"pick": "function"}),
        Target("Preset", m.Preset, {"method": "method", "steps": "steps", "cfg": "cfg", "lr": "small",
               "optimizer": "optimizer_name", "tolerance": "optional", "min_bandwidth": "small"}),
        Target("preset_of", lambda method, cfg: m.preset_of(method, cfg=cfg), {"method": "method", "cfg": "cfg"}),
        Target("Units", m.Units, {"data_std": "number", "coordinates": "count", "sigma_max": "big"}),
        Target("units_of", m.units_of, {"model": "model", "width": "side", "height": "side"}, also=("path",)),
        Target("preset_named", lambda preset, units, cfg: m.preset_named(preset, units, {"cfg": cfg}),
               {"preset": "presets", "units": "units", "cfg": "cfg"}),
        Target("warning_of", m.warning_of, {"state": "stepped", "preset": "preset", "data_std": "number"}),
        Target("run", lambda state, preset, model, mask: first(m.run(state, preset, model, "a circle", mask=mask)),
               {"state": "state", "preset": "preset", "model": "model", "mask": "mask"}),
        Target("distil", lambda **k: first(m.distil(**k, steps=3, generator="pixels", estimator="one-step")),
               {"prompt": "prompt", "negative": "negative", "size": "size", "n": "count", "seed": "seed",
               "model": "model",
                "mask": "mask"}, also=("width", "height", "path", "pull")),
        Target("sample", lambda **k: m.sample(**k, steps=2),
               {"model": "model", "prompt": "prompt", "negative": "negative", "cfg": "cfg", "width": "side",
                "height": "side", "n": "count", "seed": "seed"}, also=("path",)),
        Target("edit", lambda **k: m.edit(prompt="a", **k), {"picture": "picture", "model": "model",
               "strength": "small", "steps": "steps", "mask": "optional", "seed": "seed"}, also=("path",)),
        Target("inpaint", lambda **k: m.inpaint(prompt="a", **k), {"picture": "picture", "mask": "hole",
               "model": "model", "cfg": "cfg", "steps": "steps", "seed": "seed", "solver": "gains"},
               also=("path",)),
        Target("restore", lambda **k: m.restore(prompt="a", steps=2, **k), {"observation": "observed",
               "size": "whole", "model": "model", "cfg": "cfg", "seed": "seed",
               "temperature": "small"}, also=("path", "b")),
        Target("observe", lambda y, noise, rng: m.observe(y, Everything(), noise, rng).b,
               {"y": "x", "noise": "small", "rng": "rng"}),
        Target("Observation", lambda b, noise: m.Observation(Everything(), b, noise),
               {"b": "x", "noise": "small"}),
        Target("PosteriorDenoiser", lambda denoiser, z, sigma, gain: m.PosteriorDenoiser(
               denoiser, m.Observation(Everything(), torch.ones(1, 2), 0.5), gain)(z, sigma),
               {"denoiser": "denoiser", "z": "x", "sigma": "small", "gain": "gains"}, "z"),
        Target("posterior_sample", lambda z, denoiser, sigmas, rng, solver: m.posterior_sample(
               z, denoiser, m.Observation(Everything(), torch.ones(1, 2), 0.5), sigmas, rng=rng, solver=solver),
               {"z": "x", "denoiser": "denoiser", "sigmas": "sigmas", "rng": "rng", "solver": "walks"}, "z"),
        Target("posterior_steps", lambda z, denoiser, sigmas, rng: first(m.posterior_steps(
               z, denoiser, m.Observation(Everything(), torch.ones(1, 2), 0.5), sigmas, "dps", rng)),
               {"z": "x", "denoiser": "denoiser", "sigmas": "sigmas", "rng": "rng"}),
        Target("dream_sample", lambda z, denoiser, sigmas, kept, rng, temperature: m.dream_sample(
               z, m.Denoised(denoiser), sigmas, kept=kept, rng=rng, temperature=temperature),
               {"z": "x", "denoiser": "denoiser", "sigmas": "sigmas", "kept": "small", "rng": "rng",
               "temperature": "small"}, "z"),
        Target("Denoised", lambda denoiser, z: m.Denoised(denoiser)(z, 1.0)[0], {"denoiser": "denoiser", "z": "x"},
               "z"),
        Target("Edited", lambda denoiser, strength, steps, z: m.Edited(denoiser, strength, steps)(z, 1.0)[0],
               {"denoiser": "denoiser", "strength": "small", "steps": "steps", "z": "x"}, "z"),
        Target("MEASUREMENTS", lambda name: m.MEASUREMENTS.find("name", name), {"name": "measurements"}),
        *(Target(name, lambda name, of=name: getattr(m, of).find("name", name), {"name": "gains"})
          for name in ("INVERSE_SOLVERS", "RESTORERS")),
        Target("GAINS", lambda name: m.GAINS.find("name", name), {"name": "gains"}),
        Target("distil", lambda method, generator, cfg, model: first(m.distil(
            "a", method=method, generator=generator, cfg=cfg, model=model)),
            {"method": "method", "generator": "generator", "cfg": "cfg", "model": "model"}, also=("path", "picture")),
        Target("Pull", lambda picture: m.Pull()(picture, lambda x: x), {"picture": "leaf"}, also=("generator",)),
        Target("ImagePull", m.ImagePull, {"encode": "encode", "decode": "encode"}),
        Target("LatentPull", m.LatentPull, {"encode": "encode"}),
        Target("Masked", m.Masked, {"pull": "pull", "mask": "mask", "hold": "small"}),
        Target("Measured", m.Measured, {"pull": "pull", "observation": "observed", "error": "number"}),
        Target("check_settings", m.check_settings, {"instance": "settings_owner"}, also=("owner",)),
        Target("settings_of", m.settings_of, {"owner": "settings_owner"}),
        Target("settings_table", m.settings_table, {"owner": "settings_owner"}),
        *(Target(register.__name__, lambda name, entry, r=register: r(name, entry), {"name": "taken",
        "entry": "optional"},
                 also=("owner", "object"), refuses=True) for register in (m.register_method, m.register_estimator,
                 m.register_generator)),
    ]  # fmt: skip
    return found


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
        Target("integrate_gradient", landscape.integrate_gradient, {"field": "field", "extent": "extent",
        "zero": "zero"}),
        Target("residual", landscape.residual, {"field": "field", "extent": "extent"}),
        Target("dream_noise", dream.dream_noise, {"y": "x", "sigma": "level", "noise": "like", "denoiser": "denoiser",
               "p": "number"}, "y", ("s",)),
        Target("rectified_noise", lambda noise, s, p: dream.rectified_noise(noise, lambda: torch.as_tensor(noise), s,
        p),
               {"noise": "x", "s": "small", "p": "number"}, "noise", ("sigma", "predict")),
        Target("find_modes", lambda mixture, starts: find_modes(mixture, starts=starts),
               {"mixture": "mixture", "starts": "own_set"}),
        Target("entropy", entropy, {"mixture": "mixture", "n": "even", "rng": "rng"}),
        Target("make_density", make_density, {"name": "densities"}),
        Target("ToyNetwork", lambda z, sigma: network.score(z, sigma), at, "z"),
        Target("ToyNetwork", lambda z, sigma: network.log_density(z, sigma), at),
        Target("ToyDenoiser", lambda z, sigma: ToyDenoiser(network)(z, sigma), at, "z"),
        *(Target(f.__name__, f, pair) for f in (quality.psnr, quality.ssim, quality.sharpness, quality.consistency)),
    ]  # fmt: skip
