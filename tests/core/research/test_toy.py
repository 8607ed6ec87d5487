"""The learned denoiser in the plane: its score, its training against the closed form, its average, its cache."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture
from msd_core.research.toy import (
    ToyDenoiser,
    ToyNetwork,
    ToySettings,
    smaller,
    train_steps,
    unconditional,
)
from msd_core.research.toy import network as network_module
from msd_core.research.toy import train as train_module
from msd_core.research.toy.ema import power_exponent, power_rate
from msd_core.research.toy.pool import log_normal_levels, scored_points
from msd_core.research.toy.train import toy_network

pytestmark = pytest.mark.core
TINY = ToySettings("mine", dim=8, layers=2, steps=12, batch=32, pool=512)
SHORT = ToySettings("mine", dim=32, layers=3, steps=400, batch=512, pool=2**15, lr_hold=100)
LEVELS = (0.05, 0.2, 0.5, 2.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(settings: ToySettings, mixture: GaussianMixture) -> ToyNetwork:
    """The network with the averaged weights at the end of a training."""
    *_, state = train_steps(settings, mixture)
    return toy_network(settings, state.average)


def three() -> GaussianMixture:
    """Three unequal Gaussians without a symmetry; float64."""
    spread = torch.tensor([[[0.09, 0.05], [0.05, 0.06]], [[0.02, 0.0], [0.0, 0.05]], [[0.03, -0.02], [-0.02, 0.04]]])
    means = torch.tensor([[-0.4, 0.1], [0.7, 0.3], [0.1, -0.8]])
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]).double(), means.double(), spread.double())


@pytest.fixture
def network() -> ToyNetwork:
    """A network in float64 that is not at its start: gain .7, which makes all of its terms count."""
    made = ToyNetwork(dim=16, layers=3, rng=seeded()).double()
    torch.nn.init.constant_(made.gain, 0.7)
    return made


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    """Points (50, 2) and a level for each."""
    generator = seeded(1)
    z = torch.randn(50, 2, dtype=torch.float64, generator=generator)
    return z, (1.5 * torch.randn(50, dtype=torch.float64, generator=generator) - 2.3).exp()


def by_autograd(network: ToyNetwork, z: Tensor, sigma: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(network.log_density(z, sigma).sum(), z, create_graph=True)[0]


def assert_score(network: ToyNetwork, z: Tensor, sigma: Tensor) -> None:
    torch.testing.assert_close(network.score(z, sigma), by_autograd(network, z, sigma), rtol=1e-9, atol=1e-9)


def test_the_score_is_the_gradient_of_the_log_density(network: ToyNetwork, rows: tuple[Tensor, Tensor]) -> None:
    assert_score(network, *rows)


def test_a_wrong_slope_would_fail(
    network: ToyNetwork, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "_slope_times", lambda gradient, h: gradient * h.sigmoid())
    with pytest.raises(AssertionError):
        assert_score(network, *rows)


def test_its_derivatives_are_those_of_a_double_backward(network: ToyNetwork, rows: tuple[Tensor, Tensor]) -> None:
    z, sigma = rows
    target = torch.randn(z.shape, dtype=torch.float64, generator=seeded(2))
    leaves = list(network.parameters())

    def gradients(score: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(train_module.score_loss(score, target, sigma), leaves)

    for ours, theirs in zip(gradients(network.score(z, sigma)), gradients(by_autograd(network, z, sigma)), strict=True):
        assert float(theirs.norm()) > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    z = z[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: network.score(z, sigma[:3]), z)


def test_a_batch_is_its_rows(network: ToyNetwork) -> None:
    """Also across the chunks, and for rows of another shape."""
    z = torch.randn(network_module._CHUNK + 3, 2, dtype=torch.float64, generator=seeded(3))
    sigma = torch.rand(len(z), dtype=torch.float64, generator=seeded(4)) + 0.01
    whole = network.score(z.reshape(-1, 1, 2), sigma).reshape(-1, 2)
    for row in (0, 1, len(z) - 1):
        torch.testing.assert_close(whole[row], network.score(z[row : row + 1], float(sigma[row]))[0])


def test_length_of_the_weights_does_not_matter(network: ToyNetwork, rows: tuple[Tensor, Tensor]) -> None:
    before = network.score(*rows)
    with torch.no_grad():
        network.weights[1].mul_(3.0)
    torch.testing.assert_close(network.score(*rows), before)


def test_at_the_start_it_is_the_denoiser_of_one_gaussian(rows: tuple[Tensor, Tensor]) -> None:
    z, sigma = rows
    start = ToyDenoiser(ToyNetwork(sigma_data=0.4, rng=seeded()).double().requires_grad_(False))
    truth = GaussianMixture(torch.ones(1), torch.zeros(1, 2), 0.16 * torch.eye(2)[None])
    torch.testing.assert_close(start(z, sigma), truth(z, sigma), rtol=1e-6, atol=1e-6)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(start(-z, sigma), truth(z, sigma), rtol=1e-6, atol=1e-6)


def test_at_large_sigma_every_network_tends_to_it(network: ToyNetwork) -> None:
    """D = z sigma_data^2/(sigma^2 + sigma_data^2), up to a term that falls against the noise."""
    unit = torch.randn(200, 2, dtype=torch.float64, generator=seeded(5))
    share = []
    for sigma in (1.0, 10.0, 100.0):
        z, spread = sigma * unit, sigma**2 + 0.25
        off = ToyDenoiser(network.requires_grad_(False))(z, sigma) - z * 0.25 / spread
        share.append(float(off.norm() / z.norm()))
    assert share[0] > 0.05 and share[1] < share[0] / 5 and share[2] < share[1] / 5


def test_a_graph_only_where_it_is_asked_for(network: ToyNetwork, rows: tuple[Tensor, Tensor]) -> None:
    denoiser, (z, sigma) = ToyDenoiser(network), rows
    assert not denoiser(z, sigma).requires_grad
    assert denoiser(z.clone().requires_grad_(), sigma).requires_grad
    assert denoiser(z.half(), 0.5).dtype == torch.float32
    assert denoiser(z, 0.5).dtype == torch.float64
    assert (denoiser.sigma_min, denoiser.sigma_max) == (0.002, 5.0)


def test_a_box_keeps_far_points_from_being_thrown_off(network: ToyNetwork, rows: tuple[Tensor, Tensor]) -> None:
    """Inside the box nothing changes; a network that points outwards does not get past its sides."""
    z, sigma = rows
    free, low, high = ToyDenoiser(network)(z, sigma), torch.tensor([-0.2, -0.1]), torch.tensor([0.3, 0.4])
    boxed = ToyDenoiser(network, box=(low, high))(z.reshape(-1, 1, 2), sigma)
    assert boxed.dtype == free.dtype and boxed.shape == (len(z), 1, 2)
    torch.testing.assert_close(boxed[:, 0], torch.minimum(torch.maximum(free, low), high), rtol=0, atol=0)
    assert not torch.equal(boxed[:, 0], free)


# The pool


def assert_stein(z: Tensor, score: Tensor) -> None:
    """E[score] = 0 and E[<z, score>] = -D, for the score of z's own density; within 5 standard errors."""
    for value, truth in ((score, 0.0), ((z * score).sum(dim=1, keepdim=True), -2.0)):
        error = (value.double().mean(dim=0) - truth) / (value.double().std(dim=0) / len(value) ** 0.5)
        assert float(error.abs().max()) < 5


