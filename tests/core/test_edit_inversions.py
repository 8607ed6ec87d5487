"""`edit` by every inversion: down by its own way, with noise of the seed, or refused by name with reason and fix."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_model import FIRE, SNOW, TinyModel
from torch import Tensor

from msd_core import INVERSIONS, Denoiser, GuidedDenoiser, ddim_sample, edit, invert, sd15_schedule, with_levels
from msd_core.inversion.ancestral import AncestralStep
from msd_core.inversion.base import sampler_of
from msd_core.inversion.direct import Direct
from msd_core.inversion.negative_prompt import negative_prompt
from msd_core.inversion.resample import resample
from msd_core.regions import Regional
from msd_core.sampling import chain_levels

pytestmark = pytest.mark.core
REFUSED = ("ancestral", "null-text")
EDITING = [name for name in INVERSIONS if name not in REFUSED]
BY_DDIM = [n for n in EDITING if sampler_of(INVERSIONS[n]) == "ddim" and not hasattr(INVERSIONS[n], "descend")]
OWN_WAY = [name for name in EDITING if name not in BY_DDIM]
PICTURE = torch.rand((1, 3, 6, 6), generator=torch.Generator().manual_seed(3))
HOLE = torch.zeros(6, 6)
HOLE[:, 3:] = 1
STEPS, A, S = 12, 0.3, 0.5


class Shades(TinyModel):
    """A guided model, without an ``uncond`` of its own, whose prompts are two shades each around their mean."""

    cell, channels = 1, 3

    def encode(self, picture: Tensor) -> Tensor:
        return 2 * picture - 1

    def decode(self, x: Tensor) -> Tensor:
        return (x + 1) / 2

    def alone(self, words: str) -> Denoiser:
        """The denoiser of one prompt, in closed form: of (N(mean - A, S^2) + N(mean + A, S^2)) / 2, pixel by pixel."""
        mean = 0.2 * len(words) - 2.5

        def denoise(z: Tensor, sigma: float | Tensor) -> Tensor:
            level = torch.as_tensor(sigma, dtype=z.dtype).reshape(-1, 1, 1, 1)
            share = S**2 / (S**2 + level**2)
            side = torch.tanh(A * (z - mean) / (S**2 + level**2))
            return mean + share * (z - mean) + (1 - share) * A * side

        return denoise

    def denoiser(self, prompt: str, negative: str = "", cfg: float = 1.0) -> Denoiser:  # type: ignore[override]
        pair = GuidedDenoiser(self.alone(prompt), self.alone(negative), cfg)
        return with_levels(Regional(pair, []), sd15_schedule())


MODEL = Shades()


def by_hand(name: str, prompt: str = SNOW, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The edited picture, brought back as the inversion says, and by DDIM's steps whatever it says."""
    sigmas = chain_levels(MODEL.denoiser(FIRE), STEPS)
    kind = Direct(inversion_cfg=None) if name == "direct" else name
    rng = torch.Generator().manual_seed(seed)
    trajectory = invert(2 * PICTURE - 1, MODEL.alone(FIRE), sigmas, kind, rng)
    ends = resample(trajectory, MODEL.alone(prompt)), ddim_sample(trajectory.states[-1], MODEL.alone(prompt), sigmas)
    own, plain = (((end + 1) / 2).clamp(0, 1) for end in ends)
    return own, plain


@pytest.mark.parametrize("name", EDITING)
def test_each_goes_down_by_its_own_way(name: str) -> None:
    made, (own, plain) = edit(PICTURE, SNOW, FIRE, model=MODEL, inversion=name, steps=STEPS), by_hand(name)
    if name in OWN_WAY:
        assert torch.equal(made.picture, own)
        assert float((plain - own).abs().max()) > 1e-4, "DDIM's steps would have shown"
    else:
        torch.testing.assert_close(made.picture, own, rtol=0, atol=1e-5)
    assert float((own - PICTURE).abs().max()) > 0.01


