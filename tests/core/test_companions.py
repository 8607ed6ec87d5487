"""What a method needs beside the model: how it travels, how `distil` makes it, and what is refused by name."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_model import FIRE, SNOW, TinyModel
from torch import Tensor

from msd_core import (
    METHODS,
    GaussianMixture,
    GuidedDenoiser,
    Pixels,
    Source,
    State,
    distil,
    generator_for_size,
    preset_of,
    run,
    sd15_schedule,
    start,
    with_companions,
    with_levels,
)
from msd_core.companions import NEEDS, negative_of, source_of
from msd_core.denoiser import Denoiser, Sigma, level_at
from msd_core.distil import encoded_source
from msd_core.distillation.base import needs_of
from msd_core.guidance import guided, unconditional

pytestmark = pytest.mark.core
EDITS = [name for name in METHODS if "source" in needs_of(METHODS[name]())]
PICTURE = torch.rand((1, 3, 6, 6), generator=torch.Generator().manual_seed(3))


class Shades(TinyModel):
    """A model of pictures whose prompts are shades, with guidance in two parts; it writes down what it is asked for."""

    def denoiser(self, prompt: str | list[str], negative: str = "", cfg: float = 1.0) -> Denoiser:
        self.asked.append((prompt, negative, cfg))

        def towards(words: str | list[str]) -> Denoiser:
            each = [words] if isinstance(words, str) else words
            means = torch.tensor([0.1 + 0.05 * len(word) for word in each]).reshape(-1, 1, 1, 1)

            def denoise(z: Tensor, sigma: Sigma) -> Tensor:
                level = torch.as_tensor(sigma, dtype=z.dtype).reshape(-1, 1, 1, 1)
                mean = means.repeat(len(z) // len(means), 1, 1, 1)
                return mean + (z - mean) * 0.2 / (0.2 + level**2)

            return denoise

        return with_levels(GuidedDenoiser(towards(prompt), towards(negative), cfg), sd15_schedule())


class Bare(Shades):
    """The same, on pixels."""

    cell, channels = 1, 3
    encode = decode = None  # type: ignore[assignment]


def last(prompt: object = SNOW, **options: object) -> State:
    given: dict = {"model": Shades(), "generator": "pixels", "steps": 2, "source": PICTURE, "source_prompt": FIRE}
    return deque(distil(prompt, **given | options), maxlen=1)[0]  # type: ignore[arg-type]


def moved(state: State) -> Tensor:
    return state.picture() - 0.5


# --- how they travel --------------------------------------------------------------------------------------------------


def test_every_need_is_known() -> None:
    assert {need for name in METHODS for need in needs_of(METHODS[name]())} == set(NEEDS)


def test_companions_go_with_the_denoiser_through_wrappers_and_scales(mixture: GaussianMixture) -> None:
    source = Source(torch.zeros(1, 2), mixture)
    denoiser = with_companions(GuidedDenoiser(mixture, mixture, 2.0), source=source)
    both = with_levels(with_companions(denoiser, negative=mixture), sd15_schedule())
    assert source_of(both, "this") is source and negative_of(both, "this") is mixture
    other = guided(both, "this").with_cfg(5.0)
    assert source_of(other, "this") is source and other.cfg == 5.0  # type: ignore[attr-defined]
    assert level_at(both, 0.5) == level_at(other, 0.5) and denoiser.cost == 2
    z = torch.ones(3, 2, dtype=torch.float64)
    assert torch.equal(both(z, 0.3), mixture(z, 0.3))


def test_a_source_is_there_for_every_draw_of_every_row() -> None:
    source = Source(torch.tensor([[1.0], [2.0]]), lambda z, sigma: z)
    assert source.like(torch.zeros(6, 1, dtype=torch.float64)).flatten().tolist() == [1, 2, 1, 2, 1, 2]
    assert Source(torch.ones(1, 3), source.denoiser).like(torch.zeros(4, 3)).shape == (4, 3)
    for x in (torch.zeros(3, 1), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match=r"source: got shape \(2, 1\) beside x of .*Encode it as x is"):
            source.like(x)


def test_the_unconditional_part_alone(mixture: GaussianMixture) -> None:
    z = torch.ones(3, 2, dtype=torch.float64)
    pair = GuidedDenoiser(mixture, lambda z, sigma: 0.5 * z, 3.0)
    assert torch.equal(unconditional(pair, "this")(z, 0.4), 0.5 * z)

    @dataclasses.dataclass(frozen=True)
    class Whole:
        cfg: float

        def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
            return pair.with_cfg(self.cfg)(z, sigma)

        def parts(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
            return pair.parts(z, sigma)

        def with_cfg(self, cfg: float) -> Whole:
            return Whole(cfg)

    torch.testing.assert_close(unconditional(Whole(3.0), "this")(z, 0.4), 0.5 * z)
    with pytest.raises(ValueError, match="GaussianMixture has no guidance .*, and this needs it"):
        unconditional(mixture, "this")


# --- what distil makes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EDITS)
def test_the_source_is_encoded_and_asked_under_its_own_prompt(method: str) -> None:
    model = Shades()
    cfg = preset_of(method).cfg
    state = last(method=method, model=model, negative="snow")
    assert sorted(model.asked) == sorted([(FIRE, "snow", cfg), (SNOW, "snow", cfg)])
    by_hand = run(
        start(Pixels(6, 6), steps=2), preset_of(method, steps=2), Shades(), SNOW, "snow", source=PICTURE,
        source_prompt=FIRE,
    )  # fmt: skip
    assert torch.equal(state.picture(), deque(by_hand, maxlen=1)[0].picture())
    for planted in ({"source": 1 - PICTURE}, {"source_prompt": "a"}):
        assert not torch.equal(state.picture(), last(method=method, negative="snow", **planted).picture())


@pytest.mark.parametrize("method", ["dds", "pds"])
def test_nothing_moves_while_picture_and_prompt_are_the_sources(method: str) -> None:
    flat = torch.full((1, 3, 6, 6), 0.5)
    assert not moved(last(FIRE, method=method, source=flat)).any()
    assert moved(last(SNOW, method=method, source=flat)).abs().max() > 1e-4
    assert moved(last(FIRE, method=method, source=PICTURE)).abs().max() > 1e-4
    drawn = moved(last(FIRE, method=method, source=flat, pull="image"))
    assert drawn.any(), "the decoder does not give back what was encoded, and the image pull draws to what it gives"


def test_what_is_rendered_is_what_the_source_becomes() -> None:
    model = Shades()
    latent = generator_for_size("latent", 6, 6, channels=2, cell=2)
    for generator in (Pixels(6, 6), latent):
        assert torch.equal(encoded_source(generator, model, PICTURE), model.encode(PICTURE))
    assert encoded_source(Pixels(6, 6), Bare(), PICTURE) is PICTURE
    assert last(method="dds", model=Bare()).picture().shape == (1, 3, 6, 6)
    assert last(method="dds", generator="latent").picture().shape == (1, 2, 3, 3)


def test_a_source_and_a_prompt_for_each_picture() -> None:
    both = torch.cat([PICTURE, 1 - PICTURE])
    together = last([SNOW, FIRE], method="dds", source=both, source_prompt=[FIRE, "a"]).picture()
    for i, (prompt, other) in enumerate(((SNOW, FIRE), (FIRE, "a"))):
        alone = last(prompt, method="dds", source=both[i : i + 1], source_prompt=other, seed=i).picture()
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)


def test_a_prompt_by_view_has_the_same_source() -> None:
    assert torch.equal(last(lambda view: SNOW, method="dds").picture(), last(method="dds").picture())


def test_the_negative_prompt_is_asked_alone_and_guidance_is_against_the_empty_one() -> None:
    model = Shades()
    state = last(method="nfsd", model=model, negative="a grey circle", source=None, source_prompt=None)
    assert sorted(model.asked) == [("a grey circle", "", 1.0), (SNOW, "", 7.5)]
    other = last(method="nfsd", negative="a grey", source=None, source_prompt=None)
    assert not torch.equal(state.picture(), other.picture())


def test_the_mask_confines_an_edit() -> None:
    mask = torch.zeros(6, 6)
    mask[:2] = 1
    for method in EDITS:
        change = moved(last(method=method, mask=mask))
        assert not change[:, :, 2:].any() and change[:, :, :2].any()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": None}, "source: got None with the method DDS, which edits a picture; .* Pass source and"),
        ({"source_prompt": None}, "source_prompt: got None with the method DDS"),
        ({"source": None, "source_prompt": None}, "source: got None"),
        ({"method": "sds"}, "source: got one with the method SDS, which has no use for it; allowed is None there"),
        ({"method": "csd", "source": None}, "source_prompt: got one with the method CSD"),
        ({"source_prompt": lambda view: FIRE}, "source_prompt: got a function; allowed is a prompt"),
        ({"source": PICTURE[0]}, r"source: got shape \(3, 6, 6\); allowed is \(1, 3, 6, 6\), or one a picture"),
        ({"source": PICTURE[..., :4]}, r"source: got shape \(1, 3, 6, 4\); .* Resize it"),
        ({"source": PICTURE.repeat(2, 1, 1, 1)}, r"source: got shape \(2, 3, 6, 6\)"),
        ({"source": PICTURE * float("nan")}, "source"),
        (
            {"method": "nfsd", "source": None, "source_prompt": None, "negative": None},
            "negative: got None; allowed is a text",
        ),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(options: dict, words: str) -> None:
    given = {"model": Shades(), "method": "dds", "generator": "pixels", "source": PICTURE, "source_prompt": FIRE}
    with pytest.raises(ValueError, match=words):
        distil(SNOW, **given | options)


@pytest.mark.parametrize("method", [*EDITS, "nfsd"])
def test_a_denoiser_without_the_needed_part_is_refused_by_name(method: str, mixture: GaussianMixture) -> None:
    plain = with_levels(GuidedDenoiser(mixture, mixture, 2.0), sd15_schedule())
    need = needs_of(METHODS[method]())[0]
    label = METHODS[method].label
    x, rng = torch.zeros(1, 2, dtype=torch.float64), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=f"denoiser: GuidedDenoiser has no {need} beside it, and {label} needs one"):
        METHODS[method]()(x, plain, step=0, steps=2, rng=rng)


@pytest.mark.parametrize("method", ["ism", "lusd"])
def test_a_denoiser_without_guidance_is_refused_by_name(method: str, mixture: GaussianMixture) -> None:
    plain = with_companions(with_levels(mixture, sd15_schedule()), source=Source(torch.zeros(1, 2), mixture))
    x, rng = torch.zeros(1, 2, dtype=torch.float64), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=f"denoiser: GaussianMixture has no guidance .*, and {method.upper()} needs"):
        METHODS[method]()(x, plain, step=0, steps=2, rng=rng)