def test_its_points_follow_the_noised_density(mixture: GaussianMixture) -> None:
    z, sigma, score = scored_points(mixture, 20_000, -1.5, 0.5, rng=seeded())
    assert z.shape == score.shape == (20_224, 2) and sigma.shape == (20_224,)
    exact = mixture.score(z[::977].double(), sigma[::977])
    torch.testing.assert_close(score[::977].double(), exact, rtol=1e-5, atol=1e-5)
    assert_stein(z, score)
    for wrong in (-score, mixture.score(z, 1.2 * sigma)):
        with pytest.raises(AssertionError):
            assert_stein(z, wrong)


def test_one_level_in_each_stratum() -> None:
    levels = log_normal_levels(1000, -2.3, 1.5, rng=seeded())
    place = torch.special.ndtr((levels.log() + 2.3) / 1.5) * 1000
    assert torch.equal(place.floor(), torch.arange(1000.0).double())


# The average of the weights


@pytest.mark.parametrize("std", [0.01, 0.05, 0.15])
def test_the_profile_has_the_width_asked_for(std: float) -> None:
    """The variance of the density (gamma + 1) tau^gamma on [0, 1], by the midpoint rule."""
    gamma = power_exponent(std)
    tau = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    weight = (gamma + 1) * tau**gamma / 200_000
    mean = (weight * tau).sum()
    assert float((weight * (tau - mean) ** 2).sum()) ** 0.5 == pytest.approx(std, rel=1e-4)


def assert_average(exponent_of_rate: float, gamma: float, steps: int = 40) -> None:
    values = torch.randn(steps, dtype=torch.float64, generator=seeded())
    average = torch.zeros((), dtype=torch.float64)
    for step, value in enumerate(values, start=1):
        average = average.lerp(value, 1 - power_rate(step, exponent_of_rate))
    edges = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** (gamma + 1)
    torch.testing.assert_close(average, (values * edges.diff()).sum())


def test_the_running_average_is_the_power_profile() -> None:
    gamma = power_exponent(0.1)
    assert_average(gamma, gamma)
    with pytest.raises(AssertionError):
        assert_average(gamma - 1, gamma)


# Training


def denoiser_error(network: ToyNetwork, mixture: GaussianMixture) -> float:
    """Largest over the levels of rms(D - D*)/sigma at noised points, a share of the noise; .48 untrained."""
    worst, denoiser = 0.0, ToyDenoiser(network)
    for sigma in LEVELS:
        y = mixture.sample(2000, rng=seeded(7))
        z = (y + sigma * torch.randn(y.shape, generator=seeded(8)).double()).float()
        off = denoiser(z, sigma) - mixture(z, sigma)
        worst = max(worst, float(off.square().mean().sqrt()) / sigma)
    return worst


