"""CFD against the sampler that it is: with the right step, its descent is DDIM from its own noise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GivenNoise, Pixels, ddim_sample, sd15_schedule, start, with_levels
from msd_core.denoiser import Denoiser, level_at
from msd_core.distillation.base import annealed_t
from msd_core.distillation.cfd import CFD
from msd_core.randomness import Rng, draw_normal, fixed_normal

pytestmark = pytest.mark.core
X = torch.tensor([[0.6, -0.4], [-0.3, 0.2], [0.1, 0.9]], dtype=torch.float64)
STEPS = 12


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def levels(denoiser: Denoiser, method: CFD) -> list[float]:
    times = (annealed_t(method.anneal, method.t_min, method.t_max, step, STEPS) for step in range(STEPS))
    return [level_at(denoiser, t) for t in times]


def descended(denoiser: Denoiser, method: CFD, rates: Sequence[float], source: Rng) -> Tensor:
    """x after gradient descent at these rates, a step each, from X."""
    x = X
    for step, rate in enumerate(rates):
        x = x - rate * method(x, denoiser, step=step, steps=STEPS, rng=source)[0]
    return x


@pytest.mark.parametrize("anneal", ["linear", "sqrt"])
def test_at_the_flows_own_rate_it_is_ddim(anneal: str, mixture: GaussianMixture) -> None:
    denoiser, method = with_levels(mixture, sd15_schedule()), CFD(anneal=anneal)
    sigmas = [*levels(denoiser, method), 0.0]
    rates = [1 - after / before for before, after in zip(sigmas, sigmas[1:], strict=False)]
    noise = draw_normal(X, rng(7))[0]
    drawn = ddim_sample(X + sigmas[0] * noise, mixture, torch.tensor(sigmas, dtype=torch.float64))
    ours = descended(denoiser, method, rates, rng(7))
    torch.testing.assert_close(ours, drawn, rtol=1e-9, atol=1e-10)
    planted = (
        descended(denoiser, method, rates, rng(8)),
        descended(denoiser, method, [0.9 * rate for rate in rates], rng(7)),
        descended(denoiser, CFD(anneal=anneal, t_max=0.9), rates, rng(7)),
    )
    for wrong in planted:
        assert (wrong - drawn).norm() > 1e-2, "a planted error must show"


def test_the_noise_is_the_seeds_whatever_was_drawn_since() -> None:
    source = rng(3)
    first = fixed_normal(X, source)
    state = source.get_state()
    torch.rand(5, generator=source)
    assert torch.equal(fixed_normal(X, source), first) and torch.equal(first, draw_normal(X, rng(3))[0])
    assert not torch.equal(fixed_normal(X, rng(4)), first)
    moved = rng()
    moved.set_state(source.get_state())
    assert torch.equal(fixed_normal(X, moved), first), "a state that was saved knows its seed"
    source.set_state(state)
    fixed_normal(X, source)
    assert torch.equal(source.get_state(), state), "nothing is drawn"


def test_every_row_has_the_noise_of_its_own_source() -> None:
    together = fixed_normal(X, [rng(i) for i in range(3)])
    assert torch.equal(together, torch.cat([fixed_normal(row[None], rng(i)) for i, row in enumerate(X)]))
    assert torch.equal(fixed_normal(X, GivenNoise(2 * X)), 2 * X)
    with pytest.raises(ValueError, match="rng: got 2 sources for 3 rows"):
        fixed_normal(X, [rng(), rng()])
    with pytest.raises(ValueError, match="rng: got None"):
        fixed_normal(X, None)


def test_a_seed_of_a_run_is_the_seed_of_its_noise() -> None:
    """`start` keeps no source, but its state; the seed must survive that."""
    state = start(Pixels(2, 2), steps=1, seed=11)
    source = torch.Generator()
    source.set_state(state.rng_state)
    assert torch.equal(fixed_normal(X, source), draw_normal(X, rng(11))[0])


def test_a_gradient_is_the_residual_of_one_evaluation(mixture: GaussianMixture) -> None:
    method, denoiser = CFD(t_min=0.3), with_levels(mixture, sd15_schedule())
    noise = GivenNoise(torch.ones_like(X))
    gradient, info = method(X, denoiser, step=STEPS - 1, steps=STEPS, rng=noise)
    sigma = level_at(denoiser, 0.3)
    torch.testing.assert_close(gradient, X - mixture(X + sigma, sigma))
    assert info.sigma == sigma and info.evaluations == len(X)


def test_where_the_model_gives_back_the_picture_nothing_moves() -> None:
    picture = with_levels(lambda z, sigma: X, sd15_schedule())
    assert not CFD()(X, picture, step=0, steps=2, rng=rng())[0].any()


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="anneal: got 'none'; allowed are 'linear', 'sqrt'"):
        CFD(anneal="none")
    with pytest.raises(ValueError, match="t_min, t_max: got 0.9, 0.1"):
        CFD(t_min=0.9, t_max=0.1)
