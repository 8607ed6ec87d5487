"""The loop: the chain rule, convergence to a mode, stopping, purity, autograd's modes, and errors that lose nothing."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from msd_core import (
    MSD,
    SDI,
    SDS,
    ByView,
    Exact,
    GaussianMixture,
    Generator,
    ImagePull,
    Info,
    Latent,
    LatentPull,
    Masked,
    Naive,
    NeuralImage,
    NonFiniteError,
    OptimizerConfig,
    Pixels,
    State,
    View,
    bandwidth_schedule,
    make_generator,
    measure,
    optimize,
    sd15_schedule,
    start,
    with_levels,
)
from msd_core.bandwidth import Exponential
from msd_core.denoiser import Denoiser
from msd_core.generators.base import Moved
from msd_core.mean_shift.split import Split
from msd_core.optimize import planned_steps
from msd_core.optimizers import follow
from msd_core.pull import Pulling
from msd_core.randomness import Rng
from msd_core.settings import build

pytestmark = pytest.mark.core
STEPS = 6
SCHEDULE = sd15_schedule()
GD = OptimizerConfig("gd", lr=1.0)
COLOURS = GaussianMixture(
    weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    means=torch.tensor([[0.8, 0.2, 0.3], [0.1, 0.9, 0.4], [0.3, 0.1, 0.95]], dtype=torch.float64),
    covariances=torch.stack([torch.diag(torch.tensor(d, dtype=torch.float64) ** 2) for d in
                             ([0.08, 0.12, 0.1], [0.12, 0.15, 0.1], [0.1, 0.1, 0.2])]),
)  # fmt: skip
"""An asymmetric density of one pixel's colour."""


def colour_denoiser(z: Tensor, sigma: Tensor) -> Tensor:
    """The mixture as a denoiser of pictures of one pixel, (B, 3, 1, 1)."""
    return COLOURS(z.flatten(1).double(), sigma).reshape(z.shape).to(z)


def picture_denoiser(z: Tensor, sigma: Tensor) -> Tensor:
    """A smooth, non-linear stand-in for a model, for any shape."""
    return torch.tanh(z - 0.3) / (1 + torch.as_tensor(sigma).reshape(-1, *(1,) * (z.ndim - 1)) ** 2)


def msd(steps: int = STEPS, start: float = 1.0, end: float = 0.1, **options: object) -> MSD:
    base = MSD(bandwidth_schedule("exponential", start, end, steps), Exact(steps=4))
    return build(base, options)


def small(seed: int = 0) -> NeuralImage:
    return NeuralImage(resolution=8, size=(4, 4), hidden=8, layers=2, features=8, seed=seed)


def run(
    generator: Generator | None = None,
    method: object = None,
    denoiser: Denoiser | ByView = picture_denoiser,
    *,
    steps: int = STEPS,
    seed: int = 0,
    **options: object,
) -> list[State]:
    state = start(small() if generator is None else generator, steps=steps, seed=seed)
    return list(optimize(state, method or msd(), leveled(denoiser), **options))


def leveled(denoiser: Denoiser | ByView) -> Denoiser | ByView:
    return denoiser if isinstance(denoiser, ByView) else with_levels(denoiser, SCHEDULE)


def parameters(generator: Generator) -> Tensor:
    return torch.cat([p.detach().flatten() for p in generator.parameters()])


# --- the chain rule ---------------------------------------------------------------------------------------------------


def encode(picture: Tensor) -> Tensor:
    """A non-linear encoder from (1, 3, 4, 4) to (1, 2, 2, 2)."""
    weight = torch.linspace(-1, 1, 2 * 3 * 2 * 2, dtype=picture.dtype).reshape(2, 3, 2, 2)
    return torch.sin(3 * nn.functional.conv2d(picture, weight, stride=2))