@pytest.mark.parametrize("name", ["edit-friendly", "direct", "flow-edit", "implicit", "implicit-heun"])
@pytest.mark.parametrize("mask", [None, HOLE], ids=["whole", "mask"])
def test_the_caption_itself_brings_the_picture_back(name: str, mask: Tensor | None) -> None:
    same = edit(PICTURE, FIRE, FIRE, model=MODEL, inversion=name, steps=STEPS, mask=mask)
    torch.testing.assert_close(same.picture, PICTURE, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", EDITING)
def test_a_mask_confines_the_change(name: str) -> None:
    made = edit(PICTURE, SNOW, FIRE, model=MODEL, inversion=name, steps=STEPS, mask=HOLE, feather=1.0)
    assert torch.equal(made.picture[..., :3], PICTURE[..., :3])
    assert float((made.picture - PICTURE)[..., 3:].abs().max()) > 0.01
    whole = edit(PICTURE, SNOW, FIRE, model=MODEL, inversion=name, steps=STEPS)
    drift = float(-10 * (whole.picture - PICTURE)[..., :3].square().mean().log10())
    more = 0.5 if name == "rf-inversion" else 3.0  # which brings no picture back as it was
    assert made.kept is not None and made.kept > drift + more, "before the paste, too"


def test_noise_is_that_of_the_seed() -> None:
    for name in ("edit-friendly", "flow-edit", "rf-inversion", "uni-inv", "direct"):
        first, again, other = (
            edit(PICTURE, SNOW, FIRE, model=MODEL, inversion=name, steps=4, seed=seed).picture for seed in (5, 5, 6)
        )
        assert torch.equal(first, again)
        assert torch.equal(first, other) == (name in ("uni-inv", "direct"))
    with pytest.raises(ValueError, match="seed: got -1"):
        edit(PICTURE, SNOW, model=MODEL, seed=-1)


@pytest.mark.parametrize(("name", "up", "down"), [("uni-inv", 13, 12), ("direct", 13, 12), ("edit-friendly", 12, 12)])
def test_rows_are_counted(name: str, up: int, down: int) -> None:
    """A mask asks the caption once more on an own way down; guidance costs a row where it acts."""

    def rows(**options: object) -> int:
        return edit(PICTURE, SNOW, FIRE, model=MODEL, inversion=name, steps=STEPS, **options).evaluations

    assert rows() == up + down
    assert rows(mask=HOLE) == up + (down if name in BY_DDIM else 2 * down)
    if name == "direct":  # up at cfg 1, and corrected at cfg
        assert rows(cfg=3.0) == 12 + 2 * 12 + 2 * down
        assert rows(cfg=3.0, source_cfg=3.0) == 2 * up + 2 * down
    else:
        assert rows(cfg=3.0) == up + 2 * down
        assert rows(cfg=3.0, source_cfg=2.0) == 2 * up + 2 * down


@pytest.mark.parametrize(
    ("name", "source_cfg", "exact"),
    [
        ("direct", None, True),
        ("direct", 2.0, True),
        ("edit-friendly", 4.0, True),
        ("flow-edit", 4.0, True),
        ("edit-friendly", None, False),
        ("implicit", None, False),
    ],
)
@pytest.mark.parametrize("mask", [None, HOLE], ids=["whole", "mask"])
def test_under_guidance_the_caption_returns_where_both_ways_have_one_scale(
    name: str, source_cfg: float | None, exact: bool, mask: Tensor | None
) -> None:
    """`direct` is corrected at the scale of the way back, whatever that of the way up."""
    words = {"inversion": name, "steps": STEPS, "cfg": 4.0, "source_cfg": source_cfg, "negative": SNOW}
    same = edit(PICTURE, FIRE, FIRE, model=MODEL, mask=mask, **words)
    off = float((same.picture - PICTURE).abs().max())
    assert off < 2e-3 if exact else off > 0.02


def test_guidance_is_against_the_negative_prompt() -> None:
    """With the caption as the negative one it is negative-prompt inversion."""
    x, sigmas = 2 * PICTURE - 1, chain_levels(MODEL.denoiser(FIRE), STEPS)
    trajectory = invert(x, MODEL.alone(FIRE), sigmas, "uni-inv")
    by_hand = resample(trajectory, negative_prompt(MODEL.alone(FIRE), MODEL.alone(SNOW), 3.0))
    made = edit(PICTURE, SNOW, FIRE, model=MODEL, steps=STEPS, cfg=3.0, negative=FIRE)
    torch.testing.assert_close(made.picture, ((by_hand + 1) / 2).clamp(0, 1), rtol=0, atol=1e-5)
    other = edit(PICTURE, SNOW, FIRE, model=MODEL, steps=STEPS, cfg=3.0)
    assert float((other.picture - made.picture).abs().max()) > 0.02


@pytest.mark.parametrize("source", ["", FIRE], ids=["unsaid", "known"])
def test_a_lower_climb_changes_less(source: str) -> None:
    """At the same density of steps, so that what differs is the height alone."""
    climbs, gentle = ((4, 0.2), (8, 0.4), (16, 0.8)), {} if source else {"strength": 0.01}
    made = [edit(PICTURE, SNOW, source, model=MODEL, steps=s, denoise=d, **gentle).picture for s, d in climbs]
    changed = [float((one - PICTURE).abs().mean()) for one in made]
    assert 0.01 < changed[0] < 0.9 * changed[1] and changed[1] < changed[2]


def test_strength_is_of_the_whole_chain_wherever_the_climb_ends() -> None:
    """Words act below sigma = 2 alone, which half of the chain holds: the weight a step is that of 24 steps, not 12."""

    def made(steps: int, denoise: float, strength: float) -> Tensor:
        return edit(PICTURE, SNOW, model=MODEL, steps=steps, denoise=denoise, strength=strength).picture

    whole, part, twice = made(24, 1.0, 0.01), made(12, 0.5, 0.01), made(12, 0.5, 0.02)
    assert 0.01 < float((part - PICTURE).abs().mean())
    assert float((whole - part).abs().mean()) < 0.25 * float((whole - twice).abs().mean())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cfg": 3.0}, "cfg: got 3.0 without a source; allowed is 1 there"),
        ({"source_cfg": 1.0}, "source_cfg: got 1.0 without a source; allowed is none there"),
        ({"source": FIRE, "cfg": math.nan}, "cfg: got nan"),
        ({"source": FIRE, "source_cfg": math.inf}, "source_cfg: got inf"),
        ({"denoise": 0.0}, "denoise: got 0.0"),
        ({"denoise": 1.5}, "denoise: got 1.5"),
        ({"negative": 3}, "negative: got 3"),
    ],
)
def test_wrong_numbers_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(told)):
        edit(PICTURE, SNOW, model=MODEL, steps=2, **options)


