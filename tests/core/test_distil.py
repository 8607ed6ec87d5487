"""The one-call door gives what the assembly by hand gives, to the last bit, and refuses what it cannot do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_model import FIRE, SNOW, TinyModel, assert_same, last

import msd_core
from msd_core import (
    MSD,
    SDS,
    Batch,
    Exact,
    ImagePull,
    LatentPull,
    Masked,
    OptimizerConfig,
    Pixels,
    Preset,
    Pull,
    Split,
    State,
    View,
    distil,
    generator_for_size,
    load_model,
    optimize,
    preset_of,
    run,
    sample,
    sd15_schedule,
    start,
    with_levels,
)
from msd_core.denoiser import Denoiser
from msd_core.distil import pull_for
from msd_core.generators.volume.volume import Volume
from msd_core.measurement import MEASUREMENTS, Observation

pytestmark = pytest.mark.core
ENDS = {"bandwidth_start": 8.0, "bandwidth_end": 0.7}
"""Lambda's, which would be the tiny model's own."""
QUICK = {"steps": 3, "solver_steps": 2, **ENDS}


def by_hand(model: TinyModel, **changes: object) -> State:
    """msd, written out with the numbers of the preset."""
    options: dict = {"cfg": 3.0, "pull": ImagePull(model.encode, model.decode), "seed": 7, "steps": 3} | changes
    generator = generator_for_size("fourier", 6, 6, seed=options["seed"], channels=2, cell=2)
    return last(
        optimize(
            start(generator, steps=options["steps"], seed=options["seed"]),
            options.get("method", MSD(estimator=Exact(steps=2))),
            model.denoiser(FIRE, "snow", options["cfg"]),
            pull=options["pull"],
            optimizer=OptimizerConfig("adam", lr=1e-2),
            inner_steps=15,
        )
    )


# --- equal to the assembly by hand ------------------------------------------------------------------------------------


def test_it_is_the_assembly_by_hand() -> None:
    model = TinyModel()
    door = last(distil(FIRE, negative="snow", seed=7, model=model, **QUICK))
    assert_same(door, by_hand(model))
    for planted in ({"cfg": 1.0}, {"seed": 8}, {"pull": LatentPull(model.encode)}, {"method": SDS()}):
        with pytest.raises(AssertionError):
            assert_same(door, by_hand(model, **planted))


def test_with_the_demo_model_too() -> None:
    demo = load_model()
    options = {"generator": "pixels", "size": (16, 32), "estimator": "split", "truncation": 2.0, **QUICK}
    door = last(distil(FIRE, pull="latent", **options))
    hand = last(
        optimize(
            start(Pixels(32, 16), steps=3, seed=0),
            MSD(estimator=Split(steps=2, truncation=2.0)),
            demo.denoiser(FIRE, "", 3.0),
            pull=LatentPull(demo.encode),
            optimizer=OptimizerConfig("adam", lr=1e-2),
            inner_steps=15,
        )
    )
    assert_same(door, hand)
    assert door.picture().shape == (1, 3, 32, 16)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("msd", {"estimator": "split", "solver_steps": 2, "steps": 3, **ENDS}),
        (MSD(estimator=Split(steps=2)), {"steps": 3}),
        (Preset(MSD(estimator=Split(steps=2)), steps=3, inner_steps=15), {}),
        (Preset(MSD(estimator=Split(steps=9)), steps=99), {"steps": 3, "inner_steps": 15, "solver_steps": 2}),
        (preset_of("msd"), {"estimator": Split(), "steps": 3, "solver_steps": 2}),
    ],
)
def test_a_method_by_name_by_object_and_in_a_preset(method: object, settings: dict) -> None:
    expected = by_hand(TinyModel(), method=MSD(estimator=Split(steps=2)))
    assert_same(last(distil(FIRE, negative="snow", method=method, seed=7, model=TinyModel(), **settings)), expected)


def test_a_generator_to_start_from() -> None:
    model = TinyModel()
    first = last(distil(FIRE, model=model, **QUICK))
    again = list(distil(SNOW, generator=first.generator, model=model, **QUICK))
    assert [state.step for state in again] == [1, 2, 3] and again[0].metadata == {}
    hand = run(start(first.generator, steps=3), preset_of("msd", **QUICK), model, SNOW)
    assert_same(again[-1], last(hand))


def test_a_run_goes_on_from_any_state() -> None:
    model, preset = TinyModel(), preset_of("sds", steps=4)
    whole = list(run(start(Pixels(6, 6), steps=4, seed=2), preset, model, FIRE))
    assert_same(last(run(whole[1], preset, model, FIRE)), whole[-1])


def test_where_it_stops() -> None:
    states = list(distil(FIRE, model=TinyModel(), min_bandwidth=1.0, **QUICK))
    assert len(states) == 2, "8 and 2.37, but not 0.7"
    assert len(list(distil(FIRE, model=TinyModel(), tolerance=1e6, **QUICK))) == 1
    assert len(list(distil(FIRE, model=TinyModel(), min_bandwidth=0, **QUICK))) == 3


# --- several pictures -------------------------------------------------------------------------------------------------


def test_a_list_of_prompts_is_a_picture_each() -> None:
    model = TinyModel()
    together = last(distil([FIRE, SNOW], seed=7, model=model, **QUICK))
    assert together.picture().shape == (2, 3, 6, 6) and together.seed == (7, 8)
    assert model.asked == [([FIRE, SNOW], "", 3.0)]
    for i, prompt in enumerate((FIRE, SNOW)):
        alone = last(distil(prompt, seed=7 + i, model=TinyModel(), **QUICK))
        torch.testing.assert_close(together.picture()[i : i + 1], alone.picture(), rtol=0, atol=1e-6)
    assert last(distil([FIRE], model=model, **QUICK)).picture().shape[0] == 1


def test_n_pictures_of_one_prompt() -> None:
    options = {"inner_steps": 1, **QUICK}
    together = last(distil(FIRE, n=3, seed=4, model=TinyModel(), **options))
    assert together.seed == (4, 5, 6) and isinstance(together.generator, Batch)
    pictures = together.picture()
    assert pictures.shape[0] == 3 and (pictures[0] - pictures[1]).abs().max() > 1e-3
    same = last(distil([FIRE] * 3, n=3, seed=4, model=TinyModel(), **options))
    torch.testing.assert_close(same.picture(), pictures, rtol=0, atol=1e-6)


def test_a_batch_to_start_from() -> None:
    batch = Batch([Pixels(6, 6), Pixels(6, 6)])
    assert last(distil([FIRE, SNOW], generator=batch, model=TinyModel(), **QUICK)).picture().shape[0] == 2
    assert last(distil(FIRE, generator=batch, model=TinyModel(), **QUICK)).seed == (0, 1)


def test_a_prompt_by_view() -> None:
    model, views = TinyModel(), []

    def prompt(view: View) -> str:
        views.append(view)
        return FIRE if len(views) % 2 else SNOW

    states = list(distil(prompt, generator="pixels", model=model, **QUICK))
    assert len(states) == 3 and views == [View(6, 6)] * 3
    assert model.asked == [(FIRE, "", 3.0), (SNOW, "", 3.0)], "prepared once each"
    always = last(distil(lambda view: FIRE, model=TinyModel(), **QUICK))
    assert_same(always, last(distil(FIRE, model=TinyModel(), **QUICK)))


def test_a_prompt_by_view_is_asked_for_each_picture() -> None:
    model, count = TinyModel(), iter(range(100))

    def prompt(view: View) -> str:
        return FIRE if next(count) % 2 == 0 else SNOW

    by_view = last(distil(prompt, n=2, model=model, **QUICK))
    assert model.asked == [([FIRE, SNOW], "", 3.0)]
    assert_same(by_view, last(distil([FIRE, SNOW], model=TinyModel(), **QUICK)))


# --- the pull ---------------------------------------------------------------------------------------------------------


def test_which_pull_it_is() -> None:
    model, picture = TinyModel(), Pixels(6, 6)
    latent = generator_for_size("latent", 6, 6, channels=2, cell=2)
    assert pull_for(picture, model, "image") == ImagePull(model.encode, model.decode)
    assert pull_for(picture, model, "latent") == LatentPull(model.encode)
    for pull in ("image", "latent"):
        assert pull_for(latent, model, pull) == Pull(), "x is the latent itself"
    masked = pull_for(picture, model, "image", torch.ones(6, 6))
    assert isinstance(masked, Masked) and masked.pull == ImagePull(model.encode, model.decode)


def test_a_model_without_an_encoder_or_one_that_is_not_differentiable() -> None:
    class Bare(TinyModel):
        encode = decode = None  # type: ignore[assignment]
        channels, cell = 3, 1

    class Frozen(TinyModel):
        differentiable = False

    assert pull_for(Pixels(6, 6), Bare(), "image") == Pull()
    assert last(distil(FIRE, model=Bare(), **QUICK)).picture().shape == (1, 3, 6, 6)
    with pytest.raises(ValueError, match="pull: got 'latent', and this model's encoder cannot be differentiated"):
        distil(FIRE, model=Frozen(), pull="latent", **QUICK)
    assert len(list(distil(FIRE, model=Frozen(), pull="image", **QUICK))) == 3


def test_a_mask_keeps_the_rest_of_the_picture() -> None:
    mask = torch.zeros(6, 6)
    mask[:3] = 1
    after = last(distil(FIRE, generator="pixels", model=TinyModel(), mask=mask, **QUICK)).picture()
    assert torch.equal(after[:, :, 3:], torch.full((1, 3, 3, 6), 0.5)) and (after[:, :, :3] != 0.5).all()


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "csm"}, "method: got 'csm'; allowed are 'msd', 'sds', 'sdi'"),
        ({"generator": "gabor"}, "generator: got 'gabor'; allowed are 'fourier'"),
        ({"estimator": "mean"}, "estimator: got 'mean'; allowed are 'naive'"),
        ({"colour": 3}, "colour: got 3; allowed are method, "),
        ({"weighting": "sigma"}, "weighting: got 'sigma' with the method 'msd'; allowed with sds"),
        ({"steps": 0}, "steps: got 0"),
        ({"cfg": float("nan")}, "cfg: got nan"),
        ({"seed": -1}, "seed: got -1"),
        ({"size": (0, 6)}, "width: got 0"),
        ({"generator": "latent", "size": (5, 6)}, "width: got 5; allowed are multiples of 2"),
        ({"generator": Pixels(6, 6), "size": (6, 6)}, "size: got .6, 6. beside a generator, which has its own"),
        ({"generator": Pixels(6, 6), "n": 2}, "n: got 2 pictures for a generator of 1; allowed is as many as it has"),
        ({"generator": Pixels(6, 6), "prompt": [FIRE, SNOW]}, "n: got 2 pictures for a generator of 1"),
        ({"n": 0}, "n: got 0"),
        ({"n": 2.0}, "n: got 2.0"),
        ({"n": 3, "prompt": [FIRE, SNOW]}, "prompt: got 2 of them with n 3; allowed is one a picture. Leave n out"),
        ({"prompt": []}, "prompt: got 0 of them with n 1"),
        ({"mask": torch.full((6, 6), 2.0)}, "mask: got shape"),
        ({"n": 2, "tolerance": 0.1}, "tolerance: got 0.1 for a batch"),
        ({"method": "sds", "min_bandwidth": 0.1}, "min_bandwidth: got 0.1 for a method without bandwidth"),
        ({"method": "sds", "lr_coupling": 0.1}, "lr_coupling: got 0.1 for a method without bandwidth"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(options: dict, words: str) -> None:
    given = {"prompt": FIRE, "model": TinyModel(), **options}
    with pytest.raises(ValueError, match=words):
        distil(given.pop("prompt"), **given)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    for model in (tmp_path / "none", str(tmp_path / "none")):
        with pytest.raises(ValueError, match="path: there is no file"):
            distil(FIRE, model=model)
    with pytest.raises(ValueError, match="kind: got 'cloud'; allowed are 'demo'"):
        load_model(kind="cloud")


@pytest.mark.parametrize("make", [lambda: distil("a dog"), lambda: distil(FIRE, negative="a dog")])
def test_words_that_the_demo_model_does_not_know(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="does not know: dog"):
        make()


class OnPixels:
    """A model whose x is the picture, of one shade."""

    cell, channels, side, differentiable = 1, 3, 8, True
    encode = decode = None

    def denoiser(self, prompt: object, negative: object = "", cfg: float = 1.0) -> Denoiser:  # noqa: ARG002
        return with_levels(lambda z, sigma: torch.full_like(z, 0.2), sd15_schedule())  # noqa: ARG005


def test_a_model_without_an_encoder_has_one_range_for_all() -> None:
    """What it samples, what is distilled from it, and what is restored by it."""
    model = OnPixels()
    options = {"generator": "pixels", "size": (8, 8), "steps": 60, "lr": 0.05, "inner_steps": 1}
    known = Observation(MEASUREMENTS["pool"](4), torch.full((1, 3, 2, 2), 0.6))
    restored = msd_core.restore(known, (8, 8), "x", model=model, steps=4, solver="proximal").picture  # type: ignore[arg-type]
    sampled = sample(model, "x").pictures  # type: ignore[arg-type]
    distilled = last(distil("x", model=model, **options)).picture()  # type: ignore[arg-type]
    for picture, shade in ((sampled, 0.2), (distilled, 0.2), (restored, 0.6)):
        assert float((picture - shade).abs().max()) < 0.05, shade


def test_an_object_takes_no_picture_of_one_side() -> None:
    volume = Volume(16, 16, views=2, rays=8, ray_samples=4)
    seen = Observation(MEASUREMENTS["pool"](4), torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="^observation: got one for a generator of the kind 'volume'"):
        distil(FIRE, generator=volume, model=TinyModel(), observation=seen)
    edit = {"method": "dds", "source": torch.rand(1, 3, 16, 16), "source_prompt": SNOW}
    with pytest.raises(ValueError, match="^source: got one for a generator of the kind 'volume'"):
        distil(FIRE, generator=volume, model=TinyModel(), **edit)
    with pytest.raises(ValueError, match="^mask: got one for a generator of the kind 'volume'"):
        distil(FIRE, generator=volume, model=TinyModel(), mask=torch.ones(16, 16))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (torch.full((1, 3, 8, 8), 255.0), r"^source: got numbers from 255 to 255; allowed are those in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), torch.nan), "^source: "),
        ("picture.png", "^source: got 'picture.png'"),
    ],
)
def test_a_source_that_is_no_picture_is_refused(source: object, words: str) -> None:
    options = {"generator": "pixels", "size": (8, 8), "method": "dds", "source_prompt": SNOW}
    with pytest.raises(ValueError, match=words):
        distil(FIRE, model=TinyModel(), source=source, **options)  # type: ignore[arg-type]


def test_a_source_of_any_type_of_numbers_is_edited() -> None:
    options = {"generator": "pixels", "size": (8, 8), "steps": 2, "method": "dds", "source_prompt": SNOW}
    source = torch.rand((1, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = [last(distil(FIRE, model=TinyModel(), source=one, **options)).picture() for one in (source, source.float())]
    assert torch.equal(*made)
