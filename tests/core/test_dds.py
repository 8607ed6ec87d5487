"""DDS: two scores known in closed form under one noise, and what the paper claims of their difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser, Source, draw_normal, sd15_schedule, with_companions, with_levels
from msd_core.denoiser import Denoiser, level_at
from msd_core.distillation.dds import DDS
from msd_core.distillation.sds import SDS

pytestmark = pytest.mark.core
X = torch.tensor([[0.6, -0.4], [-0.3, 0.2], [0.1, 0.9]], dtype=torch.float64)
GIVEN = torch.tensor([[0.2, 0.1], [0.5, -0.2], [-0.6, 0.4]], dtype=torch.float64)
CFG = 3.0


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def part(mixture: GaussianMixture, first: int, last: int) -> GaussianMixture:
    """Some of the mixture's components alone: a prompt."""
    weights = mixture.weights[first:last] / mixture.weights[first:last].sum()
    return GaussianMixture(weights, mixture.means[first:last], mixture.covariances[first:last])


def model(mixture: GaussianMixture, source_prompt: Denoiser, given: Tensor = GIVEN, cfg: float = CFG) -> Denoiser:
    """The first two components are the prompt, all of them the empty one."""
    source = Source(given, GuidedDenoiser(source_prompt, mixture, cfg))
    ours = GuidedDenoiser(part(mixture, 0, 2), mixture, cfg)
    return with_companions(with_levels(ours, sd15_schedule()), source=source)


def gradient(method: DDS | SDS, denoiser: Denoiser, x: Tensor = X, seed: int = 0) -> Tensor:
    return method(x, denoiser, step=0, steps=1, rng=rng(seed))[0]


def noises(mixture: GaussianMixture, prompt: GaussianMixture, x: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """eps_hat = -sigma times the guided score, at x with the method's noise."""
    z = x + sigma * draw_normal(x, rng(seed))[0]
    return -sigma * (mixture.score(z, sigma) + CFG * (prompt.score(z, sigma) - mixture.score(z, sigma)))


def test_it_is_the_difference_of_two_predictions(mixture: GaussianMixture) -> None:
    new, old = part(mixture, 0, 2), part(mixture, 2, 4)
    denoiser, method = model(mixture, old), DDS(anneal="linear", t_min=0.5, t_max=0.5)
    sigma = level_at(denoiser, 0.5)
    truth = noises(mixture, new, X, sigma) - noises(mixture, old, GIVEN, sigma)
    torch.testing.assert_close(gradient(method, denoiser), truth, rtol=1e-6, atol=1e-9)
    planted = (
        noises(mixture, new, X, sigma) - noises(mixture, old, GIVEN, sigma, seed=1),
        noises(mixture, new, X, sigma) - noises(mixture, old, X, sigma),
        noises(mixture, old, X, sigma) - noises(mixture, new, GIVEN, sigma),
        gradient(DDS(anneal="linear", t_min=0.5, t_max=0.5, weighting="sigma"), denoiser),
    )
    for wrong in planted:
        assert float((wrong - truth).norm() / truth.norm()) > 0.01, "a planted error must show"


def test_nothing_moves_while_picture_and_prompt_are_the_sources(mixture: GaussianMixture) -> None:
    prompt = part(mixture, 0, 2)
    assert not gradient(DDS(samples=3), model(mixture, prompt, given=X), X).any()
    assert gradient(DDS(), model(mixture, part(mixture, 1, 3), given=X), X).abs().max() > 1e-3
    assert gradient(DDS(), model(mixture, prompt, given=X + 0.01), X).abs().max() > 1e-3


def test_it_is_sds_less_what_sds_does_to_the_source(mixture: GaussianMixture) -> None:
    old = part(mixture, 2, 4)
    settings = {"weighting": "uniform", "t_min": 0.05, "t_max": 0.95}
    of_source = with_levels(GuidedDenoiser(old, mixture, CFG), sd15_schedule())
    difference = gradient(SDS(**settings), model(mixture, old)) - gradient(SDS(**settings), of_source, GIVEN)
    torch.testing.assert_close(gradient(DDS(), model(mixture, old)), difference, rtol=1e-9, atol=1e-10)


def test_it_varies_less_than_sds_where_the_prompts_are_alike(mixture: GaussianMixture) -> None:
    """The noise that a prompt does not explain is the same in both predictions (the paper's reason for the method)."""
    x, method = X[:1].expand(400, 2), {"weighting": "uniform", "t_min": 0.2, "t_max": 0.2, "anneal": "linear"}
    near = GaussianMixture(mixture.weights[:2] / 0.8, mixture.means[:2] + 0.05, mixture.covariances[:2])
    denoiser = model(mixture, near, given=X[:1])
    ours, theirs = (gradient(kind(**method), denoiser, x).var(dim=0).sum() for kind in (DDS, SDS))
    assert ours < 0.25 * theirs
    far = model(mixture, part(mixture, 2, 4), given=X[:1] + 1)
    assert gradient(DDS(**method), far, x).var(dim=0).sum() > ours


def test_four_rows_a_row_are_asked(mixture: GaussianMixture) -> None:
    for cfg, rows in ((CFG, 4), (1.0, 2)):
        denoiser = model(mixture, mixture, cfg=cfg)
        assert DDS(samples=5)(X, denoiser, step=0, steps=1, rng=rng())[1].evaluations == rows * 5 * len(X)


def test_a_batch_is_its_rows_each_with_its_own_source(mixture: GaussianMixture) -> None:
    old, method = part(mixture, 2, 4), DDS(samples=3)
    together = method(X, model(mixture, old), step=0, steps=4, rng=[rng(i) for i in range(3)])[0]
    for i in range(3):
        denoiser = model(mixture, old, given=GIVEN[i : i + 1])
        alone = method(X[i : i + 1], denoiser, step=0, steps=4, rng=rng(i))[0]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-12)


def test_wrong_input_is_refused(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="source: got shape .2, 2. beside x of .3, 2."):
        gradient(DDS(), model(mixture, mixture, given=GIVEN[:2]))
    with pytest.raises(ValueError, match="has no source beside it, and DDS needs one"):
        gradient(DDS(), with_levels(mixture, sd15_schedule()))
    with pytest.raises(ValueError, match="weighting: got 'cosine'"):
        DDS(weighting="cosine")