def assert_chain_rule(sign: float) -> None:
    """One step of gradient descent against J^T g with J written out, one row an output."""
    generator, cotangent = (
        small().double(),
        torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(1)).double(),
    )

    class Fixed:
        def __call__(self, x: Tensor, denoiser: Denoiser, **_: object) -> tuple[Tensor, Info]:
            return sign * cotangent, measure(cotangent, 0)

    (state,) = run(generator, Fixed(), pull=LatentPull(encode), steps=1, optimizer=OptimizerConfig("gd", lr=0.1))
    outputs = encode(generator.render(View(4, 4))).flatten()
    rows = [torch.autograd.grad(y, list(generator.parameters()), retain_graph=True) for y in outputs]
    jacobian = torch.stack([torch.cat([p.flatten() for p in row]) for row in rows])
    pulled = jacobian.T @ cotangent.flatten()
    expected = -0.1 * cotangent.square().sum() / pulled.square().sum() * pulled
    torch.testing.assert_close(parameters(state.generator) - parameters(generator), expected)


def test_the_gradient_is_pulled_back_by_the_jacobian() -> None:
    assert_chain_rule(1.0)
    with pytest.raises(AssertionError):
        assert_chain_rule(-1.0)


def upsampled(x: Tensor) -> Tensor:
    """A decoder that belongs to no encoder in particular: (1, 2, 2, 2) to (1, 3, 4, 4)."""
    return torch.sigmoid(
        torch.cat([x, x.sum(dim=1, keepdim=True)], dim=1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )


class Towards:
    """A method that pulls x to one point."""

    def __init__(self, target: Tensor) -> None:
        self.target = target

    def __call__(self, x: Tensor, denoiser: Denoiser, **_: object) -> tuple[Tensor, Info]:
        return x - self.target, measure(x - self.target, 0)


def test_with_a_decoder_the_picture_itself_is_pulled() -> None:
    """gd with lr = 1 on pixels jumps to the decoded target, whatever the encoder; pulled through it, x only moves."""
    method, pixels = Towards(torch.full((1, 2, 2, 2), 0.3)), make_generator("pixels", height=4, width=4)
    (state,) = run(pixels, method, pull=ImagePull(encode, upsampled), steps=1, optimizer=GD)
    torch.testing.assert_close(state.picture(4, 4), upsampled(method.target))
    (other,) = run(pixels, method, pull=LatentPull(encode), steps=1, optimizer=GD)
    assert (other.picture(4, 4) - upsampled(method.target)).abs().max() > 0.05


def test_with_a_decoder_the_encoder_is_not_differentiated() -> None:
    method = Towards(torch.zeros(1, 2, 2, 2))
    states = run(method=method, pull=ImagePull(lambda p: encode(p).detach(), upsampled), steps=2)
    assert len(states) == 2


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (lambda x: upsampled(x) * math.nan, "decode: NaN or infinity in 48 of 48 numbers"),
        (lambda x: upsampled(x)[:, :1], "decode: gave shape"),
    ],
)
def test_a_broken_decoder(decoder: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(method=Towards(torch.zeros(1, 2, 2, 2)), pull=ImagePull(encode, decoder))


def test_only_the_generator_gets_gradients() -> None:
    encoder = nn.Conv2d(3, 4, 2, stride=2)
    generator = small()
    run(generator, pull=LatentPull(encoder), steps=2, method=msd(2))
    assert all(p.grad is None for p in [*encoder.parameters(), *generator.parameters()])


def test_gd_on_pixels_is_the_mean_shift_iteration() -> None:
    method, generator = msd(estimator="one-step"), Pixels(1, 1)
    x = generator.render(View(1, 1)).detach()
    for state in run(generator, method, colour_denoiser, optimizer=GD):
        x = colour_denoiser(x, method.bandwidth(state.step - 1, state.steps))
        torch.testing.assert_close(state.picture(1, 1), x, rtol=1e-6, atol=1e-7)


def test_adam_on_pixels_is_torchs() -> None:
    method, generator = msd(estimator="one-step"), Pixels(4, 4)
    values = generator.values.detach().clone().requires_grad_()
    reference = torch.optim.Adam([values], lr=0.02, betas=(0.9, 0.99), eps=1e-15)
    for state in run(generator, method, optimizer=OptimizerConfig("adam", lr=0.02)):
        values.grad = values.detach() - picture_denoiser(values.detach(), method.bandwidth(state.step - 1, state.steps))
        reference.step()
        torch.testing.assert_close(parameters(state.generator), values.detach().flatten(), rtol=1e-5, atol=1e-6)


# --- several updates a target -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pull", [LatentPull(encode), ImagePull(encode, upsampled)], ids=["latent", "image"])
@pytest.mark.parametrize(
    "optimizer", [OptimizerConfig("adam", lr=0.02), OptimizerConfig("gd", lr=0.1)], ids=["adam", "gd"]
)
def test_updates_towards_one_target_are_steps_towards_it(pull: Pulling, optimizer: OptimizerConfig) -> None:
    method = Towards(torch.full((1, 2, 2, 2), 0.3))
    inner = run(method=method, pull=pull, optimizer=optimizer, steps=2, inner_steps=3)[-1]
    outer = run(method=method, pull=pull, optimizer=optimizer, steps=6)
    torch.testing.assert_close(parameters(inner.generator), parameters(outer[-1].generator), rtol=1e-4, atol=1e-6)
    assert (parameters(inner.generator) - parameters(outer[1].generator)).abs().max() > 1e-3


def test_the_model_is_asked_once_a_target() -> None:
    def evaluations(**options: int) -> int:
        return run(method=msd(2, estimator="one-step"), steps=2, **options)[-1].evaluations

    assert evaluations(inner_steps=4) == evaluations() == 2


def test_outside_of_the_mask_updates_lead_back() -> None:
    pull = Masked(ImagePull(encode, upsampled), torch.tensor([[1.0, 0.0]]).repeat(4, 2))
    pixels = Pixels(4, 4)
    (state,) = run(pixels, Towards(torch.full((1, 2, 2, 2), 0.3)), pull=pull, steps=1, optimizer=GD, inner_steps=3)
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0]) > 0
    torch.testing.assert_close(state.picture()[..., mask], upsampled(torch.full((1, 2, 2, 2), 0.3))[..., mask])
    torch.testing.assert_close(state.picture()[..., ~mask], pixels.render(View(4, 4)).detach()[..., ~mask])


