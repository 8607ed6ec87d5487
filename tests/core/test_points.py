"""Points under the methods: each row on its own, and where the mean-shift iteration has to end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core import MSD, Exact, GaussianMixture, LatentPull, Points, State, bandwidth_schedule, optimize, start
from msd_core.denoiser import Denoiser
from msd_core.optimizers import OptimizerConfig

pytestmark = pytest.mark.core
STEPS = 60
PAPER_ADAM = OptimizerConfig("adam", lr=0.08, betas=(0.9, 0.999), eps=1e-8)
"""Mean-Shift Distillation, section 4.2: Adam, lr = .08; its other settings are torch's defaults."""
MEAN_SHIFT_ITERATION = OptimizerConfig("gd", lr=1.0)
"""x <- x - g: with g = x - x', the mean-shift iteration."""


def walk(x: Tensor, denoiser: Denoiser, optimizer: OptimizerConfig, steps: int, end: float = 0.05) -> list[State]:
    method = MSD(bandwidth_schedule("linear", 0.3, end, steps), "one-step")
    return list(optimize(start(Points(x), steps=steps), method, denoiser, optimizer=optimizer))


def move(x: Tensor, denoiser: Denoiser, optimizer: OptimizerConfig, steps: int = STEPS, end: float = 0.05) -> Tensor:
    return walk(x, denoiser, optimizer, steps, end)[-1].picture()


def assert_at_modes(mixture: GaussianMixture, x: Tensor, bandwidth: float) -> None:
    """At maxima of the density smoothed by the last bandwidth: no slope, and lower on all sides."""
    assert bool((mixture.score(x, bandwidth).norm(dim=1) < 0.5).all())
    for way in torch.tensor([[0.1, 0.0], [-0.1, 0.0], [0.0, 0.1], [0.0, -0.1]], dtype=x.dtype):
        assert bool((mixture.log_prob(x + way, bandwidth) < mixture.log_prob(x, bandwidth)).all())


@pytest.mark.parametrize("optimizer", [MEAN_SHIFT_ITERATION, PAPER_ADAM, OptimizerConfig("gd", lr=0.5)])
def test_points_end_at_modes_of_the_smoothed_density(
    optimizer: OptimizerConfig, mixture: GaussianMixture, points: Tensor
) -> None:
    assert_at_modes(mixture, move(points, mixture, optimizer, steps=200, end=0.1), 0.1)
    with pytest.raises(AssertionError):
        away = move(points, lambda z, sigma: 2 * z - mixture(z, sigma), optimizer, end=0.1)
        assert_at_modes(mixture, away, 0.1)


def test_the_mean_shift_iteration_is_its_definition(mixture: GaussianMixture, points: Tensor) -> None:
    x = points
    for bandwidth in bandwidth_schedule("linear", 0.3, 0.05, 7):
        x = mixture(x, float(bandwidth))
    torch.testing.assert_close(move(points, mixture, MEAN_SHIFT_ITERATION, 7), x)


def test_adam_is_torchs(mixture: GaussianMixture, points: Tensor) -> None:
    x = points.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=PAPER_ADAM.lr)
    for bandwidth in bandwidth_schedule("linear", 0.3, 0.05, 12):
        x.grad = x.detach() - mixture(x.detach(), float(bandwidth))
        adam.step()
    torch.testing.assert_close(move(points, mixture, PAPER_ADAM, 12), x.detach())


@pytest.mark.parametrize("optimizer", [MEAN_SHIFT_ITERATION, PAPER_ADAM])
def test_rows_do_not_know_each_other(optimizer: OptimizerConfig, mixture: GaussianMixture, points: Tensor) -> None:
    rows = torch.cat([move(points[i : i + 1], mixture, optimizer) for i in range(len(points))])
    torch.testing.assert_close(move(points, mixture, optimizer), rows)


def test_every_step_is_told(mixture: GaussianMixture, points: Tensor) -> None:
    states = walk(points, mixture, PAPER_ADAM, 4)
    assert [state.step for state in states] == [1, 2, 3, 4]
    assert [state.info.evaluations for state in states] == [len(points)] * 4
    assert states[0].info.bandwidth == pytest.approx(0.3)
    assert states[0].picture().dtype == points.dtype


def test_points_are_copied(points: Tensor) -> None:
    """Neither the tensor they were made from nor the generator of an earlier state is moved."""
    before, generator = points.clone(), Points(points)
    states = list(optimize(start(generator, steps=2), MSD((0.3, 0.2), "one-step"), lambda z, sigma: 0 * z))
    assert torch.equal(points, before) and torch.equal(generator.values, before)
    assert not torch.equal(states[0].picture(), before) and not torch.equal(states[0].picture(), states[1].picture())


def test_the_noise_goes_on_from_a_given_source(mixture: GaussianMixture, points: Tensor) -> None:
    """``rng=g`` starts at g's present state and leaves g itself alone; the state after the run is in the state."""
    rng, twin = (torch.Generator().manual_seed(3) for _ in range(2))
    torch.rand(5, generator=rng), torch.rand(5, generator=twin)
    method = MSD((0.3, 0.2), Exact(steps=4))
    states = list(optimize(start(Points(points), steps=2, rng=rng), method, mixture, optimizer=MEAN_SHIFT_ITERATION))
    x = points
    for step in range(2):
        x = x - method(x, mixture, step=step, steps=2, rng=twin)[0]
    torch.testing.assert_close(states[-1].picture(), x)
    assert torch.equal(states[-1].rng_state, twin.get_state())
    fresh = torch.Generator().manual_seed(3)
    torch.rand(5, generator=fresh)
    assert torch.equal(rng.get_state(), fresh.get_state())


def test_wrong_arguments_are_refused(mixture: GaussianMixture, points: Tensor) -> None:
    method = MSD(bandwidth_schedule("linear", 0.3, 0.05, 4), "one-step")
    with pytest.raises(ValueError, match="x: got torch.int64"):
        Points(points.long())
    with pytest.raises(ValueError, match="x: got torch.float64, shape"):
        Points(torch.tensor(1.0).double())
    with pytest.raises(ValueError, match="dtype: got 'int64'"):
        Points([3, 2], dtype="int64")
    with pytest.raises(ValueError, match="steps: got 0"):
        start(Points(points), steps=0)
    with pytest.raises(ValueError, match="bandwidths: got 4 of them for 5 steps"):
        optimize(start(Points(points), steps=5), method, mixture)
    with pytest.raises(ValueError, match="pull: got LatentPull for a generator that renders points"):
        optimize(start(Points(points), steps=4), method, mixture, pull=LatentPull(torch.sin))
