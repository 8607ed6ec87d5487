"""PDS against its own definition, written out with both noises; its identity term against the figures that it has."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import (
    FlowDenoiser,
    GaussianMixture,
    GuidedDenoiser,
    Source,
    draw_normal,
    sd15_schedule,
    with_companions,
    with_levels,
)
from msd_core.denoiser import Denoiser, level_at
from msd_core.distillation.dds import DDS
from msd_core.distillation.pds import PDS, posterior_weights

pytestmark = pytest.mark.core
X = torch.tensor([[0.6, -0.4], [-0.3, 0.2], [0.1, 0.9]], dtype=torch.float64)
GIVEN = torch.tensor([[0.2, 0.1], [0.5, -0.2], [-0.6, 0.4]], dtype=torch.float64)
T = 0.5


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def part(mixture: GaussianMixture, first: int, last: int) -> GaussianMixture:
    """Some of the mixture's components alone: a prompt."""
    weights = mixture.weights[first:last] / mixture.weights[first:last].sum()
    return GaussianMixture(weights, mixture.means[first:last], mixture.covariances[first:last])


def model(mixture: GaussianMixture, given: Tensor = GIVEN) -> Denoiser:
    """The first two components are the prompt, the others the source's."""
    source = Source(given, GuidedDenoiser(part(mixture, 2, 4), mixture, 3.0))
    ours = GuidedDenoiser(part(mixture, 0, 2), mixture, 3.0)
    return with_companions(with_levels(ours, sd15_schedule()), source=source)


def at(t: float, **settings: object) -> PDS:
    """The method at one fraction of the chain."""
    return PDS(anneal="linear", t_min=t, t_max=t, **settings)  # type: ignore[arg-type]


def gradient(method: PDS | DDS, denoiser: Denoiser, x: Tensor = X) -> Tensor:
    return method(x, denoiser, step=0, steps=1, rng=rng())[0]


def latent(x: Tensor, denoiser: Denoiser, stride: int, own_beta: bool) -> Tensor:
    """u = (z_{t-k} - mu(z_t))/sigma_tilde in the variance-preserving coordinates of the paper, with both noises."""
    chain = with_levels(denoiser, sd15_schedule())
    a, b, before = (1 / (1 + level_at(chain, T - k / 1000) ** 2) for k in (0, stride, 1))
    beta = 1 - a / (b if own_beta else before)
    sigma = level_at(chain, T)
    noise, other = draw_normal(x, rng())[0], draw_normal(x, rng(99))[0]
    z = math.sqrt(a) * x + math.sqrt(1 - a) * noise
    lower = math.sqrt(b) * x + math.sqrt(1 - b) * other
    guess = denoiser(z / math.sqrt(a), sigma)
    mu = (math.sqrt(b) * beta * guess + math.sqrt(1 - beta) * (1 - b) * z) / (1 - a)
    return (lower - mu) / math.sqrt(beta * (1 - b) / (1 - a))


@pytest.mark.parametrize("identity", ["published", "consistent"])
@pytest.mark.parametrize("stride", [2, 20])
def test_it_is_the_difference_of_the_stochastic_latents(identity: str, stride: int, mixture: GaussianMixture) -> None:
    new, old = (GuidedDenoiser(part(mixture, *ends), mixture, 3.0) for ends in ((0, 2), (2, 4)))
    own = identity == "consistent"
    truth = latent(X, new, stride, own) - latent(GIVEN, old, stride, own)
    ours = gradient(at(T, identity=identity, stride=stride), model(mixture))
    torch.testing.assert_close(ours, truth, rtol=1e-6, atol=1e-9)
    other = latent(X, new, stride, not own) - latent(GIVEN, old, stride, not own)
    planted = (other, gradient(at(T, identity=identity, stride=stride + 5), model(mixture)))
    for wrong in planted:
        assert float((wrong - truth).norm() / truth.norm()) > 1e-3, "a planted error must show"


def test_the_identity_term_is_an_accident_of_the_stride() -> None:
    """The figures at the middle of Stable Diffusion's chain, for steps of 2 and of 20."""
    chain = with_levels(lambda z, sigma: z, sd15_schedule())
    psi, chi = posterior_weights(chain, T, 2, "published")
    assert (round(psi, 3), round(chi, 3)) == (0.032, 0.082)
    assert round(posterior_weights(chain, T, 20, "published")[0], 2) == 0.63
    assert abs(posterior_weights(chain, T, 1, "published")[0]) < 1e-9, "neighbouring steps have none"
    assert posterior_weights(chain, T, 20, "consistent")[0] == 0