# --- convergence ------------------------------------------------------------------------------------------------------


@functools.cache
def highest_mode() -> Tensor:
    """By gradient ascent on the log density from every component: (1, 3)."""
    y = COLOURS.means.clone()
    for _ in range(1000):
        y = y + 1e-3 * COLOURS.score(y, 1e-3)
    return y[COLOURS.log_prob(y).argmax()][None]


def assert_reaches_the_mode(denoiser: Denoiser, **options: object) -> None:
    settings = {"steps": 60, "method": msd(60, 0.8, 0.01, estimator="one-step")} | options
    state = run(Pixels(1, 1), denoiser=denoiser, **settings)[-1]
    torch.testing.assert_close(state.picture(1, 1).flatten(1).double(), highest_mode(), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": GD},
        {"optimizer": OptimizerConfig("adam", lr=0.05, lr_coupling=0.3)},
        {"optimizer": GD, "method": msd(60, 0.8, 0.01, samples=8, solver_steps=16)},
    ],
    ids=["gd", "adam", "exact"],
)
def test_reaches_the_highest_mode(options: dict) -> None:
    assert_reaches_the_mode(colour_denoiser, **options)
    planted = [lambda z, sigma: 2 * z - colour_denoiser(z, sigma), lambda z, sigma: colour_denoiser(-z, sigma)]
    for wrong in planted:
        with pytest.raises((AssertionError, NonFiniteError)):
            assert_reaches_the_mode(wrong, **options)


