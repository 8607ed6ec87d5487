"""Pulls against Jacobians written out, masks that leave everything else alone to the last bit, prompts by view."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import (
    Batch,
    ByView,
    Canvas,
    Generator,
    ImagePull,
    Info,
    Latent,
    LatentPull,
    Masked,
    Measured,
    NeuralImage,
    NonFiniteError,
    OptimizerConfig,
    Pixels,
    Points,
    Pull,
    State,
    View,
    distil,
    measure,
    optimize,
    start,
)
from msd_core.denoiser import Denoiser
from msd_core.measurement import Observation
from msd_core.measurement.pool import Pool
from msd_core.pull import Pulling
from msd_core.randomness import Rng, draw_uniform

pytestmark = pytest.mark.core
RNG = torch.Generator().manual_seed(3)
WEIGHT = torch.randn(2, 3, 2, 2, generator=RNG, dtype=torch.float64)
TARGET = torch.randn(1, 2, 2, 3, generator=RNG, dtype=torch.float64)
BACK = torch.randn(2, 3, generator=RNG, dtype=torch.float64)


def encode(picture: Tensor) -> Tensor:
    """Non-linear, (B, 3, 4, 6) to (B, 2, 2, 3)."""
    return torch.sin(torch.nn.functional.conv2d(picture, WEIGHT.to(picture), stride=2))


def decode(x: Tensor) -> Tensor:
    """Non-linear, (B, 2, 2, 3) to (B, 3, 4, 6); the inverse of nothing."""
    small = torch.sigmoid(torch.einsum("bchw,cd->bdhw", x, BACK.to(x)))
    return small.repeat_interleave(2, 2).repeat_interleave(2, 3)


def towards(x: Tensor) -> Tensor:
    """A method's gradient: non-linear in x, and of x's shape."""
    assert not x.requires_grad, "a method sees x detached"
    return torch.tanh(x - TARGET.to(x)) if x.shape[1:] == TARGET.shape[1:] else torch.tanh(x - 0.2)


def field(seed: int = 0) -> NeuralImage:
    return NeuralImage(resolution=6, size=(6, 4), hidden=4, layers=1, features=3, seed=seed).double()


def flat(generator: Generator) -> Tensor:
    return torch.cat([p.detach().flatten() for p in generator.parameters()])


def jacobian(generator: Generator, function: Callable[[Tensor], Tensor]) -> Tensor:
    """d function(g(psi)) / d psi, one row an output, by central differences of the parameters."""
    start_at, columns, h = flat(generator), [], 1e-5
    for k in range(len(start_at)):
        ends = []
        for sign in (1, -1):
            moved = start_at.clone()
            moved[k] += sign * h
            torch.nn.utils.vector_to_parameters(moved, generator.parameters())
            with torch.no_grad():
                ends.append(function(generator.render(generator.canvas.view)).flatten())
        columns.append((ends[0] - ends[1]) / (2 * h))
    torch.nn.utils.vector_to_parameters(start_at, generator.parameters())
    return torch.stack(columns, dim=1)


def pulled_back(generator: Generator, pull: Pulling) -> Tensor:
    """J^T cotangent, as the loop takes it."""
    pulled, cotangent = pull(generator.render(generator.canvas.view), towards)
    assert cotangent.shape == pulled.shape and not cotangent.requires_grad
    found = torch.autograd.grad(pulled, list(generator.parameters()), cotangent)
    return torch.cat([p.flatten() for p in found])


def assert_is(pull: Pulling, function: Callable[[Tensor], Tensor], cotangent: Callable[[Tensor], Tensor]) -> None:
    """The pull's gradient on the parameters is J^T cotangent(picture), J that of ``function`` of the picture."""
    generator = field()
    picture = generator.render(generator.canvas.view).detach()
    expected = jacobian(generator, function).T @ cotangent(picture).flatten()
    torch.testing.assert_close(pulled_back(generator, pull), expected, rtol=1e-6, atol=1e-8)


def itself(picture: Tensor) -> Tensor:
    return picture


def residual(picture: Tensor) -> Tensor:
    x = encode(picture)
    return picture - decode(x - towards(x))