def test_without_the_identity_term_it_is_dds_with_another_weight(mixture: GaussianMixture) -> None:
    chi = posterior_weights(model(mixture), T, 2, "consistent")[1]
    dds = gradient(DDS(anneal="linear", t_min=T, t_max=T), model(mixture))
    ours = gradient(at(T, identity="consistent"), model(mixture))
    torch.testing.assert_close(ours, chi * dds, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(gradient(at(T), model(mixture)), chi * dds, rtol=1e-2)


def test_the_published_form_pulls_back_to_the_source() -> None:
    """Where the prompts agree and the model says nothing, what is left is psi (x - x_src)."""
    nothing = GuidedDenoiser(lambda z, sigma: z, lambda z, sigma: z, 3.0)
    denoiser = with_companions(with_levels(nothing, sd15_schedule()), source=Source(GIVEN, nothing))
    psi, _ = posterior_weights(denoiser, T, 20, "published")
    torch.testing.assert_close(gradient(at(T, stride=20), denoiser), psi * (X - GIVEN), rtol=1e-6, atol=1e-9)
    still = gradient(at(T, stride=20, identity="consistent"), denoiser)
    torch.testing.assert_close(still, torch.zeros_like(X), rtol=0, atol=1e-10)


def test_nothing_moves_while_picture_and_prompt_are_the_sources(mixture: GaussianMixture) -> None:
    same = GuidedDenoiser(part(mixture, 0, 2), mixture, 3.0)
    denoiser = with_companions(with_levels(same, sd15_schedule()), source=Source(X, same))
    assert not gradient(PDS(samples=3), denoiser).any()
    assert gradient(PDS(), model(mixture, given=X)).abs().max() > 1e-3


def test_a_batch_is_its_rows_each_at_its_own_level(mixture: GaussianMixture) -> None:
    method = PDS(samples=3)
    together, info = method(X, model(mixture), step=0, steps=4, rng=[rng(i) for i in range(3)])
    for i in range(3):
        denoiser = model(mixture, given=GIVEN[i : i + 1])
        alone = method(X[i : i + 1], denoiser, step=0, steps=4, rng=rng(i))[0]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-12)
    assert info.evaluations == 4 * 3 * len(X)


def test_wrong_input_is_refused(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="t_min: got 0.02 with the stride 30; allowed is at least 0.03"):
        PDS(stride=30)
    with pytest.raises(ValueError, match="identity: got 'own'; allowed are 'published', 'consistent'"):
        PDS(identity="own")
    with pytest.raises(ValueError, match="stride: got 0; allowed is a whole number from 1 up to 999"):
        PDS(stride=0)
    with pytest.raises(ValueError, match="has no source beside it, and PDS needs one"):
        gradient(PDS(), with_levels(mixture, sd15_schedule()))


@pytest.mark.parametrize("identity", ["published", "consistent"])
def test_a_stride_of_one_step_pulls_nothing_back(mixture: GaussianMixture, identity: str) -> None:
    """The identity term is 0 there, and about it by rounding, below it at a third of the times."""
    chain = with_levels(model(mixture), sd15_schedule())
    weights = [posterior_weights(chain, t / 1000, 1, identity)[0] for t in range(50, 950)]
    assert min(weights) == 0 and max(weights) < 1e-6
    found = [gradient(at(t, stride=1, identity=identity), model(mixture)) for t in (0.3, 0.333, 0.6)]
    assert all(bool(torch.isfinite(one).all()) for one in found)


def test_the_noisy_end_of_a_flow_is_refused() -> None:
    """Its highest level is finite, so that its chain has one level for several parts there."""
    flow = FlowDenoiser(lambda x, t: 0 * x)  # noqa: ARG005
    with pytest.raises(ValueError, match=r"^t_max: got 1 for this step, where the model's chain has the same level"):
        posterior_weights(flow, 1.0, 2, "published")
    assert posterior_weights(flow, 0.9, 2, "published")[0] > 0
