"""A gain of the conditional model under guidance: the closed form of a Gaussian, its cost, and holes of a picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core import inpaint
from msd_core.demo.grammar import parse
from msd_core.demo.judge import judge
from msd_core.demo.scenes import draw
from msd_core.guidance import GuidedDenoiser
from msd_core.measurement import Observation
from msd_core.measurement.mask import Mask
from msd_core.model import load_model
from msd_core.parametrization import EDMDenoiser
from msd_core.posterior import PosteriorDenoiser
from msd_core.posterior.conditional import OfConditional, rows_of
from msd_core.posterior.kalman import Kalman
from msd_core.posterior.proximal import Proximal

pytestmark = pytest.mark.core
KNOWN = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)


def gaussian(mean: float, variance: float):  # noqa: ANN201
    """The denoiser of N(mean, variance), with neighbours 0 and 2, and 1 and 3, correlated by a half."""
    mix = torch.eye(4, dtype=torch.float64) + 0.5 * torch.eye(4, dtype=torch.float64).roll(2, 0)
    covariance = variance * mix

    def denoise(z: Tensor, sigma: object) -> Tensor:
        level2 = torch.as_tensor(sigma, dtype=z.dtype).reshape(-1)[0] ** 2
        gain = covariance @ torch.linalg.inv(covariance + level2 * torch.eye(4, dtype=z.dtype))
        return mean + (z - mean) @ gain.T

    return denoise, covariance


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("cfg", [0.0, 3.0, 7.5])
def test_the_gain_is_the_conditional_gaussian_s_own(cfg: float) -> None:
    """On the guided picture; that of the guided model is told from it."""
    (cond, covariance), (uncond, _) = gaussian(1.0, 1.0), gaussian(-1.0, 0.3)
    guided = GuidedDenoiser(cond, uncond, cfg)
    z, b, sigma, noise = random(3, 1, 1, 4), KNOWN * random(3, 1, 1, 4, seed=1), 0.7, 0.2
    plain = Kalman(4, floor=0.0)
    observation = Observation(Mask(KNOWN), b, noise)
    found = PosteriorDenoiser(guided, observation, OfConditional(plain))(z, sigma)
    picture, eye = guided(z, sigma), torch.eye(4, dtype=z.dtype)
    left = torch.linalg.inv(torch.linalg.inv(covariance) + eye / sigma**2)  # of y, given z
    matrix = torch.diag(KNOWN.flatten())
    gain = left @ matrix @ torch.linalg.inv(matrix @ left @ matrix + noise**2 * eye)
    torch.testing.assert_close(found, picture + (b - KNOWN * picture) @ gain.T, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(found, PosteriorDenoiser(guided, observation, plain)(z, sigma), atol=1e-3)


def test_without_guidance_it_is_the_gain_itself() -> None:
    guided = GuidedDenoiser(gaussian(1.0, 1.0)[0], gaussian(-1.0, 0.3)[0], 1.0)
    observation = Observation(Mask(KNOWN), KNOWN * random(2, 1, 1, 4), 0.2)
    one, other = (PosteriorDenoiser(guided, observation, gain) for gain in (Kalman(), OfConditional("kalman")))
    z = random(2, 1, 1, 4, seed=2)
    torch.testing.assert_close(one(z, 1.3), other(z, 1.3))
    alone = Observation(Mask(KNOWN), observation.b[1:], 0.2)
    single = PosteriorDenoiser(guided, alone, OfConditional("kalman"))(z[1:], 1.3)
    torch.testing.assert_close(other(z, 1.3)[1:], single)


def test_its_rows_are_counted() -> None:
    counted = [0, 0]

    def counting(which: int, denoiser):  # noqa: ANN001, ANN202
        def denoise(z: Tensor, sigma: object) -> Tensor:
            counted[which] += len(z)
            return denoiser(z, sigma)

        return denoise

    parts = (counting(i, gaussian(mean, 1.0)[0]) for i, mean in enumerate((1.0, -1.0)))
    guided = GuidedDenoiser(*parts, 3.0)
    observation = Observation(Mask(KNOWN), KNOWN[None, None], 0.2)
    PosteriorDenoiser(guided, observation, OfConditional(Kalman(2)))(random(1, 1, 1, 4), 1.0)
    assert sum(counted) == rows_of(OfConditional(Kalman(2)), guided) == 5 < rows_of(Kalman(2), guided)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="gain: got 'none'"):
        OfConditional("none")
    observation = Observation(Mask(KNOWN), KNOWN[None, None], 0.2)
    with pytest.raises(ValueError, match="has no with_cfg"):
        PosteriorDenoiser(gaussian(1.0, 1.0)[0], observation, OfConditional("kalman"))(random(1, 1, 1, 4), 1.0)


def test_a_hole_under_guidance() -> None:
    before, after = "a red boat left of a yellow house at sea", "a red boat left of a green fir at sea"
    picture, hole = draw([parse(before)], 128), torch.zeros(128, 128)
    hole[30:92, 68:126] = 1
    filled = inpaint(picture, hole, after, model=load_model(), cfg=3.0)
    assert judge(filled.picture[0], parse(after)).accepted and filled.evaluations == 16 * 5


def test_it_knows_the_spread_of_the_model_s_data() -> None:
    """That of a model whose latents have another one decides how far the rest is trusted."""
    model = EDMDenoiser(lambda x, t: 0.1 * x)  # noqa: ARG005
    guided, mask = GuidedDenoiser(model, model, 2.0), torch.ones(8, 8)
    mask[:, 4:] = 0
    seen = Observation(Mask(mask), random(1, 3, 8, 8).float() * mask, 0.1)
    z = 2 * random(1, 3, 8, 8, seed=1).float()
    assert model.data_std == 0.5
    for gain in (Proximal(), Kalman(exact_known=False)):
        alike = (PosteriorDenoiser(guided, seen, one)(z, 1.0) for one in (gain, OfConditional(gain)))
        torch.testing.assert_close(*alike)
