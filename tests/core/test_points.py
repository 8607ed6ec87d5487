"""Points under the methods: each row on its own, and where the mean-shift iteration has to end."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import Tensor

from msd_core import MSD, GaussianMixture, Linear, OneStep, OptimizerConfig, Points, optimize, start
from msd_core.denoiser import Denoiser

pytestmark = pytest.mark.core
STEPS = 60
MEAN_SHIFT_ITERATION = OptimizerConfig("gd", lr=1.0)
PAPER_ADAM = OptimizerConfig("adam", lr=0.08, betas=(0.9, 0.999), eps=1e-8)


def move(x: Tensor, denoiser: Denoiser, optimizer: OptimizerConfig, steps: int = STEPS, end: float = 0.05) -> Tensor:
    method = MSD(Linear(0.3, end), OneStep())
    walk = optimize(start(Points(x), steps=steps), method, denoiser, optimizer=optimizer)
    return deque(walk, maxlen=1)[0].picture()


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
    for bandwidth in Linear(0.3, 0.05)(7):
        x = mixture(x, float(bandwidth))
    torch.testing.assert_close(move(points, mixture, MEAN_SHIFT_ITERATION, 7), x)


def test_adam_is_torchs(mixture: GaussianMixture, points: Tensor) -> None:
    x = points.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=PAPER_ADAM.lr)
    for bandwidth in Linear(0.3, 0.05)(12):
        x.grad = x.detach() - mixture(x.detach(), float(bandwidth))
        adam.step()
    torch.testing.assert_close(move(points, mixture, PAPER_ADAM, 12), x.detach())


@pytest.mark.parametrize("optimizer", [MEAN_SHIFT_ITERATION, PAPER_ADAM])
def test_rows_do_not_know_each_other(optimizer: OptimizerConfig, mixture: GaussianMixture, points: Tensor) -> None:
    rows = torch.cat([move(points[i : i + 1], mixture, optimizer) for i in range(len(points))])
    torch.testing.assert_close(move(points, mixture, optimizer), rows)


def test_every_step_is_told(mixture: GaussianMixture, points: Tensor) -> None:
    walk = list(optimize(start(Points(points), steps=4), MSD(Linear(0.3, 0.05), OneStep()), mixture))
    assert [state.step for state in walk] == [1, 2, 3, 4]
    assert [state.info.evaluations for state in walk] == [len(points)] * 4
    assert walk[0].info.bandwidth == pytest.approx(0.3)


def test_a_run_goes_on_from_the_callers_source_and_leaves_it_alone(mixture: GaussianMixture, points: Tensor) -> None:
    rng = torch.Generator().manual_seed(7)
    before = rng.get_state()
    ends = []
    for begin in (start(Points(points), steps=2, rng=rng), start(Points(points), steps=2, seed=7)):
        ends.append(list(optimize(begin, MSD(Linear(0.3, 0.05)), mixture))[-1].picture())
    assert torch.equal(*ends) and torch.equal(rng.get_state(), before)


def test_wrong_arguments_are_refused(points: Tensor) -> None:
    with pytest.raises(ValueError, match="x: got torch.int64"):
        Points(points.long())
    with pytest.raises(ValueError, match="steps: got 0"):
        start(Points(points), steps=0)
