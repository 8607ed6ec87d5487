"""Saved states: a resumed run is the uninterrupted one to the last bit, and a bad file is one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from msd_core import (
    MSD,
    SDI,
    SDS,
    Exact,
    LatentPull,
    OptimizerConfig,
    Points,
    Pull,
    State,
    bandwidth_schedule,
    load_generator,
    load_state,
    make_generator,
    optimize,
    save_generator,
    save_state,
    sd15_schedule,
    start,
    with_levels,
)
from msd_core.tensorfile import read_tensors, write_tensors

pytestmark = pytest.mark.core
STEPS, CUT = 8, 3
METHODS = {
    "msd": MSD(bandwidth_schedule("exponential", 2.0, 0.2, STEPS), Exact(steps=3)),
    "sds": SDS(),
    "sdi": SDI(inversion_steps=3, inversion_cfg=None),
}
OPTIMIZERS = {"adam": OptimizerConfig("adam"), "gd": OptimizerConfig("gd", lr=0.3)}
SIZES = {
    "pixels": {"height": 8, "width": 8},
    "latent": {"channels": 4, "height": 8, "width": 8},
    "vector": {"height": 8, "width": 8, "paths": 4, "strokes": 3},
    "pixel-art": {"height": 8, "width": 8, "cells": 8, "colours": 3},
    "volume": {"height": 8, "width": 8, "rays": 8, "ray_samples": 4},
    "sticker": {"height": 8, "width": 8, "hidden": 8, "layers": 1},
}


def denoiser(z: Tensor, sigma: Tensor) -> Tensor:
    return torch.tanh(z - 0.3) / (1 + torch.as_tensor(sigma).reshape(-1, 1, 1, 1) ** 2)


def encode(picture: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(torch.sin(4 * picture), 2)


NEURAL = {"resolution": 16, "size": (8, 8), "hidden": 16, "layers": 2}


def run(kind: str, method: str, optimizer: str, state: State | None = None) -> list[State]:
    return list(
        optimize(
            start(make_generator(kind, **SIZES.get(kind, NEURAL)), steps=STEPS, seed=5) if state is None else state,
            METHODS[method],
            with_levels(denoiser, sd15_schedule()),
            optimizer=OPTIMIZERS[optimizer],
            pull=Pull() if kind == "latent" else LatentPull(encode),
        )
    )


def assert_equal(one: State, other: State) -> None:
    """To the last bit."""
    assert (one.step, one.steps, one.seed, one.optimizer) == (other.step, other.steps, other.seed, other.optimizer)
    assert one.history == other.history
    assert torch.equal(one.rng_state, other.rng_state)
    for a, b in (
        (one.generator.state_dict(), other.generator.state_dict()),
        (one.optimizer_state, other.optimizer_state),
    ):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["fourier", "siren", "hashgrid", "pixels", "latent"])
def test_resumed_is_uninterrupted(kind: str, method: str, optimizer: str, tmp_path: Path) -> None:
    whole = run(kind, method, optimizer)
    save_state(whole[CUT - 1], tmp_path / "state")
    loaded = load_state(tmp_path / "state")
    assert_equal(loaded, whole[CUT - 1])
    resumed = run(kind, method, optimizer, loaded)
    assert len(resumed) == STEPS - CUT
    for one, other in zip(resumed, whole[CUT:], strict=True):
        assert_equal(one, other)
    save_state(whole[-1], tmp_path / "whole")
    save_state(resumed[-1], tmp_path / "resumed")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t | {"rng": torch.Generator().manual_seed(6).get_state()},
        lambda t: t | {key: value * 0 for key, value in t.items() if key.endswith(".mean")},
        lambda t: t | {key: value * 1.001 for key, value in t.items() if key.startswith("generator.field.network")},
    ],
    ids=["random numbers", "Adam's means", "parameters"],
)
def test_every_part_of_a_state_matters(spoil: Callable[[dict], dict], tmp_path: Path) -> None:
    """The negative control of the test above: spoil one part, and the run is another."""
    whole, path = run("fourier", "sds", "adam"), tmp_path / "state"
    save_state(whole[CUT - 1], path)
    tensors, metadata = read_tensors(path, "msd-state", "1")
    save_file(spoil(tensors), str(path), metadata)
    with pytest.raises(AssertionError):
        assert_equal(run("fourier", "sds", "adam", load_state(path))[-1], whole[-1])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_state(run("fourier", "msd", "adam")[CUT], tmp_path / "state", {"prompt": "a red circle"})
    return tmp_path / "state"


def test_metadata_travels_along(saved: Path, tmp_path: Path) -> None:
    state = load_state(saved)
    assert state.metadata == {"prompt": "a red circle"}
    save_state(state, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    (following, *_) = run("fourier", "msd", "adam", state)
    assert following.metadata == state.metadata


@pytest.mark.parametrize("name", ["step", "kind", "format"])
def test_metadata_must_not_hide_the_formats_own(saved: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"metadata: got '{name}'"):
        save_state(load_state(saved), saved, {name: "x"})


def rewrite(path: Path, drop: str = "", tensors: dict[str, Tensor] | None = None, **changes: str) -> None:
    stored, metadata = read_tensors(path, "msd-state", "1")
    kept = {name: tensor for name, tensor in (stored | (tensors or {})).items() if name != drop}
    save_file(kept, str(path), {k: v for k, v in (metadata | changes).items() if k != drop})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.unlink(), "there is no file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-9]), "truncated"),
        (lambda p: save_generator(make_generator("siren"), p), "is of format 'msd-generator'"),
        (lambda p: rewrite(p, version="0"), "is of version '0'"),
        (lambda p: rewrite(p, step="9"), "damaged .step: got 9 of 8 steps"),
        (lambda p: rewrite(p, step="three"), "damaged"),
        (lambda p: rewrite(p, drop="seed"), "damaged .'seed'"),
        (lambda p: rewrite(p, drop="rng"), "damaged .rng: is missing"),
        (lambda p: rewrite(p, tensors={"rng": torch.zeros(7, dtype=torch.uint8)}), "damaged"),
        (lambda p: rewrite(p, drop="optimizer.field.network.0.bias.mean"), "damaged"),
        (lambda p: rewrite(p, drop="generator.field.network.0.bias"), "damaged .*field.network.0.bias: is missing"),
    ],
)
def test_not_a_state(saved: Path, spoil: Callable[[Path], object], words: str) -> None:
    spoil(saved)
    with pytest.raises(ValueError, match=words):
        load_state(saved)


def test_a_state_is_not_a_generator(saved: Path) -> None:
    with pytest.raises(ValueError, match="is of format 'msd-state'; allowed is 'msd-generator'"):
        load_generator(saved)


def test_unwritable(saved: Path, tmp_path: Path) -> None:
    state = load_state(saved)
    with pytest.raises(ValueError, match="path: cannot write"):
        save_state(state, tmp_path / "nowhere" / "state")


def test_only_its_own_optimizer_continues_a_state(saved: Path) -> None:
    words = "optimizer: got 'gd'; the state was started with 'adam', and only this continues it"
    with pytest.raises(ValueError, match=words):
        optimize(load_state(saved), METHODS["msd"], denoiser, optimizer=OPTIMIZERS["gd"])


def test_steps_and_seed_are_the_states_own(saved: Path) -> None:
    """They decide the annealing and the noise, and nobody can pass others: a resumed run has none to get wrong."""
    state = load_state(saved)
    assert (state.steps, state.seed, state.step) == (STEPS, 5, CUT + 1)
    with pytest.raises(TypeError):
        optimize(state, METHODS["msd"], denoiser, steps=STEPS + 1)  # type: ignore[call-arg]


def test_bandwidths_for_another_number_of_steps_are_refused(saved: Path) -> None:
    method = MSD(bandwidth_schedule("exponential", 2.0, 0.2, STEPS + 1), Exact(steps=3))
    with pytest.raises(ValueError, match="bandwidths: got 9 of them for 8 steps"):
        optimize(load_state(saved), method, denoiser)


def test_a_finished_state_yields_nothing() -> None:
    assert run("fourier", "msd", "gd", run("fourier", "msd", "gd")[-1]) == []


def test_the_file_of_another_writer_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"a": torch.zeros(1)}, "msd-state", "1", {})
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path / "x")


def test_points_keep_their_precision(tmp_path: Path) -> None:
    """A file says of which type its points are: float64 ones do not come back as float32."""
    x = torch.tensor([[0.1, 1 / 3], [2.0, -0.7]], dtype=torch.float64)
    method = MSD(bandwidth_schedule("linear", 0.3, 0.05, 4), "one-step")
    whole = list(optimize(start(Points(x), steps=4), method, lambda z, sigma: torch.sin(z)))
    save_state(whole[1], tmp_path / "state")
    loaded = load_state(tmp_path / "state")
    assert_equal(loaded, whole[1])
    assert_equal(list(optimize(loaded, method, lambda z, sigma: torch.sin(z)))[-1], whole[-1])


CONFIGS_OF_VERSION_1 = {
    "fourier": '{"features": 64, "hidden": 8, "layers": 1, "resolution": 16, "scale": 0.5, "seed": 0}',
    "siren": '{"hidden": 8, "layers": 1, "omega": 4.0, "resolution": 16, "seed": 0}',
    "hashgrid": '{"coarsest": 4, "entries": 16384, "features": 4, "finest": 8, "hidden": 8, "layers": 1, "levels": 6, '
    '"resolution": 16, "seed": 0}',
    "pixels": '{"height": 8, "init": "flat", "seed": 0, "width": 8}',
    "latent": '{"channels": 4, "height": 8, "init": "noise", "seed": 0, "width": 8}',
}
"""As the releases before settings were objects wrote them."""
SHAPES_OF_VERSION_1 = {
    "fourier": {"field.frequencies": (64, 2), "field.network.0.bias": (8,), "field.network.0.weight": (8, 128),
                "field.network.2.bias": (3,), "field.network.2.weight": (3, 8)},
    "siren": {"field.first.bias": (8,), "field.first.weight": (8, 2), "field.output.bias": (3,),
              "field.output.weight": (3, 8)},
    "hashgrid": {"field.network.0.bias": (8,), "field.network.0.weight": (8, 24), "field.network.2.bias": (3,),
                 "field.network.2.weight": (3, 8), "field.table": (265, 4)},
    "pixels": {"values": (1, 3, 8, 8)},
    "latent": {"values": (1, 4, 8, 8)},
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS_OF_VERSION_1)
def test_files_of_version_1_load(kind: str, tmp_path: Path) -> None:
    """With the names, the entries and the text that earlier releases wrote, and no others."""
    rng = torch.Generator().manual_seed(0)
    values = {name: torch.randn(shape, generator=rng) for name, shape in SHAPES_OF_VERSION_1[kind].items()}
    about = {"kind": kind, "config": CONFIGS_OF_VERSION_1[kind]}
    write_tensors(tmp_path / "generator", values, "msd-generator", "1", about)
    moved = [name for name in values if name != "field.frequencies"]
    tensors = {f"generator.{name}": value for name, value in values.items()}
    tensors |= {f"optimizer.{name}.mean": values[name].clone() for name in moved}
    tensors |= {f"optimizer.{name}.square": values[name].square() for name in moved}
    tensors |= {"rng": rng.get_state(), "history": torch.tensor([[4.0, 0.5, 0.1, 2.0, float("nan")]] * 2).double()}
    state_entries = {"step": "2", "steps": "4", "seed": "5", "optimizer": "adam", "prompt": "x"}
    write_tensors(tmp_path / "state", tensors, "msd-state", "1", {**about, **state_entries})
    generator, state = load_generator(tmp_path / "generator"), load_state(tmp_path / "state")
    for found in (generator, state.generator):
        assert found.kind == kind and found.state_dict().keys() == values.keys()
        assert all(torch.equal(found.state_dict()[name], value) for name, value in values.items())
    assert (state.step, state.steps, state.seed, state.optimizer) == (2, 4, 5, "adam")
    assert state.metadata == {"prompt": "x"} and torch.equal(state.rng_state, rng.get_state())
    assert state.info.sigma == 2.0 and state.info.bandwidth is None and state.evaluations == 8
