"""What is kept for the way back makes it exact at any cfg: offsets, noise maps, embeddings; and guidance that does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from msd_core import (
    GaussianMixture,
    GuidedDenoiser,
    ddim_sample,
    inversion_for,
    invert,
    negative_prompt,
    resample,
    sigma_schedule,
)
from msd_core.demo.model import load_demo_model
from msd_core.denoiser import Sigma
from msd_core.inversion.base import rms
from msd_core.inversion.direct import Direct
from msd_core.inversion.edit_friendly import EditFriendly
from msd_core.inversion.implicit import ImplicitStep
from msd_core.inversion.null_text import NullText
from msd_core.inversion.offsets import added_deviation

pytestmark = pytest.mark.core
CFGS = (1.0, 3.0, 7.5)


def levels(steps: int = 20) -> Tensor:
    return sigma_schedule("karras", steps, sigma_min=0.05, sigma_max=8.0)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# --- exact at any cfg -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", CFGS)
@pytest.mark.parametrize("inversion", [Direct(), Direct(inversion_cfg=None), EditFriendly(), EditFriendly(eta=0.4)])
def test_the_picture_comes_back_at_any_cfg(
    inversion: Direct | EditFriendly, cfg: float, prompted: GuidedDenoiser, points: Tensor
) -> None:
    """To rounding in single precision: more than 90 dB."""
    x, denoiser = points.float(), prompted.with_cfg(cfg)
    trajectory = invert(x, denoiser, levels(), inversion, rng())
    assert float((resample(trajectory, denoiser) - x).abs().max()) < 3e-5
    assert float((resample(trajectory, denoiser, below=1.0) - x).abs().max()) < 3e-5
    assert trajectory.warning() is None


@pytest.mark.parametrize("inversion", [Direct(), EditFriendly()])
def test_without_what_is_kept_it_does_not(
    inversion: Direct | EditFriendly, prompted: GuidedDenoiser, points: Tensor
) -> None:
    trajectory = invert(points, prompted, levels(), inversion, rng())
    trajectory.kept["offset"].zero_()
    assert float((resample(trajectory, prompted) - points).abs().max()) > 0.05


@pytest.mark.parametrize("inversion", [Direct(), EditFriendly()])
def test_another_prompt_edits(inversion: Direct | EditFriendly, smooth: GaussianMixture, points: Tensor) -> None:
    """The picture moves towards another condition, and less so from a lower level."""
    other = GaussianMixture(torch.ones(1), smooth.means[2:3], smooth.covariances[2:3])
    trajectory = invert(points, smooth, levels(), inversion, rng())
    before, after, less = (
        float(rms(x - smooth.means[2]).square().mean())
        for x in (points, resample(trajectory, other), resample(trajectory, other, below=0.4))
    )
    assert after < 0.5 * before and after < less < before


def test_direct_counts_what_it_asks(prompted: GuidedDenoiser, points: Tensor) -> None:
    """A step at cfg 1 and one at the denoiser's own cfg, of two rows; one of two rows where both are the same."""
    rows = len(points)
    both = invert(points, prompted, levels(10), Direct())
    assert both.evaluations == 10 * (1 + 2) * rows
    assert both.report is not None and both.report.evaluations.tolist() == [20] * rows
    own = invert(points, prompted, levels(10), Direct(inversion_cfg=None))
    assert own.evaluations == (10 + 1) * 2 * rows
    assert own.report is not None and own.report.evaluations.tolist() == [11] * rows
    explicit = invert(points, prompted, levels(10))
    torch.testing.assert_close(own.states, explicit.states)
    assert invert(points, prompted.cond, levels(10), Direct()).warning() is None, "no guidance is cfg 1"
    with pytest.raises(ValueError, match="inversion_cfg: got 2.0, but GaussianMixture has no with_cfg"):
        invert(points, prompted.cond, levels(10), Direct(inversion_cfg=2.0))
    with pytest.raises(ValueError, match="inversion_cfg: got -1.0; allowed is a finite number from 0"):
        Direct(inversion_cfg=-1.0)


