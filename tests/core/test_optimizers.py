"""Optimisers against their closed forms and torch's own Adam."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core.optimizers import OPTIMIZERS, OptimizerConfig, Update, apply_update

pytestmark = pytest.mark.core


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def named(seed: int) -> dict[str, Tensor]:
    return {"a": torch.randn(3, 2, generator=rng(seed)), "b": torch.randn(5, generator=rng(seed + 100))}


def run_adam(config: OptimizerConfig, gradients: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    parameters, state = named(0), {}
    for k, gradient in enumerate(gradients):
        parameters, state = apply_update(config, Update(k + 1, config.lr, 1.0), parameters, gradient, state)
    return parameters


def assert_is_torch_adam(config: OptimizerConfig) -> None:
    gradients = [{name: g * 0.5**k for name, g in named(k).items()} for k in range(1, 20)]
    start = named(0)
    reference = torch.optim.Adam(start.values(), lr=0.03, betas=(0.9, 0.99), eps=1e-8)
    for gradient in gradients:
        for name, parameter in start.items():
            parameter.grad = gradient[name]
        reference.step()
    for name, parameter in run_adam(config, gradients).items():
        torch.testing.assert_close(parameter, start[name], rtol=1e-5, atol=1e-6)


def test_adam_is_torchs() -> None:
    assert_is_torch_adam(OptimizerConfig("adam", lr=0.03, eps=1e-8))
    for planted in (OptimizerConfig(lr=0.03, eps=1e-8, betas=(0.99, 0.9)), OptimizerConfig(lr=0.033, eps=1e-8)):
        with pytest.raises(AssertionError):
            assert_is_torch_adam(planted)


def test_adams_first_step_is_lr_whatever_the_scale() -> None:
    """The reason why a mean shift that shrinks with its bandwidth ends in noise under Adam."""
    for scale in (1.0, 1e-6):
        config, gradient = OptimizerConfig("adam", lr=0.01), {name: scale * g for name, g in named(1).items()}
        new, _ = apply_update(config, Update(1, 0.01, 1.0), named(0), gradient, {})
        for name, start in named(0).items():
            torch.testing.assert_close(new[name], start - 0.01 * gradient[name].sign(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_gd_moves_x_along_g_by_lr_times_g(scale: float) -> None:
    """x = J psi with a J that is far from orthogonal: <g, dx> = -lr |g|^2, at every scale of g."""
    jacobian = torch.randn(7, 4, generator=rng(), dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.1, 3.0])
    g = scale * torch.randn(7, generator=rng(1), dtype=torch.float64)
    psi = torch.randn(4, generator=rng(2), dtype=torch.float64)
    update = Update(1, 0.3, float(g @ g))
    new, state = apply_update(OptimizerConfig("gd", lr=0.3), update, {"psi": psi}, {"psi": jacobian.T @ g}, {})
    moved = jacobian @ (new["psi"] - psi)
    torch.testing.assert_close(moved @ g, -0.3 * (g @ g))
    assert state == {}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_zero_gradient_moves_nothing(name: str) -> None:
    zero = {key: torch.zeros_like(value) for key, value in named(0).items()}
    new, _ = apply_update(OptimizerConfig(name), Update(1, 0.1, 0.0), named(0), zero, {})
    for key, value in named(0).items():
        assert torch.equal(new[key], value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_is_changed_in_place(name: str) -> None:
    parameters, gradients, state = named(0), named(1), {}
    for _ in range(2):
        copies = [{key: value.clone() for key, value in part.items()} for part in (parameters, gradients, state)]
        _, new_state = apply_update(OptimizerConfig(name), Update(1, 0.1, 1.0), parameters, gradients, state)
        for part, copied in zip((parameters, gradients, state), copies, strict=True):
            assert part.keys() == copied.keys() and all(torch.equal(part[key], copied[key]) for key in part)
        state = new_state


def test_rate_falls_with_the_bandwidth() -> None:
    config = OptimizerConfig(lr=0.2, lr_coupling=0.5)
    assert [config.rate(value) for value in (10.0, 0.5, 0.25, 0.05)] == pytest.approx([0.2, 0.2, 0.1, 0.02])
    assert OptimizerConfig(lr=0.2).rate(None) == OptimizerConfig(lr=0.2).rate(1e-3) == 0.2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "sgd"}, "name: got 'sgd'"),
        ({"lr": 0.0}, "lr: got 0.0"),
        ({"lr": float("nan")}, "lr: got nan"),
        ({"eps": 0.0}, "eps: got 0.0"),
        ({"betas": (0.9, 1.0)}, "betas: got"),
        ({"betas": (0.9,)}, "betas: got"),
        ({"lr_coupling": -1.0}, "lr_coupling: got -1.0"),
    ],
)
def test_wrong_input(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OptimizerConfig(**options)


def test_coupling_needs_a_bandwidth() -> None:
    with pytest.raises(ValueError, match="lr_coupling: got 0.5 for a method without bandwidth"):
        OptimizerConfig(lr_coupling=0.5).rate(None)


def test_half_precision_moves_as_float32_does() -> None:
    """A gradient of 0 moves nothing, and the square of a small one is no 0."""
    parameters = {"a": torch.ones(3, dtype=torch.float16)}
    gradient = {"a": torch.tensor([0.0, 1e-4, -2.0], dtype=torch.float16)}
    config = OptimizerConfig(lr=0.25)
    found = apply_update(config, Update(1, config.lr, 1.0), parameters, gradient, {})[0]["a"]
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, torch.tensor([1.0, 0.75, 1.25], dtype=torch.float16))
