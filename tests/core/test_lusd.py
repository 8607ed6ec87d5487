"""LUSD: its direction from scores known in closed form, its planned size, and its mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture, GuidedDenoiser, Source, draw_normal, sd15_schedule, with_companions, with_levels
from msd_core.denoiser import Denoiser, level_at
from msd_core.distillation import lusd
from msd_core.distillation.lusd import LUSD
from msd_core.settings import settings_of

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


def model(mixture: GaussianMixture, given: Tensor = GIVEN, cfg: float = 3.0) -> Denoiser:
    """The first two components are the prompt, the others the source's."""
    source = Source(given, GuidedDenoiser(part(mixture, 2, 4), mixture, cfg))
    ours = GuidedDenoiser(part(mixture, 0, 2), mixture, cfg)
    return with_companions(with_levels(ours, sd15_schedule()), source=source)


def at(t: float, **settings: float) -> LUSD:
    """The method at one fraction of the chain."""
    return LUSD(anneal="linear", t_min=t, t_max=t, **settings)  # type: ignore[arg-type]


def gradient(method: LUSD, denoiser: Denoiser, x: Tensor = X, step: int = 0, steps: int = 1) -> Tensor:
    return method(x, denoiser, step=step, steps=steps, rng=rng())[0]


def direction(mixture: GaussianMixture, keep: float, sign: float = 1.0) -> Tensor:
    """(1 - keep) (eps - eps_src) + keep (x - x_src), both predictions at x's own z and without guidance."""
    sigma = level_at(model(mixture), T)
    z = X + sigma * draw_normal(X, rng())[0]
    new, old = (-sigma * part(mixture, *ends).score(z, sigma) for ends in ((0, 2), (2, 4)))
    return (1 - keep) * (new - old) + sign * keep * (X - GIVEN)


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
def test_it_is_the_normalised_direction(keep: float, mixture: GaussianMixture) -> None:
    wanted = direction(mixture, keep)
    truth = 0.15 * wanted / wanted.std(dim=1, keepdim=True)
    first = gradient(at(T, keep=keep, strength_end=0.15), model(mixture))
    torch.testing.assert_close(first, truth, rtol=1e-6, atol=1e-9)
    planted = [gradient(at(0.6, keep=0.4 - 0.3 * keep, strength_end=0.15), model(mixture))]
    if keep:
        wrong = direction(mixture, keep, sign=-1.0)
        planted.append(0.15 * wrong / wrong.std(dim=1, keepdim=True))
    for wrong in planted:
        assert float((wrong - truth).norm() / truth.norm()) > 1e-3, "a planted error must show"


def test_cfg_plays_no_part_and_two_rows_are_asked(mixture: GaussianMixture) -> None:
    one, other = (gradient(LUSD(), model(mixture, cfg=cfg)) for cfg in (1.0, 7.5))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    info = LUSD(samples=3)(X, model(mixture), step=0, steps=1, rng=rng())[1]
    assert info.evaluations == 2 * 3 * len(X)


def test_every_step_has_its_planned_size(mixture: GaussianMixture) -> None:
    """(strength - strength_end) (1 - sigmoid(u)) + strength_end with u from -1 to 1."""
    for step, u in ((0, -1.0), (5, 0.0), (10, 1.0)):
        size = 0.14 * (1 - 1 / (1 + math.exp(-u))) + 0.01
        spread = gradient(LUSD(), model(mixture), step=step, steps=11).std(dim=1)
        torch.testing.assert_close(spread, torch.full_like(spread, size), rtol=1e-6, atol=1e-9)
    assert LUSD().size(0, 11) > LUSD().size(10, 11)


def test_what_is_said_of_its_sizes_is_so() -> None:
    """The ends of the sigmoid are never reached: the help names the shares of the way, the module the sizes."""
    known, sizes = settings_of(LUSD), (LUSD().size(0, 300), LUSD().size(299, 300))
    assert "from {:.3f} to {:.3f}".format(*sizes) in " ".join(str(lusd.__doc__).split())
    shares = [(size - 0.01) / (0.15 - 0.01) for size in sizes]
    for name, share in zip(("strength", "strength_end"), shares, strict=True):
        assert f" {share:.2f} of the way" in known[name].help
        assert "first gradient" not in known[name].help and "last gradient" not in known[name].help


def test_where_the_prompts_agree_on_the_source_nothing_moves(mixture: GaussianMixture) -> None:
    same = GuidedDenoiser(mixture, mixture, 3.0)
    levels = with_levels(same, sd15_schedule())
    assert not gradient(LUSD(), with_companions(levels, source=Source(X, same))).any()
    back = gradient(LUSD(), with_companions(levels, source=Source(GIVEN, same)))
    away = (X - GIVEN) / (X - GIVEN).std(dim=1, keepdim=True)
    torch.testing.assert_close(back, LUSD().size(0, 1) * away, rtol=1e-6, atol=1e-9)


def test_the_mask_is_part_of_the_direction() -> None:
    """Outside of it what is left is the way back to the source."""
    x, given = (torch.randn(1, 2, 2, 4, generator=rng(seed), dtype=torch.float64) for seed in (1, 2))
    mask = torch.zeros(1, 1, 4, 8, dtype=torch.float64)
    mask[..., :4] = 1
    ours = GuidedDenoiser(lambda z, sigma: 0.2 * z, lambda z, sigma: z, 3.0)
    theirs = GuidedDenoiser(lambda z, sigma: 0.9 * z, lambda z, sigma: z, 3.0)
    denoiser = with_companions(with_levels(ours, sd15_schedule()), source=Source(given, theirs, mask))
    masked = gradient(at(T, keep=0.1), denoiser, x)
    right, way = masked[..., 2:], (x - given)[..., 2:]
    torch.testing.assert_close(right / right.norm(), way / way.norm(), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(masked[..., :2] / right.norm(), (x - given)[..., :2] / way.norm(), rtol=0.1)
    whole = with_companions(denoiser, source=Source(given, theirs))
    free = gradient(at(T, keep=0.1), whole, x)[..., 2:]
    assert not torch.allclose(free / free.norm(), way / way.norm(), rtol=0.1), "without a mask it moves there too"


def test_a_batch_is_its_rows(mixture: GaussianMixture) -> None:
    method = LUSD(samples=3)
    together = method(X, model(mixture), step=0, steps=4, rng=[rng(i) for i in range(3)])[0]
    for i in range(3):
        denoiser = model(mixture, given=GIVEN[i : i + 1])
        alone = method(X[i : i + 1], denoiser, step=0, steps=4, rng=rng(i))[0]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-12)


def test_wrong_input_is_refused(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="keep: got 1.5; allowed is a finite number from 0 up to 1"):
        LUSD(keep=1.5)
    with pytest.raises(ValueError, match="strength: got 0.0; allowed is a finite number above 0"):
        LUSD(strength=0.0)
    with pytest.raises(ValueError, match="has no source beside it, and LUSD needs one"):
        gradient(LUSD(), with_levels(GuidedDenoiser(mixture, mixture), sd15_schedule()))


def test_nan_of_the_model_is_told_of_the_model(mixture: GaussianMixture) -> None:
    """And not of the levels, which are in order: the loop, and a host in half precision, look for it there."""
    broken = with_levels(GuidedDenoiser(lambda z, sigma: z * torch.nan, mixture, 3.0), sd15_schedule())  # noqa: ARG005
    found = gradient(at(T), with_companions(broken, source=Source(GIVEN, broken)))
    assert bool(found.isnan().all())
