"""The Python API under attack: the examples that once passed or failed unclearly, and a small seeded part."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import msd_core

Z = torch.tensor([[0.3, 0.2], [0.9, 0.1], [-0.5, 0.8]])
SIGMAS = torch.tensor([2.0, 1.0, 0.0])
MIXTURE = msd_core.GaussianMixture([0.5, 0.5], [[0, 1], [1, 0]], np.stack([np.eye(2)] * 2))


def loaded(name: str) -> ModuleType:
    """A file beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(__file__).parent))
    spec.loader.exec_module(module)
    return module


api = loaded("api")


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_a_small_part() -> None:
    outcomes, faults = api.run(400, seed=20)
    assert not faults, "\n".join(faults)
    assert all(outcomes[outcome] > 20 for outcome in ("refused", "returned", "equal"))


def test_every_public_name_is_attacked_or_says_why_not() -> None:
    attacked = {target.name for target in api.core_targets()}
    assert attacked | api.RECORDS == set(msd_core.__all__) and not attacked & api.RECORDS


@pytest.mark.parametrize(
    "call",
    [
        lambda z: z[:1],  # a result that broadcasts is accepted
        lambda z: z * math.nan,  # finite arguments, and no finite result
        lambda z: int("x"),  # an error that names nothing
        lambda z: [][0],  # another error than ValueError
    ],
)
def test_the_attack_sees_faults(call: Callable[[Tensor], Any]) -> None:
    target = api.Target("planted", call, {"z": "x"}, "z")
    assert api.fault_of(target, {"z": Z}, {"z"})[0]


@pytest.mark.parametrize("bad", api.BAD_DENOISERS)
@pytest.mark.parametrize(
    "walk",
    [
        lambda d: msd_core.ddim_sample(Z, d, SIGMAS),
        lambda d: list(msd_core.heun_steps(Z, d, SIGMAS)),
        lambda d: msd_core.product_denoiser(d, Z, 1.0)(Z, 1.0),
        lambda d: msd_core.ddim_invert(Z, d, SIGMAS),
        lambda d: msd_core.mean_shift(Z, d, 1.0, estimator="one-step"),
        lambda d: msd_core.GuidedDenoiser(d, MIXTURE, 2.0)(Z, 1.0),
        lambda d: msd_core.SDS()(Z, msd_core.with_levels(d, lambda t: 1.0), step=0, steps=1, rng=msd_core.seeded(0)),
    ],
)
def test_what_a_denoiser_must_not_return(walk: Callable[[Any], Any], bad: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="denoiser: its result: got"):
        walk(bad)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: msd_core.GaussianMixture(torch.ones(1, dtype=torch.long), [[0.0]], [[[1.0]]]),
            "weights: got torch.int64",
        ),
        (lambda: msd_core.ddim_sample(Z.long(), MIXTURE, SIGMAS), "z: got torch.int64"),
        (lambda: msd_core.ddim_sample(Z * math.nan, MIXTURE, SIGMAS), "z: NaN or infinity in 6 of 6"),
        (lambda: msd_core.ddim_sample(Z[:0], MIXTURE, SIGMAS), r"z: got shape \(0, 2\)"),
        (lambda: msd_core.ddim_sample(Z.to("meta"), MIXTURE, SIGMAS), "z: got torch.strided on the device meta"),
        (lambda: MIXTURE(Z, -1.0), "sigma: got -1.0; allowed is >= 0"),
        (lambda: MIXTURE(Z, torch.tensor([1.0, math.nan, 1.0])), "sigma: got .*nan"),
        (lambda: msd_core.eps(Z, 0.0, Z), "sigma: got 0.0; allowed is > 0"),
        (lambda: msd_core.start(msd_core.Pixels(2, 2), steps=1, seed=2**64), "seed: got 18446744073709551616"),
        (lambda: msd_core.Pixels(2, 2, seed=2**64), "seed: got 18446744073709551616"),
        (lambda: msd_core.MSD().bandwidth(-1, 3), "step: got -1"),
        (lambda: msd_core.OptimizerConfig("x" * 100_000), "name: got 'x{90}.*'adam'"),
        (lambda: msd_core.Exponential(10**5000, 1), "start: got a value of type int that cannot be shown"),
        (lambda: msd_core.load_generator("a\0b"), "path: got 'a"),
    ],
)
def test_what_was_unclear(call: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        call()
    assert len(str(caught.value)) < api.LONGEST


@pytest.mark.parametrize("other", [Tensor.tolist, Tensor.numpy, lambda z: z.double().numpy()])
def test_lists_and_arrays_are_what_tensors_are(other: Callable[[Tensor], Any]) -> None:
    wanted = msd_core.ddim_sample(Z, MIXTURE, SIGMAS)
    torch.testing.assert_close(msd_core.ddim_sample(other(Z), MIXTURE, other(SIGMAS)).float(), wanted)
    shift, _ = msd_core.mean_shift(Z, MIXTURE, 0.5, noise=Z, sigmas=SIGMAS)
    given, _ = msd_core.mean_shift(other(Z), MIXTURE, 0.5, noise=other(Z), sigmas=other(SIGMAS))
    torch.testing.assert_close(given.float(), shift)


def test_names_where_a_registry_offers_the_kind() -> None:
    explicit = msd_core.invert(Z, MIXTURE, SIGMAS, "explicit").states
    assert torch.equal(explicit, msd_core.invert(Z, MIXTURE, SIGMAS, msd_core.ExplicitStep()).states)
    state = msd_core.start(msd_core.Points(Z), steps=1)
    by_name, by_kind = (
        list(msd_core.optimize(state, method, MIXTURE, optimizer=optimizer))[-1].picture()
        for method, optimizer in (("msd", "gd"), (msd_core.MSD(), msd_core.OptimizerConfig("gd")))
    )
    assert torch.equal(by_name, by_kind) and not torch.equal(by_name, Z)
    assert msd_core.MSD("exponential", "split") == msd_core.MSD(estimator=msd_core.Split())
    assert msd_core.Preset("sds").method == msd_core.SDS()


@pytest.mark.parametrize("kind", ["fourier", "siren", "hashgrid", "pixels", "latent"])
def test_generators_do_not_depend_on_the_default_type(double: None, kind: str) -> None:
    made = msd_core.generator_for_size(kind, 8, 8)
    torch.set_default_dtype(torch.float32)
    alike = msd_core.generator_for_size(kind, 8, 8)
    for a, b in zip(made.parameters(), alike.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_under_the_default_type_float64(double: None) -> None:
    quick = {"generator": "fourier", "steps": 1, "estimator": "one-step"}
    picture = list(msd_core.distil("a red circle", **quick))[-1].picture()
    torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(picture, list(msd_core.distil("a red circle", **quick))[-1].picture())