def test_a_neural_image_reaches_it_too() -> None:
    method = msd(80, 0.8, 0.02, estimator="one-step")
    generator = NeuralImage("siren", resolution=8, size=(2, 2), hidden=16, layers=2)

    def denoiser(z: Tensor, sigma: Tensor) -> Tensor:  # every pixel by itself
        return colour_denoiser(z.permute(0, 2, 3, 1).reshape(-1, 3), sigma).reshape(1, 2, 2, 3).permute(0, 3, 1, 2)

    state = run(generator, method, denoiser, steps=80, optimizer=OptimizerConfig(lr=0.02, lr_coupling=0.3))[-1]
    mode = highest_mode().float().reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(state.picture(2, 2), mode, rtol=0, atol=0.03)


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stops_before_the_first_bandwidth_below_the_minimum() -> None:
    method = msd()
    threshold = method.bandwidth(3, STEPS)
    assert len(run(method=method, min_bandwidth=threshold)) == 4
    assert len(run(method=method, min_bandwidth=threshold * 1.001)) == 3
    assert len(run(method=method, min_bandwidth=0.0)) == len(run(method=method)) == STEPS
    ends = MSD(Exponential(2.0, 0.7))
    assert len(run(method=ends, min_bandwidth=0.7)) == STEPS, "0.7 in float32 is less"
    assert len(run(method=MSD(Exponential(0.7, 0.7)), min_bandwidth=0.7)) == STEPS


def test_an_estimator_without_a_level_at_the_last_bandwidth_is_refused_before_the_first_step() -> None:
    method = MSD(Exponential(8.0, 0.7), Split(steps=8, truncation=0.15))
    with pytest.raises(ValueError, match="truncation: got 0.15 with bandwidth 0.69999"):
        optimize(start(small(), steps=4), method, lambda z, sigma: z)


def test_stops_when_the_mean_shift_is_small() -> None:
    options = {"steps": 60, "optimizer": GD, "method": msd(60, 0.8, 0.01, estimator="one-step")}
    norms = [info.norm for info in run(Pixels(1, 1), denoiser=colour_denoiser, **options)[-1].history]
    tolerance = sorted(norms)[30]
    stopped = run(Pixels(1, 1), denoiser=colour_denoiser, tolerance=tolerance, **options)[-1]
    assert stopped.info.norm <= tolerance < min(info.norm for info in stopped.history[:-1])
    assert 1 < stopped.step < 60
    assert list(optimize(stopped, options["method"], colour_denoiser, optimizer=GD, tolerance=tolerance)) == []


def test_the_rate_is_coupled_to_the_bandwidth() -> None:
    """Under Adam the first step moves each pixel by the rate itself."""
    for bandwidth, rate in ((1.0, 0.1), (0.25, 0.05)):
        options = {"method": msd(1, bandwidth), "steps": 1, "optimizer": OptimizerConfig(lr=0.1, lr_coupling=0.5)}
        (state,) = run(Pixels(4, 4), **options)
        moved = parameters(state.generator) - parameters(Pixels(4, 4))
        torch.testing.assert_close(moved.abs(), torch.full_like(moved, rate))


# --- states -----------------------------------------------------------------------------------------------------------


def test_states_are_complete_and_independent() -> None:
    generator = small()
    before, frozen = copy.deepcopy(generator.state_dict()), []
    states = []
    torch.manual_seed(4)
    random_state = torch.get_rng_state()
    for state in optimize(start(generator, steps=STEPS), msd(), picture_denoiser):
        states.append(state)
        frozen.append((parameters(state.generator).clone(), state.picture(4, 4)))
    assert torch.equal(torch.get_rng_state(), random_state), "the global random state was used"
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    for k, (state, (values, picture)) in enumerate(zip(states, frozen, strict=True)):
        assert torch.equal(parameters(state.generator), values), "a later step changed an earlier state"
        assert torch.equal(state.picture(4, 4), picture) and not picture.requires_grad
        assert state.step == k + 1 == len(state.history) and state.info == state.history[-1]
        assert state.info.bandwidth == msd().bandwidth(k, STEPS)
    assert states[-1].evaluations == STEPS * 4, "four levels"
    assert not torch.equal(states[0].rng_state, states[1].rng_state)


