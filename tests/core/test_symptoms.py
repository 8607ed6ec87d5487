"""Warnings of a run: what is told of histories whose shifts are known, of planted destroyed runs, and of sound ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from msd_core import Batch, Latent, Pixels, State, distil, generator_for_size, load_model, preset_of, start
from msd_core.info import Info
from msd_core.preset import Preset
from msd_core.symptoms import BOUND, CLIPPED, COARSE, FLAT, GUIDED, SHIFT, symptoms_of, warning_of

pytestmark = pytest.mark.core
PRESET = preset_of("msd")
PROMPT = "a red boat left of a yellow house at sea"


def painted(value: torch.Tensor) -> Pixels:
    """The picture (1, 3, H, W) as a generator."""
    pixels = Pixels(*value.shape[-2:])
    with torch.no_grad():
        next(iter(pixels.parameters())).copy_(value)
    return pixels


def grey(deviation: float = 0.1) -> torch.Tensor:
    return 0.5 + deviation * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)


def state_of(shifts: Sequence[float], bandwidth: float | None = 0.7, picture: torch.Tensor | None = None) -> State:
    """A run whose |m| per root dimension were ``shifts``, under a bandwidth that ended at ``bandwidth``."""
    drawn = painted(grey() if picture is None else picture)
    history = tuple(Info(18, rms * 32, rms, bandwidth, bandwidth) for rms in shifts)
    return replace(start(drawn, steps=len(shifts)), step=len(shifts), history=history)


def test_the_symptoms_are_those_of_the_history() -> None:
    clipped = grey()
    clipped[..., :4] = 1.0
    found = symptoms_of(state_of([6.0, 2.0, 0.4], 1.4, clipped), data_std=2.0)
    assert (found.shift, found.largest, found.bandwidth) == (0.2, 3.0, 0.7)
    assert found.clipped == pytest.approx(0.25) and 0.1 < found.deviation < 0.4
    bare = symptoms_of(state_of([6.0], None))
    assert bare.shift is None and bare.largest == 0.0


@pytest.mark.parametrize("unit", [0.5, 1.0, 8.0])
def test_the_unit_of_the_latent_does_not_matter(unit: float) -> None:
    for shift in (0.5 * SHIFT, 2 * SHIFT):
        told = [warning_of(state_of([1.5 * c, shift * c], 0.7 * c), PRESET, c) for c in (1.0, unit)]
        assert told[0] == told[1]


def test_a_finished_picture_is_not_warned_of() -> None:
    assert warning_of(state_of([1.6, 0.3, 0.99 * SHIFT]), PRESET) == ""
    assert warning_of(state_of([1.6, 0.3, SHIFT]), PRESET) != ""
    white = torch.ones(1, 3, 16, 16)
    white[..., :4, :4] = 0.2
    assert warning_of(state_of([1.6, 0.1], picture=white), PRESET) == "", "a white ground is no fault"


def test_the_likely_cause() -> None:
    """Each by its own sign, where the others are absent."""
    plain = [1.6, 2 * SHIFT]
    sides = torch.zeros(1, 3, 16, 16)
    sides[..., 8:] = 1.0
    cases = {
        "so the learning rate 0.01 is too high: divide it by 5": state_of(plain, picture=sides),
        "so the guidance is too strong: lower cfg from 3": state_of([1.01 * GUIDED, *plain]),
        "the bandwidth stopped at λ 8 deviations": state_of(plain, 8.0),
        "raise steps (20), inner_steps (15) or the learning rate (0.01)": state_of(plain),
    }
    for cause, state in cases.items():
        told = warning_of(state, PRESET)
        assert cause in told and "\n" not in told and f"{2 * SHIFT:.2f} deviations of the data" in told
        assert sum(other in told for other in cases) == 1
    assert CLIPPED <= 1.0 and COARSE < 8.0


def test_cfg_is_not_named_where_it_is_not_asked() -> None:
    """A guider with a rule of its own has a scale of its own."""
    for state in (state_of([1.01 * GUIDED, 0.9]), state_of([1.0], None, grey(0.5 * FLAT))):
        told = warning_of(state, PRESET, own_guidance=True)
        assert "guidance" in told and "cfg" not in told
        assert "cfg" in warning_of(state, PRESET)


def test_a_method_without_kernel_is_warned_of_for_one_colour_alone() -> None:
    preset = preset_of("sds")
    assert warning_of(state_of([50.0, 40.0], None), preset) == ""
    told = warning_of(state_of([50.0, 40.0], None, torch.full((1, 3, 16, 16), 0.7)), preset)
    assert told.startswith("the picture has one colour, so the learning rate")
    assert warning_of(state_of([5.0], None, grey(2 * FLAT)), preset) == ""


def test_a_latent_and_a_batch() -> None:
    latent = replace(state_of([1.6, 2 * SHIFT]), generator=Latent(4, 4, 4, seed=1))
    found = symptoms_of(latent)
    assert found.clipped == 0.0 and math.isinf(found.deviation) and "raise steps" in warning_of(latent, PRESET)
    one = state_of([1.6, 2 * SHIFT])
    both = replace(one, generator=Batch([one.generator, one.generator]))
    assert warning_of(both, PRESET) == warning_of(one, PRESET)


def test_a_generator_that_cannot_draw_every_picture_is_left_with_a_shift() -> None:
    """Cells, shapes, what repeats itself: .46, .1 and .67 at a picture that is finished (docs/presets.md)."""
    bound = [
        generator_for_size("pixel-art", 32, 32, cells=8),
        generator_for_size("vector", 32, 32, paths=4),
        generator_for_size("fourier", 32, 32, tile="xy"),
        generator_for_size("fourier", 32, 32, symmetry="kaleidoscope"),
        generator_for_size("sticker", 32, 32),
    ]
    free = [generator_for_size(kind, 32, 32) for kind in ("fourier", "siren", "hashgrid", "pixels", "latent")]
    for generators, most in ((bound, BOUND), (free, SHIFT)):
        for generator in generators:
            below, above = (replace(state_of([1.6, most * c]), generator=generator) for c in (0.99, 1.01))
            assert warning_of(below, PRESET) == "" != warning_of(above, PRESET)
    masked = state_of([1.6, 2 * SHIFT])
    assert warning_of(masked, PRESET, confined=True) == "" != warning_of(masked, PRESET)
    assert not Batch([bound[2], bound[2]]).universal and Batch([free[3], free[3]]).universal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((start(Pixels(4, 4), steps=2), PRESET), "info: no iteration is done yet"),
        (("state", PRESET), "state: got 'state'"),
        ((state_of([1.0]), PRESET, 0.0), "data_std: got 0.0"),
    ],
)
def test_wrong_input(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        warning_of(*arguments)


def told_of(**settings: object) -> tuple[str, State]:
    """What is told of a run of the demo model."""
    state = None
    for state in distil(PROMPT, model=load_model(), seed=1, **settings):  # noqa: B007 - the last is asked for
        pass
    assert state is not None
    return warning_of(state, Preset()), state


def test_a_sound_run_of_the_demo_model_is_not_warned_of() -> None:
    told, state = told_of(preset="fast", generator="pixels", solver_steps=4)
    assert told == "" and symptoms_of(state).shift < 0.5 * SHIFT


DESTROYED = [
    ("so the learning rate", {"lr": 0.5, "steps": 4, "inner_steps": 15}),
    ("too strong: lower cfg", {"cfg": 40.0, "steps": 5, "inner_steps": 5}),
    ("has not reached its targets", {"steps": 2, "inner_steps": 2}),
    ("has not reached its targets", {"lr": 1e-6, "inner_steps": 2}),
]


@pytest.mark.parametrize(("cause", "settings"), DESTROYED)
def test_planted_destroyed_runs_of_the_demo_model(cause: str, settings: dict) -> None:
    told, _ = told_of(**{"preset": "fast", "solver_steps": 1, **settings})
    assert cause in told
