"""Super-resolution: the pictures, the network and its condition, training and resuming, DREAM, and the figures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core.demo.unet import UNet
from msd_core.research.super_resolution import (
    FIGURES,
    SuperResolutionDenoiser,
    SuperResolutionSettings,
    SuperResolver,
    consistency,
    draw_pictures,
    enlarge,
    noise_loss,
    psnr,
    reduce,
    sharpness,
    ssim,
    super_resolve,
    train_super_resolution,
)
from msd_core.schedule import sd15_schedule

pytestmark = pytest.mark.core

ALPHAS = sd15_schedule().alphas_cumprod.float()


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(**changed: float) -> SuperResolutionSettings:
    return SuperResolutionSettings(side=8, width=32, batch=2, snapshots=(1, 3), **changed)  # type: ignore[arg-type]


def opinionated() -> SuperResolver:
    """A random network whose zero-initialised layers are filled too, so that its output says something."""
    model, generator = SuperResolver.random(0, 32).requires_grad_(False), source()
    for p in model.parameters():
        if not p.any():
            p.copy_(0.05 * torch.randn(p.shape, generator=generator))
    return model


def test_pictures_are_varied_and_within_bounds() -> None:
    pictures = draw_pictures(64, 32, source())
    assert pictures.shape == (64, 3, 32, 32) and 0 <= pictures.min() and pictures.max() <= 1
    assert torch.equal(pictures, draw_pictures(64, 32, source()))
    assert not torch.equal(pictures, draw_pictures(64, 32, source(1)))
    fine = sharpness(enlarge(reduce(pictures)), pictures)
    assert fine.mean() < 0.6  # reduction loses what the network is there to guess
    assert psnr(enlarge(reduce(pictures)), pictures).std() > 1


def test_reducing_is_the_mean_of_blocks_and_keeps_a_plain_picture() -> None:
    pictures = torch.rand(2, 3, 8, 8, generator=source())
    assert float(reduce(pictures)[1, 2, 1, 0]) == pytest.approx(float(pictures[1, 2, 4:, :4].mean()))
    plain = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(enlarge(reduce(plain)), plain)


def test_a_side_that_cannot_be_reduced_is_refused() -> None:
    with pytest.raises(ValueError, match="side: got 30; allowed are positive multiples of 4"):
        draw_pictures(1, 30, source())


def velocity_is_turned_into_noise(sign: float) -> None:
    model = SuperResolver.random(0, 32, "velocity")
    x, condition = torch.randn(2, 2, 3, 8, 8, generator=source())
    t = torch.tensor([0, 700])
    s = (1 - ALPHAS[t]).sqrt()[:, None, None, None]
    torch.testing.assert_close(model(x, t, condition), sign * s * x)  # a fresh network puts out v = 0: n = s x


def test_a_network_of_the_velocity_predicts_noise() -> None:
    velocity_is_turned_into_noise(1.0)
    with pytest.raises(AssertionError):
        velocity_is_turned_into_noise(-1.0)
    # n = s x + a v: the velocity of a known picture gives its noise back
    y, n = torch.randn(2, 2, 3, 8, 8, generator=source())
    t, model = torch.tensor([30, 900]), SuperResolver.random(0, 32, "velocity")
    a, s = (m[:, None, None, None] for m in (ALPHAS[t].sqrt(), (1 - ALPHAS[t]).sqrt()))
    blocks = torch.nn.functional.pixel_unshuffle(a * n - s * y, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.unet, "forward", lambda x, t: blocks)
        torch.testing.assert_close(model(a * y + s * n, t, y), n, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="prediction: got 'score'; allowed are 'noise', 'velocity'"):
        SuperResolver(32, "score")


def test_a_unet_without_attention_does_not_read_its_context() -> None:
    assert not [name for name, _ in SuperResolver.random(0, 32).named_modules() if "transformer" in name]
    assert [name for name, _ in UNet().named_modules() if "transformer" in name]


def test_samples_have_the_shape_and_follow_the_seed() -> None:
    low = reduce(draw_pictures(2, 16, source()))
    samples = [super_resolve(opinionated(), low, steps=2, rng=source(seed)) for seed in (0, 0, 1)]
    assert samples[0].shape == (2, 3, 16, 16) and samples[0].min() >= 0 and samples[0].max() <= 1
    assert torch.equal(samples[0], samples[1]) and not torch.equal(samples[0], samples[2])


def test_the_condition_is_used_and_each_row_has_its_own() -> None:
    model, schedule = opinionated(), sd15_schedule()
    low = reduce(draw_pictures(2, 16, source()))
    z = torch.randn(2, 3, 16, 16, generator=source())
    both = SuperResolutionDenoiser(model, low, schedule)(z, 0.5)
    alone = SuperResolutionDenoiser(model, low[1:], schedule)(z[1:], 0.5)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
    swapped = SuperResolutionDenoiser(model, low.flip(0), schedule)(z, 0.5)
    assert (swapped - both).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert both.abs().max() <= 1
    with pytest.raises(ValueError, match=r"z: got shape \(1, 3, 16, 16\); allowed is \(2, 3, 16, 16\)"):
        SuperResolutionDenoiser(model, low, schedule)(z[:1], 0.5)


def test_training_lowers_the_loss_and_learns_from_the_condition(tmp_path: Path) -> None:
    settings = SuperResolutionSettings(side=8, width=32, batch=8, snapshots=(40,), lr=4e-3)
    record = train_super_resolution(settings, tmp_path / "state.pt")
    assert len(record.losses) == 40
    assert sum(record.losses[-10:]) < 0.8 * sum(record.losses[:10])
    pictures, t = draw_pictures(32, 8, source(9)), torch.full((32,), 200)
    noise = torch.randn(pictures.shape, generator=source(8))
    model = SuperResolver.random(0, 32)
    model.load_state_dict(record.snapshots[40])
    trained, fresh = (
        float(noise_loss(m, pictures, t, noise, ALPHAS).detach()) for m in (model, SuperResolver.random(0, 32))
    )
    assert trained < 0.9 * fresh


def test_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = train_super_resolution(tiny(dream=1.0), tmp_path / "whole.pt")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msd_core.research.super_resolution.train.SAVE_EVERY", 1)
        with pytest.raises(KeyboardInterrupt):
            train_super_resolution(tiny(dream=1.0), tmp_path / "parts.pt", progress=stop)
    assert torch.load(tmp_path / "parts.pt", weights_only=True)["step"] == 2
    asked = []
    parts = train_super_resolution(
        tiny(dream=1.0), tmp_path / "parts.pt", progress=lambda done, total: asked.append(done)
    )
    assert asked == [3]
    again = train_super_resolution(tiny(dream=1.0), tmp_path / "parts.pt")  # nothing is left to do
    for record in (parts, again):
        assert record.losses == whole.losses and list(record.snapshots) == [1, 3]
        for step, weights in whole.snapshots.items():
            assert all(torch.equal(record.snapshots[step][k], weights[k]) for k in weights)


def first_losses(tmp_path: Path) -> list[float]:
    """First losses at p = inf, 1, 0 of a fresh network, which predicts 0."""
    return [train_super_resolution(tiny(dream=p), tmp_path / f"{p}.pt").losses[0] for p in (math.inf, 1.0, 0.0)]


def dream_is_wired(standard: float, adapted: float, rectified: float) -> None:
    # with eps_hat = 0, p = 0 doubles the noise: four times the loss
    assert rectified == pytest.approx(4 * standard, rel=1e-5)
    assert 1.01 * standard < adapted < 0.99 * rectified


def test_dream_changes_the_noise_and_nothing_else(tmp_path: Path) -> None:
    losses = first_losses(tmp_path)
    dream_is_wired(*losses)
    with pytest.raises(AssertionError):
        dream_is_wired(losses[0], losses[0], losses[0])  # an option that is not passed on


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="p: got -2"):
        SuperResolutionSettings(dream=-2)
    for snapshots in ((), (2, 1), (0, 1), (1, 1)):
        with pytest.raises(ValueError, match="snapshots: got"):
            SuperResolutionSettings(snapshots=snapshots)


def waves() -> tuple[Tensor, Tensor]:
    i = torch.arange(24, dtype=torch.float64)
    x = torch.stack([((0.5 * i[:, None] * (c + 1) + 0.3 * i).sin() + 1) / 2 for c in range(3)])
    y = (0.8 * x + 0.1 * (1.1 * i).cos()[:, None]).clamp(0, 1)
    return x[None], y[None]


def ssim_is_the_reference(found: Tensor) -> None:
    """scikit-image 0.26: structural_similarity with Gaussian weights, sigma 1.5, the window's own moments."""
    torch.testing.assert_close(float(found), 0.9255307935828534, rtol=1e-6, atol=0)


def test_ssim_is_that_of_the_reference_implementation() -> None:
    x, y = waves()
    ssim_is_the_reference(ssim(y, x))
    with pytest.raises(AssertionError):
        ssim_is_the_reference(ssim(y**1.01, x))
    assert float(ssim(x, x)) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(x[..., :8, :8], y[..., :8, :8])


def test_figures_in_closed_form() -> None:
    truth = 0.25 + torch.rand(4, 3, 16, 16, generator=source()) / 2
    torch.testing.assert_close(psnr(truth + 0.1, truth), torch.full((4,), 20.0))
    torch.testing.assert_close(consistency(truth + 0.1, truth), torch.full((4,), 20.0))
    half = truth.mean(dim=(2, 3), keepdim=True).lerp(truth, 0.5)
    torch.testing.assert_close(sharpness(half, truth), torch.full((4,), 0.25))
    for figure in FIGURES.values():
        alone = torch.cat([figure(h[None], t[None]) for h, t in zip(half, truth, strict=True)])
        torch.testing.assert_close(figure(half, truth), alone)  # a batch is each alone
        with pytest.raises(ValueError, match="pictures: got shape"):
            figure(half[:1], truth)