def test_a_picture_is_a_picture() -> None:
    pixels, latent = Pixels(2, 2), Latent(4, 2, 2)
    with torch.no_grad():
        pixels.values.fill_(1.7)
        latent.values.fill_(1.7)
    for generator, value in ((pixels, 1.0), (latent, 1.7)):
        state = State(0, 1, 0, "gd", generator, {}, torch.Generator().get_state())
        assert float(state.picture(3, 3).mean()) == pytest.approx(value)
    with pytest.raises(ValueError, match="info: no iteration is done yet"):
        _ = state.info


def test_the_seed_decides() -> None:
    first, same, other = (run(method=SDS(), seed=seed)[-1] for seed in (3, 3, 4))
    assert torch.equal(parameters(first.generator), parameters(same.generator)) and first.history == same.history
    assert first.history != other.history


def test_one_method_goes_on_where_another_ended() -> None:
    first = run(method=SDS())[-1]
    second = run(first.generator, steps=2, method=msd(2))
    assert second[0].step == 1 and len(second[-1].history) == 2


# --- autograd's modes -------------------------------------------------------------------------------------------------


def modes() -> tuple[bool, bool]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()


def watched(states: Iterator[State]) -> State:
    mode = modes()
    seen = []
    for state in states:
        assert modes() == mode, "a step changed the caller's modes"
        seen.append(state)
    return seen[-1]