@pytest.mark.parametrize("source", ["", FIRE], ids=["unsaid", "known"])
def test_what_cannot_edit_is_refused_by_name(source: str) -> None:
    allowed = ", ".join(map(repr, EDITING if source else BY_DDIM))
    refused = {
        "ancestral": "adds noise that no way back takes out again",
        "null-text": "is for a way back with guidance, and that of an edit has none",
    }
    if not source:
        own = "goes back by steps of its own, and one towards a prompt, without a source, is DDIM's"
        refused |= dict.fromkeys(OWN_WAY, own)
    for name, reason in refused.items():
        with pytest.raises(ValueError) as error:
            edit(PICTURE, SNOW, source, model=MODEL, inversion=name, steps=2)
        assert str(error.value).startswith(f"inversion: got {name!r}, which {reason}; allowed are {allowed}. ")
        assert "'uni-inv'" in str(error.value).rpartition("; allowed")[2]
    for name in BY_DDIM if not source else ():
        assert edit(PICTURE, SNOW, model=MODEL, inversion=name, steps=2).picture.shape == PICTURE.shape
    with pytest.raises(ValueError, match="inversion: got 'no'; allowed are 'explicit'"):
        edit(PICTURE, SNOW, source, model=MODEL, inversion="no")


def test_an_ancestral_step_without_noise_is_the_explicit_one() -> None:
    quiet, explicit = (
        edit(PICTURE, SNOW, model=MODEL, inversion=kind, steps=4).picture for kind in (AncestralStep(eta=0), "explicit")
    )
    assert torch.equal(quiet, explicit)