def test_noise_maps_are_those_of_a_sampler_that_draws() -> None:
    """For the right model of a Gaussian, maps over their deviation have mean square 1 in the mean over many pictures.

    x ~ N(0, I) and the posterior step is exact: z_i given z_{i+1} has the deviation of the posterior, which is that of
    the step plus what the denoised picture does not know: (1 - a)^2 var(x | z), a = sigma_i^2/sigma_{i+1}^2.
    """
    x = torch.randn(20000, 1, generator=rng()).double()
    gaussian = lambda z, sigma: z / (1 + torch.as_tensor(sigma) ** 2)  # noqa: E731
    sigmas = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    trajectory = invert(x, gaussian, sigmas, EditFriendly(), rng())
    low, high = 1.0, 2.0
    a = (low / high) ** 2
    wanted = added_deviation(1.0, high, low) ** 2 + (1 - a) ** 2 * high**2 / (1 + high**2)
    # here the noise at the two levels is independent, so z_i - down(z_{i+1}) also holds a sigma_{i+1} n_{i+1}
    found = trajectory.kept["offset"][1]
    independent = low**2 + (a * high + (1 - a) * high / (1 + high**2)) ** 2 + ((1 - a) * high**2 / (1 + high**2)) ** 2
    assert float(found.var()) == pytest.approx(independent, rel=5 * math.sqrt(2 / 20000))
    assert independent > wanted, "they are larger than drawn noise: they carry the picture"


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_wrong_share_of_noise(eta: float) -> None:
    with pytest.raises(ValueError, match="eta: got"):
        EditFriendly(eta=eta)


def test_noise_maps_need_a_source(prompted: GuidedDenoiser, points: Tensor) -> None:
    with pytest.raises(ValueError, match="rng: got None"):
        invert(points, prompted, levels(), EditFriendly())


# --- negative prompt --------------------------------------------------------------------------------------------------


def test_negative_prompt_inversion(prompted: GuidedDenoiser, points: Tensor) -> None:
    """The source at cfg 1, whatever cfg is; another target pulls towards it, and 0 is the source."""
    trajectory = invert(points, prompted.with_cfg(1.0), levels(), ImplicitStep())
    for cfg in (0.0, *CFGS):
        back = resample(trajectory, negative_prompt(prompted, prompted, cfg))
        assert float((back - points).abs().max()) < 1e-4
    z = 2 * points
    pair = negative_prompt(prompted, prompted.uncond, 3.0)
    source, target = prompted.cond(z, 1.0), prompted.uncond(z, 1.0)
    torch.testing.assert_close(pair(z, 1.0), source + 3 * (target - source))
    torch.testing.assert_close(negative_prompt(prompted, prompted.uncond, 0.0)(z, 1.0), source)
    assert float((resample(trajectory, prompted.with_cfg(7.5)) - points).abs().max()) > 0.05


@pytest.mark.parametrize("cfg", [-1.0, math.nan, math.inf])
def test_negative_prompt_refuses_a_cfg(cfg: float, prompted: GuidedDenoiser) -> None:
    with pytest.raises(ValueError, match="cfg: got .*; allowed is a finite number from 0. Swap source and target"):
        negative_prompt(prompted, prompted, cfg)


# --- null text --------------------------------------------------------------------------------------------------------


class Moved(nn.Module):
    """A guided model whose unconditional answer is moved by its embedding, (1 or B, 2)."""

    cost = 2

    def __init__(self, pair: GuidedDenoiser, embedding: Tensor) -> None:
        super().__init__()
        self.pair, self.embedding, self.rows = pair, embedding, 0

    def forward(self, z: Tensor, sigma: Sigma) -> Tensor:
        cond, uncond = self.pair.parts(z, sigma)
        return uncond + self.embedding + self.pair.cfg * (cond - uncond - self.embedding)

    def with_embedding(self, embedding: Tensor) -> Moved:
        return Moved(self.pair, embedding)

    def with_cfg(self, cfg: float) -> GuidedDenoiser:
        return self.pair.with_cfg(cfg)