@pytest.mark.parametrize("outer", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", ["fourier", "siren", "hashgrid", "pixels", "latent"])
def test_works_in_every_mode_and_in_a_thread(outer: Callable[[], object], kind: str) -> None:
    """As inside a host that runs everything in inference mode: model outputs and parameters are inference tensors."""
    small = {"resolution": 64, "size": (4, 4), "hidden": 8, "layers": 1}
    sizes = {
        "pixels": {"height": 4, "width": 4},
        "latent": {"channels": 4, "height": 4, "width": 4},
        "vector": {"height": 4, "width": 4, "paths": 4},
        "pixel-art": {"height": 4, "width": 4, "cells": 4, "colours": 3},
        "volume": {"height": 4, "width": 4, "rays": 4, "ray_samples": 4},
        "sticker": {"height": 4, "width": 4, "hidden": 8, "layers": 1},
    }

    def denoiser(z: Tensor, sigma: Tensor) -> Tensor:
        with torch.inference_mode():
            return picture_denoiser(z, sigma)

    def job() -> Tensor:
        with outer():
            generator = make_generator(kind, **sizes.get(kind, small))
            method = msd(3, estimator="one-step")
            state = watched(optimize(start(generator, steps=3), method, denoiser))
            state.picture(5, 5)
            return parameters(state.generator).clone()

    with ThreadPoolExecutor(1) as pool:
        inside = pool.submit(job).result()
    with torch.enable_grad():
        generator = make_generator(kind, **sizes.get(kind, small))
        plain = run(generator, msd(3, estimator="one-step"), steps=3)[-1]
    assert torch.equal(inside, parameters(plain.generator))


# --- errors -----------------------------------------------------------------------------------------------------------


def broken_from(step: int, value: float) -> Denoiser:
    """The model, but with ``value`` in one place from iteration ``step`` on (one evaluation an iteration)."""
    calls = 0

    def denoiser(z: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        denoised = picture_denoiser(z, sigma)
        if calls >= step:
            denoised[0, 0, 0, 0] = value
        calls += 1
        return denoised

    return denoiser


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_from_a_model_loses_nothing(value: float) -> None:
    method, states = msd(estimator="one-step"), []
    expected = (
        r"denoiser: NaN or infinity in 1 of 48 .* step 4, sigma 0\.251\d*, bandwidth 0\.251.*as it was after step 3"
    )
    with pytest.raises(NonFiniteError, match=expected):
        for state in optimize(start(small(), steps=STEPS), method, broken_from(3, value)):
            states.append(state)
    assert len(states) == 3
    (*_, last) = optimize(states[-1], method, picture_denoiser)
    whole = run(method=method)[-1]
    assert torch.equal(parameters(last.generator), parameters(whole.generator)) and last.history == whole.history


def test_a_diverging_estimator_is_an_error_too() -> None:
    method = MSD((0.01,), Naive(sigmas=tuple(torch.linspace(80, 0, 40).tolist())))
    with pytest.raises(NonFiniteError, match="bandwidth 0.01.*use the estimator 'exact'"):
        run(method=method, steps=1)


def nan_backward(picture: Tensor) -> Tensor:
    """Finite forward, NaN gradient: sqrt at zero."""
    return picture + (picture * 0).sqrt()


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (lambda p: p * math.nan, "encode: NaN or infinity in 48 of 48 numbers of the latent in step 1"),
        (nan_backward, "encode: NaN or infinity .* backward pass"),
        (lambda p: p.detach(), "encode: x has no gradient"),
    ],
)
def test_a_broken_encoder(encoder: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(pull=LatentPull(encoder))


def test_a_rate_that_overflows() -> None:
    for rate, words in ((1e39, "lr: .* new parameters in step 1"), (1e38, "generator: .* picture in step 2")):
        with pytest.raises(NonFiniteError, match=f"{words}.*smaller learning rate"):
            run(optimizer=OptimizerConfig(lr=rate), method=SDS())


@pytest.mark.parametrize("method", ["msd", "sds", "sdi"])
@pytest.mark.parametrize("channels", [1, 6])
def test_a_model_of_another_shape(method: str, channels: int) -> None:
    """One channel would broadcast, and go unnoticed."""
    settings = {"msd": msd(), "sds": SDS(), "sdi": SDI(inversion_cfg=None)}
    words = f"denoiser: its result: got shape .1, {channels}, 4, 4.; allowed is the shape of z, .1, 3, 4, 4."
    with pytest.raises(ValueError, match=words):
        run(method=settings[method], denoiser=lambda z, sigma: z[:, :1].expand(-1, channels, -1, -1))


def test_a_method_of_another_shape() -> None:
    class Wrong(SDS):
        def __call__(self, x: Tensor, denoiser: Denoiser, **settings: object) -> tuple[Tensor, Info]:
            gradient, info = super().__call__(x, denoiser, **settings)
            return gradient[:, :1], info

    with pytest.raises(ValueError, match="method: the gradient has shape .1, 1, 4, 4., x .1, 3, 4, 4."):
        run(method=Wrong())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance": -1.0}, "tolerance: got -1.0"),
        ({"min_bandwidth": math.nan}, "min_bandwidth: got nan"),
        ({"min_bandwidth": 2.0}, "min_bandwidth: got 2.0; allowed is at most 1"),
        ({"min_bandwidth": 0.1, "method": SDS()}, "min_bandwidth: got 0.1 for a method without"),
        ({"optimizer": OptimizerConfig(lr_coupling=1.0), "method": SDS()}, "lr_coupling: got 1.0 for"),
        ({"generator": Latent(4, 4, 4), "pull": LatentPull(encode)}, "pull: got LatentPull for a generator that"),
        ({"generator": Latent(4, 4, 4), "pull": ImagePull(encode, upsampled)}, "pull: got ImagePull for a generator"),
        ({"method": MSD((1.0, 0.5))}, "bandwidths: got 2 of them for 6 steps"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(options: dict, words: str) -> None:
    settings = {"generator": small(), "method": msd()} | options
    state = start(settings.pop("generator"), steps=STEPS)
    with pytest.raises(ValueError, match=words):
        optimize(state, denoiser=picture_denoiser, **settings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps: got 0"),
        ({"steps": 2.5}, "steps: got 2.5"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 2**64}, "seed: got 18446744073709551616"),
        ({"seed": [1, 2]}, "seed: got 2 seeds for 0 members of a batch"),
    ],
)
def test_a_wrong_start_is_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        start(small(), **{"steps": STEPS, **options})


