"""Row i of a batch is its single run: to the last bit where the model treats every row alike, else to its rounding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core import (
    MSD,
    SDI,
    SDS,
    Batch,
    Canvas,
    Exact,
    Exponential,
    Generator,
    GuidedDenoiser,
    ImagePull,
    Latent,
    LatentPull,
    Naive,
    OneStep,
    OptimizerConfig,
    Pixels,
    Points,
    Pull,
    Split,
    State,
    View,
    generator_for_size,
    load_generator,
    load_model,
    load_state,
    make_generator,
    optimize,
    save_generator,
    save_state,
    sd15_schedule,
    start,
    with_levels,
)
from msd_core.distillation import Method
from msd_core.distillation.csd import CSD
from msd_core.pull import Pulling
from msd_core.randomness import draw_normal, draw_uniform

pytestmark = pytest.mark.core
STEPS, ROWS, SEED = 5, 3, 11
CURVE = Exponential(1.5, 0.2)
METHODS: dict[str, Method] = {
    "exact": MSD(CURVE, Exact(steps=3, samples=2)),
    "antithetic": MSD(CURVE, Exact(steps=3, samples=2, antithetic=True, solver="heun")),
    "split": MSD(CURVE, Split(steps=3, samples=2)),
    "split, inverted": MSD(CURVE, Split(steps=4, centre="inversion", truncation=2.0)),
    "naive": MSD(CURVE, Naive(steps=20)),
    "one-step": MSD(CURVE, OneStep()),
    "one-step, inverted": MSD(CURVE, OneStep(steps=4, centre="inversion")),
    "sds": SDS(samples=2),
    "sds, annealed": SDS(anneal="linear", samples=2, weighting="dreamfusion"),
    "csd": CSD(samples=2),
    "sdi": SDI(inversion_steps=4),
    "sdi, without jitter": SDI(inversion_steps=4, inversion_cfg=None, jitter=False, eta=0.0),
}
OPTIMIZERS = {"adam": OptimizerConfig("adam", lr=0.03), "gd": OptimizerConfig("gd", lr=0.4)}


def pixel_denoiser(z: Tensor, sigma: float | Tensor) -> Tensor:
    """Every number on its own: a smooth posterior mean around .4, for any shape."""
    level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, *(1,) * (z.ndim - 1))
    weight = (0.3**2 / (0.3**2 + level**2)).to(z.dtype)
    return 0.4 + weight * (torch.tanh(z - 0.4) * 1.1)


DENOISER = with_levels(
    GuidedDenoiser(pixel_denoiser, lambda z, sigma: pixel_denoiser(0.8 * z, sigma), 2.0), sd15_schedule()
)


def encode(picture: Tensor) -> Tensor:
    """Pixel by pixel, so that every row has the same kernels in a batch and alone: (B, 3, H, W) to (B, 2, H, W)."""
    red, green, blue = torch.sin(2 * picture).unbind(1)
    return torch.stack([red - 0.5 * green, blue * green], dim=1)


def decode(x: Tensor) -> Tensor:
    """Sums and products only: torch's sigmoid rounds by an element's place in memory."""
    return 0.5 + 0.2 * torch.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1]], dim=1)


PULLS: dict[str, Pulling] = {"none": Pull(), "latent": LatentPull(encode), "image": ImagePull(encode, decode)}


def member(kind: str, i: int) -> Generator:
    """Generator i of a batch: small, and different from the others."""
    if kind == "pixels":
        return Pixels(3, 4, init="noise", seed=i)
    if kind == "latent":
        return Latent(2, 3, 4, seed=i)
    return make_generator(kind, resolution=4, size=(4, 3), hidden=6, layers=1, seed=i)


def run(
    generator: Generator, method: Method, optimizer: str, pull: str = "none", seed: int | Sequence[int] = SEED
) -> list[State]:
    state = start(generator, steps=STEPS, seed=seed)
    return list(optimize(state, method, DENOISER, pull=PULLS[pull], optimizer=OPTIMIZERS[optimizer]))


def assert_rows(together: State, alone: Sequence[State]) -> None:
    """Parameters, memories and random numbers of each member are those of its own run, to the last bit."""
    batch = together.generator
    assert isinstance(batch, Batch)
    for i, single in enumerate(alone):
        for name, value in single.generator.state_dict().items():
            assert torch.equal(batch[i].state_dict()[name], value), f"row {i}: {name}"
        assert torch.equal(together.rng_state[i], single.rng_state)
        for name, value in single.optimizer_state.items():
            assert torch.equal(together.optimizer_state[f"members.{i}.{name}"], value), f"row {i}: {name}"
    assert len(together.optimizer_state) == sum(len(single.optimizer_state) for single in alone)
    assert together.info.norm == pytest.approx(sum(s.info.norm for s in alone) / len(alone), rel=1e-6)
    assert together.info.evaluations == sum(s.info.evaluations for s in alone)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", METHODS)
def test_a_row_is_its_single_run(name: str, optimizer: str) -> None:
    method = METHODS[name]
    together = run(Batch([member("pixels", i) for i in range(ROWS)]), method, optimizer)
    alone = [run(member("pixels", i), method, optimizer, seed=SEED + i) for i in range(ROWS)]
    for step in range(STEPS):
        assert_rows(together[step], [single[step] for single in alone])
    pictures = together[-1].picture()
    assert not torch.equal(pictures[0], pictures[1]) and together[-1].seed == (SEED, SEED + 1, SEED + 2)


@pytest.mark.parametrize("pull", ["latent", "image"])
@pytest.mark.parametrize("kind", ["fourier", "siren", "hashgrid"])
def test_a_row_is_its_single_run_through_a_network_and_an_encoder(kind: str, pull: str) -> None:
    together = run(Batch([member(kind, i) for i in range(ROWS)]), METHODS["exact"], "adam", pull)
    alone = [run(member(kind, i), METHODS["exact"], "adam", pull, seed=SEED + i) for i in range(ROWS)]
    assert_rows(together[-1], [single[-1] for single in alone])


def test_members_may_be_of_several_kinds_and_in_any_order() -> None:
    kinds, seeds = ("siren", "pixels", "fourier"), (5, 900, 2)
    together = run(Batch([member(kind, 7) for kind in kinds]), METHODS["sdi"], "gd", "latent", seeds)
    alone = [run(member(kind, 7), METHODS["sdi"], "gd", "latent", seed)[-1] for kind, seed in zip(kinds, seeds)]  # noqa: B905
    assert_rows(together[-1], alone)


def test_one_generator_several_times_is_several_that_start_alike() -> None:
    """nn.Module keeps a parameter once, however often it stands there: rows would share it, and its gradient."""
    one = member("siren", 4)
    together = run(Batch([one, one, one]), METHODS["exact"], "adam", "latent")[-1]
    alone = [run(member("siren", 4), METHODS["exact"], "adam", "latent", seed=SEED + i)[-1] for i in range(3)]
    assert_rows(together, alone)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_planted_streams_are_found(optimizer: str) -> None:
    """One stream for all rows, or one a row but the same: not the single runs."""
    batch = Batch([member("pixels", i) for i in range(ROWS)])
    method = METHODS["exact"]
    alone = [run(member("pixels", i), method, optimizer, seed=SEED + i)[-1] for i in range(ROWS)]
    assert_rows(run(batch, method, optimizer)[-1], alone)
    with pytest.raises(AssertionError, match="row 1"):
        assert_rows(run(batch, method, optimizer, seed=[SEED] * ROWS)[-1], alone)

    class Shared(MSD):
        """The noise of all rows from row 0's stream."""

        def __call__(self, x: Tensor, denoiser: object, *, step: int, steps: int, rng: object) -> tuple:
            return super().__call__(x, denoiser, step=step, steps=steps, rng=rng[0])  # type: ignore[index, arg-type]

    with pytest.raises(AssertionError, match="row"):
        assert_rows(run(batch, Shared(method.bandwidths, method.estimator), optimizer)[-1], alone)  # type: ignore[attr-defined]