CASES: dict[str, tuple[Pulling, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "pull": (Pull(), itself, towards),
    "latent": (LatentPull(encode), encode, lambda picture: towards(encode(picture))),
    "image": (ImagePull(encode, decode), itself, residual),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_written_out_jacobian(name: str) -> None:
    pull, function, cotangent = CASES[name]
    assert_is(pull, function, cotangent)
    planted = [
        (function, lambda picture: -cotangent(picture)),
        *((other[1], other[2]) for key, other in CASES.items() if key != name),
    ]
    for wrong_function, wrong_cotangent in planted:
        with pytest.raises(AssertionError):
            assert_is(pull, wrong_function, wrong_cotangent)


def test_an_image_pull_asks_its_encoder_without_a_graph() -> None:
    def watched(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def inner(value: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return function(value)

        return inner

    pulled, _ = ImagePull(watched(encode), watched(decode))(field().render(View(4, 6)), towards)
    assert pulled.requires_grad


@pytest.mark.parametrize("pull", [Pull(), LatentPull(encode)])
def test_half_precision_is_promoted_and_keeps_its_graph(pull: Pulling) -> None:
    picture = torch.full((1, 3, 4, 6), 0.3, dtype=torch.float16, requires_grad=True)
    pulled, cotangent = pull(picture, towards)
    assert pulled.dtype == cotangent.dtype == torch.float32
    (found,) = torch.autograd.grad(pulled, picture, cotangent)
    assert found.dtype == torch.float16 and bool(found.any())


@pytest.mark.parametrize("pull", [Pull(), LatentPull(encode), ImagePull(encode, decode)])
def test_a_picture_without_a_graph_is_refused(pull: Pulling) -> None:
    with pytest.raises(ValueError, match="generator: x has no gradient with respect to the generator's parameters"):
        pull(torch.zeros(1, 3, 4, 6), towards)


@pytest.mark.parametrize(
    ("pull", "words"),
    [
        (LatentPull(lambda p: encode(p).detach()), "encode: x has no gradient"),
        (LatentPull(lambda p: encode(p) * math.nan), "encode: NaN or infinity in 12 of 12 numbers of the latent"),
        (ImagePull(lambda p: encode(p) / 0, decode), "encode: NaN or infinity in 12 of 12 numbers of the latent"),
        (ImagePull(encode, lambda x: decode(x) * math.inf), "decode: NaN or infinity in 72 of 72 numbers"),
        (
            ImagePull(encode, lambda x: decode(x)[:, :, :2]),
            "decode: gave shape .1, 3, 2, 6., the picture has .1, 3, 4, 6.",
        ),
        (ImagePull(encode, lambda x: decode(x)[:, :1]), "decode: gave shape .1, 1, 4, 6."),
    ],
)
def test_a_broken_encoder_or_decoder(pull: Pulling, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pull(field().render(View(4, 6)), towards)


# --- masks ------------------------------------------------------------------------------------------------------------

LEFT = torch.zeros(4, 6)
LEFT[:, :2] = 1
SOFT = torch.linspace(0, 1, 24).reshape(4, 6)


@pytest.mark.parametrize("mask", [LEFT, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("name", CASES)
def test_the_cotangent_is_the_mask_times_the_pulls(name: str, mask: Tensor) -> None:
    pull, picture = CASES[name][0], field().render(View(4, 6))
    _, plain = pull(picture, towards)
    _, masked = Masked(pull, mask)(picture, towards)
    small = mask if plain.shape[-1] == 6 else mask.unfold(0, 2, 2).unfold(1, 2, 2).mean(dim=(2, 3))
    torch.testing.assert_close(masked, plain * small.double())
    assert not masked[small.expand_as(masked) == 0].any() and masked[small.expand_as(masked) > 0].all()
    _, everywhere = Masked(pull, torch.ones(4, 6))(picture, towards)
    assert torch.equal(everywhere, plain)


def test_a_mask_of_another_size_is_averaged() -> None:
    checks = torch.zeros(8, 12)
    checks[::2, ::2] = 1
    _, plain = Pull()(field().render(View(4, 6)), towards)
    _, masked = Masked(Pull(), checks)(field().render(View(4, 6)), towards)
    torch.testing.assert_close(masked, plain / 4)


def test_one_mask_a_row() -> None:
    picture = torch.cat([field(seed).render(View(4, 6)) for seed in (0, 1)])
    masks = torch.stack([LEFT, 1 - LEFT])[:, None]
    _, plain = Pull()(picture, towards)
    _, masked = Masked(Pull(), masks)(picture, towards)
    assert torch.equal(masked, plain * masks.double())
    _, shared = Masked(Pull(), LEFT)(picture, towards)
    assert torch.equal(shared, plain * LEFT.double())


@pytest.mark.parametrize(
    "mask",
    [
        torch.full((4, 6), 1.1),
        torch.full((4, 6), -0.1),
        torch.full((4, 6), math.nan),
        torch.zeros(6),
        torch.zeros(1, 4, 6),
        torch.zeros(1, 3, 4, 6),
        255 * torch.ones(4, 6),
    ],
)
def test_other_masks_are_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match=r"mask: got shape .* with values from .*; allowed is \(H, W\) or"):
        Masked(Pull(), mask)


def test_masks_that_do_not_fit_what_is_pulled() -> None:
    three = torch.ones(3, 1, 4, 6)
    with pytest.raises(
        ValueError, match="mask: got 3 of them for what is pulled, .1, 3, 4, 6.; allowed is one, or one"
    ):
        Masked(Pull(), three)(field().render(View(4, 6)), towards)
    with pytest.raises(ValueError, match="mask: got 1 of them for what is pulled, .5, 2."):
        Masked(Pull(), LEFT)(torch.zeros(5, 2, requires_grad=True), towards)


class Towards:
    """A method that pulls x to a value, everywhere."""

    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        return x - 0.9, measure(x - 0.9, 0)


def moved(pull: Pulling, optimizer: str, generator: Generator | None = None) -> State:
    state = start(generator or Pixels(4, 6, init="noise", seed=2), steps=5)
    return list(optimize(state, Towards(), encode, pull=pull, optimizer=OptimizerConfig(optimizer, lr=0.1)))[-1]


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
@pytest.mark.parametrize("pull", [Pull(), ImagePull(encode, decode)], ids=["pull", "image"])
def test_what_is_masked_out_stays_to_the_last_bit(pull: Pulling, optimizer: str) -> None:
    before = Pixels(4, 6, init="noise", seed=2).values.detach()
    after = moved(Masked(pull, LEFT), optimizer).picture()
    outside = (LEFT == 0).expand_as(after)
    assert torch.equal(after[outside], before[outside].clamp(0, 1))
    assert (after[~outside] != before[~outside]).all()
    without = moved(pull, optimizer).picture()
    assert (without[outside] != before[outside]).all(), "planted: without the mask they move"
    if isinstance(pull, Pull) and optimizer == "adam":
        assert torch.equal(after[~outside], without[~outside]), "each pixel on its own"


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_a_masked_latent_stays_too(optimizer: str) -> None:
    before = Latent(4, 4, 6, seed=5).values.detach()
    mask = torch.kron(LEFT, torch.ones(8, 8))
    after = moved(Masked(Pull(), mask), optimizer, Latent(4, 4, 6, seed=5)).picture()
    outside = (LEFT == 0).expand_as(after)
    assert torch.equal(after[outside], before[outside]) and (after[~outside] != before[~outside]).all()


# --- which pull for which generator, which denoiser for which view ----------------------------------------------------


@pytest.mark.parametrize(
    ("generator", "pull"),
    [
        (Latent(2, 2, 3), LatentPull(encode)),
        (Latent(2, 2, 3), ImagePull(encode, decode)),
        (Latent(2, 2, 3), Masked(LatentPull(encode), LEFT)),
        (Points(torch.zeros(3, 2)), ImagePull(encode, decode)),
    ],
)
def test_a_pull_for_another_space_is_refused_at_the_call(generator: Generator, pull: Pulling) -> None:
    words = f"pull: got {type(pull).__name__} for a generator that renders {generator.space}; allowed are generators of"
    with pytest.raises(ValueError, match=f"{words} image. Use Pull"):
        optimize(start(generator, steps=1), Towards(), encode, pull=pull)


def test_every_generator_fits_the_plain_pull() -> None:
    for generator in (Latent(2, 2, 3), Points(torch.zeros(3, 2)), Pixels(2, 2)):
        assert list(optimize(start(generator, steps=1), Towards(), encode))[0].step == 1


class Sliding(Pixels):
    """Pixels seen from a random side: its view is a View and a word."""

    def view(self, step: int, steps: int, rng: Rng) -> tuple[View, str]:  # type: ignore[override]
        return self.canvas.view, "left" if float(draw_uniform(1, rng)) < 0.5 else "right"

    def render(self, view: tuple[View, str]) -> Tensor:  # type: ignore[override]
        picture = super().render(view[0])
        return picture if view[1] == "left" else picture.flip(-1)

    def frame(self, height: int, width: int) -> tuple[View, str]:
        return View(height, width), "left"


class Asked:
    """A denoiser with a name, which writes down that it was asked."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def __call__(self, z: Tensor, sigma: object) -> Tensor:
        self.log.append(self.name)
        return z


class Asking:
    def __call__(self, x: Tensor, denoiser: Denoiser, *, step: int, steps: int, rng: Rng) -> tuple[Tensor, Info]:
        gradient = x - denoiser(x, 1.0) + 0.1
        return gradient, measure(gradient, len(x))


def test_a_denoiser_by_view_is_asked_with_the_views_own() -> None:
    seen: list[str] = []
    picked: list[str] = []

    def pick(view: tuple[View, str]) -> Denoiser:
        picked.append(view[1])
        return Asked(view[1], seen)

    states = list(optimize(start(Sliding(2, 4), steps=12, seed=1), Asking(), ByView(pick)))
    twin = torch.Generator().manual_seed(1)
    expected = [
        "left" if float(torch.rand(1, 1, generator=twin, dtype=torch.float64)) < 0.5 else "right" for _ in states
    ]
    assert seen == picked == expected and {"left", "right"} == set(seen)


def test_a_batch_has_a_view_for_each_member() -> None:
    views: list[list] = []

    def pick(view: list) -> Denoiser:
        views.append(view)
        return lambda z, sigma: z

    batch = Batch([Sliding(2, 4), Sliding(2, 4)])
    list(optimize(start(batch, steps=6, seed=1), Asking(), ByView(pick)))
    singles: list[list[str]] = [[], []]
    for i in range(2):

        def note(view: tuple[View, str], i: int = i) -> Denoiser:
            singles[i].append(view[1])
            return lambda z, sigma: z

        list(optimize(start(Sliding(2, 4), steps=6, seed=1 + i), Asking(), ByView(note)))
    assert [[part[1] for part in view] for view in views] == [list(pair) for pair in zip(*singles, strict=True)]
    assert singles[0] != singles[1]


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_a_canvas_knows_its_view() -> None:
    assert Canvas(64, 32).view == View(32, 64)
    assert Canvas(64, 32, 8, "latent").view == View(4, 8)
    assert Canvas(64, 32, 1, "latent").view == View(32, 64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Canvas(0, 8), "width: got 0"),
        (lambda: Canvas(8, 2.5), "height: got 2.5"),  # type: ignore[arg-type]
        (lambda: Canvas(60, 64, 8, "latent"), "width: got 60; allowed are multiples of 8, .*use 64"),
        (lambda: Canvas(64, 3, 8, "latent"), "height: got 3; .*use 8"),
        (lambda: View(0, 3), "height: got 0"),
        (lambda: Latent.for_size(60, 64), "width: got 60"),
    ],
)
def test_wrong_sizes(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_nan_names_its_owner() -> None:
    with pytest.raises(NonFiniteError, match="decode: NaN") as caught:
        ImagePull(encode, lambda x: decode(x) * math.nan)(field().render(View(4, 6)), towards)
    assert (caught.value.name, caught.value.count, caught.value.total) == ("decode", 72, 72)


# --- what is measured -------------------------------------------------------------------------------------------------


def test_a_measured_pull_agrees_with_what_was_seen() -> None:
    """Without noise the target has what was measured, to rounding, and for the rest what the pull wanted; with noise it
    is the weighted mean (closed form for A = 1)."""
    rng = torch.Generator().manual_seed(0)
    seen, wanted = torch.rand(1, 3, 4, 4, generator=rng), torch.rand(1, 3, 8, 8, generator=rng)
    picture = torch.rand(1, 3, 8, 8, generator=rng).requires_grad_()
    pull = Measured(Pull(), Observation(Pool(2), seen))
    pulled, cotangent = pull(picture, lambda x: x - wanted)
    target = pulled.detach() - cotangent
    torch.testing.assert_close(Pool(2).apply(target), seen, atol=1e-5, rtol=0)
    rest = target - wanted
    torch.testing.assert_close(rest, Pool(2).apply(rest).repeat_interleave(2, -1).repeat_interleave(2, -2))
    everything = Measured(Pull(), Observation(Pool(1), picture.detach() * 0 + 0.5, noise=0.2), error=0.1)
    pulled, cotangent = everything(picture, lambda x: x - wanted)
    mean = (0.5 / 0.2**2 + wanted / 0.1**2) / (1 / 0.2**2 + 1 / 0.1**2)
    torch.testing.assert_close(pulled.detach() - cotangent, mean, atol=1e-5, rtol=0)


def test_a_run_that_is_measured_ends_where_both_agree() -> None:
    """Through `distil`: the measurement is in the picture that comes out."""
    seen = torch.full((1, 3, 16, 16), 0.8)
    seen[..., 4:12, 4:12] = 0.1
    settings = {"generator": "pixels", "steps": 6, "inner_steps": 30, "lr": 0.05, "seed": 1}
    for observation in (Observation(Pool(8), seen), None):
        *_, last = distil("a large red circle on a blue background", observation=observation, **settings)
        off = float((Pool(8).apply(last.picture()) - seen).abs().mean())
        assert (off < 0.03) == (observation is not None), off


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Measured(Pull(), torch.zeros(1, 3, 8, 8)), "observation"),
        (lambda: Measured(LatentPull(encode), Observation(Pool(2), torch.zeros(1, 3, 4, 4))), "pull: got"),
        (lambda: Measured(Pull(), Observation(Pool(2), torch.zeros(1, 3, 4, 4)), error=0.0), "error"),
        (
            lambda: Measured(Pull(), Observation(Pool(2), torch.zeros(1, 3, 5, 5)))(
                torch.zeros(1, 3, 8, 8, requires_grad=True), lambda x: x
            ),
            "b: got shape",
        ),
    ],
)
def test_a_measurement_that_does_not_fit(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert says in str(caught.value)