@pytest.mark.parametrize("cfg", [3.0, 7.5])
def test_null_text_brings_the_picture_back(cfg: float, prompted: GuidedDenoiser, points: Tensor) -> None:
    """A free offset of the unconditional answer can follow any path: the search finds it, nearly."""
    model = Moved(prompted.with_cfg(cfg), torch.zeros(1, 2).double())
    sigmas = levels(5)
    pivot = invert(points, prompted.with_cfg(1.0), sigmas)
    errors = []
    for evaluations in (1, 25, 100):
        settings = NullText(evaluations=evaluations, lr=0.05, tolerance=1e-5)
        trajectory = invert(points, model, sigmas, settings)
        assert torch.equal(trajectory.states, pivot.states)
        back = resample(trajectory, model)
        errors.append(float(rms(back - points).max()))
        assert trajectory.report is not None
        torch.testing.assert_close(
            rms(back - points), trajectory.report.residual[0] * float(1 + sigmas[-2] ** 2) ** 0.5
        )
    assert errors[0] > 5 * errors[1] > 10 * errors[2], "one evaluation searches nothing"


def test_null_text_on_the_demo_model() -> None:
    """Two steps: the embedding moves, and what is kept leads to the error that is reported."""
    model = load_demo_model()
    denoiser = model.denoiser(["a red circle", "a blue square"], cfg=4.0)
    x = torch.randn(2, model.channels, 8, 8, generator=rng())
    sigmas = torch.tensor([4.0, 1.0, 0.0])
    trajectory = invert(x, denoiser, sigmas, NullText(evaluations=3, tolerance=0.0))
    assert trajectory.kept["embedding"].shape == (2, 2, *denoiser.embedding.shape[1:])
    assert float((trajectory.kept["embedding"][1] - denoiser.embedding).abs().max()) > 0.005
    report = trajectory.report
    assert report is not None and report.evaluations.tolist() == [8, 8]
    assert trajectory.evaluations == 2 * (2 * 1 + 6 * 2), "two steps at cfg 1, six evaluations with guidance"
    torch.testing.assert_close(rms(resample(trajectory, denoiser) - x), report.residual[0] * 2**0.5)


def test_null_text_is_refused_without_an_embedding(prompted: GuidedDenoiser, points: Tensor) -> None:
    with pytest.raises(ValueError, match="denoiser: GuidedDenoiser has no unconditional embedding .*'direct'"):
        invert(points, prompted, levels(), NullText())
    model = Moved(prompted, torch.zeros(1, 2).double())
    trajectory = invert(points, model, levels(4), NullText(evaluations=1))
    with pytest.raises(ValueError, match="denoiser: GuidedDenoiser has no unconditional embedding"):
        resample(trajectory, prompted)
    model.differentiable = False  # type: ignore[assignment]
    with pytest.raises(ValueError, match="denoiser: Moved is not differentiable"):
        invert(points, model, levels(), NullText())
    unguided = load_demo_model().denoiser("a red circle", cfg=1.0)
    with pytest.raises(
        ValueError, match="denoiser: PromptDenoiser does not depend on its .*, as at cfg 1.*Raise its cfg"
    ):
        invert(torch.zeros(1, 4, 8, 8), unguided, torch.tensor([1.0, 0.0]), NullText())


# --- samplers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["euler_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm"]
)
def test_stochastic_samplers_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"sampler: got '{name}', which draws fresh noise.*allowed are 'euler'.*edit-fr"
    ):
        inversion_for(name)


def test_samplers_with_an_inverse(smooth: GaussianMixture, points: Tensor) -> None:
    kinds = {name: inversion_for(name) for name in ("euler", "ddim", "heun", "dpmpp_2m")}
    assert kinds["euler"] is kinds["ddim"] is ImplicitStep and len(set(kinds.values())) == 3
    trajectory = invert(points, smooth, levels(), kinds["euler"]())
    again = ddim_sample(trajectory.states[-1], smooth, levels())
    torch.testing.assert_close(again, resample(trajectory, smooth))
    with pytest.raises(
        ValueError, match="sampler: got 'uni_pc', whose steps have no inverse here; allowed are 'euler'"
    ):
        inversion_for("uni_pc")