def test_it_learns_the_closed_form() -> None:
    mixture, losses = three(), []
    assert denoiser_error(trained(replace(SHORT, steps=1), mixture), mixture) > 0.4
    for state in train_steps(SHORT, mixture):
        losses.append(state.losses[-1])
    assert tuple(losses) == state.losses and len(losses) == SHORT.steps
    assert sum(losses[-50:]) / 50 < 0.006
    assert denoiser_error(train_module.toy_network(SHORT, state.average), mixture) < 0.1


def test_a_planted_sign_error_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    true = train_module.score_loss
    monkeypatch.setattr(train_module, "score_loss", lambda score, target, sigma: true(score, -target, sigma))
    assert denoiser_error(trained(replace(SHORT, steps=150), three()), three()) > 0.4


def test_noise_as_target_teaches_the_same_function() -> None:
    settings = replace(SHORT, target="noise", noise_mean=-1.0, noise_std=1.0)
    assert denoiser_error(trained(settings, three()), three()) < 0.2


def weights_of(network: ToyNetwork) -> Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_dream_at_infinity_is_training_without_it() -> None:
    plain = replace(TINY, target="noise")
    with_p = {p: weights_of(trained(replace(plain, dream=p), three())) for p in (None, math.inf, 0.0, 1.0)}
    assert torch.equal(with_p[None], with_p[math.inf])
    for p in (0.0, 1.0):
        assert torch.isfinite(with_p[p]).all() and not torch.equal(with_p[None], with_p[p])


def test_dream_batches_are_rectified() -> None:
    """z' - sigma n' is still a clean point, at every p: the target belongs to its input."""
    for p in (None, 0.0, 1.0):
        settings = replace(TINY, target="noise", dream=p)
        mixture = GaussianMixture(torch.ones(1), torch.tensor([[0.3, -0.2]]), 1e-12 * torch.eye(2).double()[None])
        draw = train_module._batches(settings, mixture)
        z, sigma, score = draw(ToyNetwork(rng=seeded()), seeded(9))
        torch.testing.assert_close(
            z + sigma[:, None] ** 2 * score, torch.tensor([[0.3, -0.2]]).expand_as(z), rtol=1e-4, atol=1e-4
        )


def test_the_seed_decides() -> None:
    first, again, other = (weights_of(trained(replace(TINY, seed=s), three())) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_rate_is_held_then_falls() -> None:
    settings = ToySettings()
    assert settings.rate(0) == settings.rate(512) == 0.01
    assert settings.rate(2048) == pytest.approx(0.005)


# Going on, and telling models apart


def test_every_setting_is_in_the_key() -> None:
    assert set(TINY.as_json()) == set(ToySettings.__dataclass_fields__)
    noise = replace(TINY, target="noise")
    keys = [json.dumps(replace(noise, dream=p).as_json(), allow_nan=False) for p in (None, 0.0, 1.0, math.inf)]
    assert len(set(keys)) == len(keys)


def test_resumed_without_adams_memory_is_not() -> None:
    states = list(train_steps(TINY, three()))
    for moments, equal in ((states[5].moments, True), ({}, False)):
        *_, last = train_steps(TINY, three(), replace(states[5], moments=moments))
        assert equal == all(torch.equal(last.average[name], states[-1].average[name]) for name in last.average)


# Guidance


def test_the_guides_are_the_papers() -> None:
    assert smaller(ToySettings()) == ToySettings(dim=32, steps=512)
    assert unconditional(replace(TINY, cls="A")) == TINY
    assert smaller(replace(TINY, dim=1, steps=1)) == replace(TINY, dim=1, steps=1)


# Wrong input


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dim": 0}, "dim"), ({"layers": 1.5}, "layers"), ({"steps": 0}, "steps"), ({"batch": -1}, "batch"),
        ({"seed": -1}, "seed"), ({"lr": 0.0}, "lr"), ({"sigma_data": -0.5}, "sigma_data"), ({"ema": 0.3}, "std"),
        ({"ema": 0.0}, "std"), ({"noise_mean": math.nan}, "noise_mean"), ({"noise_std": 0.0}, "noise_std"),
        ({"target": "image"}, "target"), ({"dream": 1.0}, "dream"), ({"dream": -1.0, "target": "noise"}, "p: got"),
    ],
)  # fmt: skip
def test_wrong_settings(change: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ToySettings(**change)


def test_wrong_points_and_levels(network: ToyNetwork, rows: tuple[Tensor, Tensor]) -> None:
    z, sigma = rows
    for wrong in (z[:, :1], torch.zeros(3, 3), torch.zeros(2), torch.zeros(0, 2)):
        with pytest.raises(ValueError, match="z: got"):
            network.score(wrong, 0.1)
    for level in (0.0, -1.0, -sigma, sigma[:3]):
        with pytest.raises(ValueError, match="sigma: got"):
            network.score(z, level)
    with pytest.raises(ValueError, match="step"):
        power_rate(0, 1.0)
