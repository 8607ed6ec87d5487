"""Points under the methods: each row on its own, and where the mean-shift iteration has to end."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from msd_core.points import MEAN_SHIFT_ITERATION, PAPER_ADAM, optimize_points
from torch import Tensor

from msd_core import MSD, GaussianMixture, bandwidth_schedule
from msd_core.denoiser import Denoiser
from msd_core.optimizers import OptimizerConfig

pytestmark = pytest.mark.core
STEPS = 60


def move(x: Tensor, denoiser: Denoiser, optimizer: OptimizerConfig, steps: int = STEPS, end: float = 0.05) -> Tensor:
    method = MSD(bandwidth_schedule("linear", 0.3, end, steps), estimator="one-step")
    generator = torch.Generator().manual_seed(0)
    walk = optimize_points(x, method, denoiser, steps=steps, optimizer=optimizer, generator=generator)
    return deque(walk, maxlen=1)[0].x


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
    method = MSD(bandwidth_schedule("linear", 0.3, 0.05, 4), estimator="one-step")
    walk = list(optimize_points(points, method, mixture, steps=4, generator=torch.Generator()))
    assert [state.step for state in walk] == [1, 2, 3, 4]
    assert [state.info.evaluations for state in walk] == [len(points)] * 4
    assert walk[0].info.bandwidth == pytest.approx(0.3)


def test_wrong_arguments_are_refused(mixture: GaussianMixture, points: Tensor) -> None:
    method = MSD(bandwidth_schedule("linear", 0.3, 0.05, 4), estimator="one-step")
    with pytest.raises(ValueError, match="x: got torch.int64"):
        next(optimize_points(points.long(), method, mixture, steps=4, generator=torch.Generator()))
    with pytest.raises(ValueError, match="steps: got 0"):
        next(optimize_points(points, method, mixture, steps=0, generator=torch.Generator()))
    with pytest.raises(ValueError, match="bandwidths: got 4 of them for 5 steps"):
        next(optimize_points(points, method, mixture, steps=5, generator=torch.Generator()))