@pytest.mark.parametrize(("size", "words"), [((4, 0), "height: got 0"), ((2.5, 4), "width: got 2.5")])
def test_a_wrong_size_is_refused(size: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NeuralImage(size=size)
    with pytest.raises(ValueError, match=words):
        start(small(), steps=1).picture(*reversed(size))


@pytest.mark.parametrize("least", [None, 0.0, 0.5, 0.7, 1.0, 3.3, 8.0, 9.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 120])
def test_the_planned_steps_are_those_before_the_smallest_bandwidth(least: float | None, steps: int) -> None:
    method = MSD()
    counted = next((k for k in range(steps) if method.bandwidth(k, steps) < (least or 0) * (1 - 1e-6)), steps)
    assert planned_steps(method, steps, least) == counted
    assert planned_steps(SDS(), steps, least) == steps


def test_a_plan_asks_for_few_of_its_bandwidths() -> None:
    asked = []

    class Falling:
        def bandwidth(self, step: int, steps: int) -> float:
            asked.append(step)
            return steps - step

    assert planned_steps(Falling(), 1_000_000, 250_000.5) == 750_000 and len(asked) < 30


class Held(NeuralImage):
    """A neural image with a penalty on its last bias, and upkeep that is seen."""

    tended: ClassVar[list[Moved]] = []

    def penalty(self, view: View) -> Tensor:
        return 1e4 * dict(self.named_parameters())[BIAS].square().sum()

    def tend(self, moved: Moved, rng: Rng) -> dict[str, Tensor]:
        self.tended.append(moved)
        return {BIAS: torch.tensor([1, -1, 0])}


BIAS = "field.network.4.bias"


def test_a_penalty_and_upkeep() -> None:
    """The penalty holds what it speaks of; the optimiser's memory follows rows that moved, and forgets new ones."""
    Held.tended.clear()
    held = Held(resolution=8, size=(4, 4), hidden=8, layers=2, features=8)
    free, states = run()[-1].generator, run(held)
    largest = [float(dict(g.named_parameters())[BIAS].detach().abs().max()) for g in (states[-1].generator, free)]
    assert largest[0] < 0.5 * largest[1]
    assert [(m.step, m.steps) for m in Held.tended] == [(k, STEPS) for k in range(STEPS)]
    assert all(m.pulled.shape == m.target.shape == (1, 3, 4, 4) for m in Held.tended)
    memory = states[-1].optimizer_state
    first, new, third = memory[f"{BIAS}.square"].tolist()
    assert float(memory[f"{BIAS}.mean"][1]) == 0 and new == pytest.approx((first + third) / 2)


def test_a_memory_follows_its_rows() -> None:
    state = {"a.mean": torch.tensor([1.0, 2, 3]), "a.square": torch.tensor([4.0, 6, 8]), "b.mean": torch.ones(2)}
    new = follow(state, {"a": torch.tensor([2, 0, -1]), "c": torch.tensor([0])})
    assert new["a.mean"].tolist() == [3, 1, 0] and new["a.square"].tolist() == [8, 4, 6]
    assert new["b.mean"] is state["b.mean"] and state["a.mean"].tolist() == [1, 2, 3]
    assert follow(state, {"a": torch.tensor([-1, -1, -1])})["a.square"].tolist() == [0, 0, 0]