def test_one_length_of_step_for_all_members_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polyak's length is each member's own: |g|^2 of its row over |J^T g|^2 of its parameters."""
    batch, method = Batch([member("siren", i) for i in range(ROWS)]), METHODS["exact"]
    alone = [run(member("siren", i), method, "gd", "latent", seed=SEED + i)[-1] for i in range(ROWS)]
    assert_rows(run(batch, method, "gd", "latent")[-1], alone)
    monkeypatch.setattr(Batch, "groups", lambda self: {"": None, **{f"nothing.{i}.": i for i in range(ROWS)}})
    with pytest.raises(AssertionError, match="row 0"):
        assert_rows(run(batch, method, "gd", "latent")[-1], alone)


# --- the demo model ---------------------------------------------------------------------------------------------------

PROMPTS = ["a red circle on a blue background", "a green square"]


@pytest.mark.parametrize("name", ["exact", "split, inverted", "sds", "csd", "sdi"])
def test_a_row_is_its_single_run_with_the_demo_model(name: str) -> None:
    """To 1e-4 of the picture: a convolution rounds differently in a batch of another size."""
    demo = load_model()

    def distilled(generator: Generator, prompt: str | list[str], seed: int) -> Tensor:
        denoiser = demo.denoiser(prompt, cfg=3.0)
        pull = ImagePull(demo.encode, demo.decode)
        state = start(generator, steps=2, seed=seed)
        *_, last = optimize(state, METHODS[name], denoiser, pull=pull, optimizer=OptimizerConfig("gd", lr=0.1))
        return last.picture()

    def fresh(i: int) -> Generator:
        return generator_for_size("fourier", 16, 16, seed=i, hidden=8, layers=1)

    together = distilled(Batch([fresh(i) for i in range(2)]), PROMPTS, SEED)
    for i, prompt in enumerate(PROMPTS):
        alone, moved = distilled(fresh(i), prompt, SEED + i), fresh(i).render(View(16, 16)).detach()
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-4)
        assert (alone - moved).abs().max() > 1e-2, "the run did something"
    other = distilled(fresh(1), PROMPTS[0], SEED + 1)
    assert (together[1:] - other).abs().max() > 1e-3, "planted: the other row's prompt"


# --- states and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_saved_batch_goes_on_as_if_nothing_had_happened(optimizer: str, tmp_path: Path) -> None:
    whole = run(Batch([member("siren", i) for i in range(ROWS)]), METHODS["sdi"], optimizer, "latent")
    save_state(whole[1], tmp_path / "state")
    loaded = load_state(tmp_path / "state")
    assert loaded.seed == (11, 12, 13) and loaded.rng_state.shape[0] == ROWS and isinstance(loaded.generator, Batch)
    options = {"pull": PULLS["latent"], "optimizer": OPTIMIZERS[optimizer]}
    resumed = list(optimize(loaded, METHODS["sdi"], DENOISER, **options))
    assert [state.step for state in resumed] == [3, 4, 5]
    save_state(whole[-1], tmp_path / "whole"), save_state(resumed[-1], tmp_path / "resumed")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()


def test_a_batch_is_a_generator_of_its_own(tmp_path: Path) -> None:
    batch = Batch([member("siren", 0), member("pixels", 1)])
    save_generator(batch, tmp_path / "g")
    loaded = load_generator(tmp_path / "g")
    twin = make_generator("batch", **json.loads(json.dumps(batch.config())))
    for other in (loaded, twin):
        assert other.kind == "batch" and other.config() == batch.config() and other.rows == 2
        assert torch.equal(other.render(other.frame(5, 7)), batch.render(batch.frame(5, 7)))
    assert batch.canvas == Canvas(4, 3) and batch.space == "image" and "Batch(2 x siren" in repr(batch)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Batch([]), "members: got none; allowed is at least one"),
        (lambda: Batch([Pixels(3, 4), Pixels(4, 3)]), "members: are drawn on .*; allowed are single generators on one"),
        (lambda: Batch([Pixels(8, 8), Latent(4, 1, 1)]), "members: are drawn on"),
        (lambda: Batch([Points(torch.zeros(2, 2))]), "members: are drawn on"),
        (lambda: Batch([Batch([Pixels(2, 2), Pixels(2, 2)])]), "members: are drawn on"),
        (lambda: start(Batch([Pixels(2, 2)] * 2), steps=1, seed=[1]), "seed: got 1 seeds for 2 members"),
        (lambda: start(Batch([Pixels(2, 2)] * 2), steps=1, seed=[1, -1]), "seed: got -1"),
        (
            lambda: start(Batch([Pixels(2, 2)] * 2), steps=1, rng=torch.Generator()),
            "rng: got one source for 2 members of a batch, which would all draw the same",
        ),
        (
            lambda: optimize(start(Batch([Pixels(2, 2)] * 2), steps=1), METHODS["sds"], DENOISER, tolerance=0.1),
            "tolerance: got 0.1 for a batch, whose members would stop at different steps",
        ),
    ],
)
def test_wrong_input(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


# --- the randomness underneath ----------------------------------------------------------------------------------------


def test_each_row_draws_from_its_own_stream() -> None:
    def streams() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (4, 5)]

    x = torch.zeros(2, 3, 2)
    rows = [draw_normal(x[i : i + 1], stream, 4) for i, stream in enumerate(streams())]
    assert torch.equal(draw_normal(x, streams(), 4), torch.cat(rows, dim=1))
    rows = [draw_uniform(1, stream, 4) for stream in streams()]
    assert torch.equal(draw_uniform(2, streams(), 4), torch.cat(rows, dim=1))
    assert not torch.equal(draw_normal(x, streams()[0], 4), draw_normal(x, streams(), 4))
    for draw in (lambda rng: draw_normal(x, rng), lambda rng: draw_uniform(2, rng)):
        with pytest.raises(ValueError, match="rng: got 3 sources for 2 rows"):
            draw([*streams(), torch.Generator()])
        with pytest.raises(ValueError, match="rng: got None, and no noise"):
            draw(None)
