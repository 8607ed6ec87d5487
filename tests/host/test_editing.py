"""Edit from the PICTURE's own prompt, inside the host: what the core gives headless, and what does not go together."""

from __future__ import annotations

import re

import pytest
import torch
from boat import AFTER, BEFORE, HOLE, PICTURE, image_of, psnr
from comfy.samplers import CFGGuider
from msd_pack.msd_core import edit, load_model
from msd_pack.msd_core.demo.model import DemoModel
from msd_pack.nodes.demo_model import clip_of, model_of, vae_of
from msd_pack.nodes.editing import Edit


@pytest.fixture(scope="module")
def demo() -> DemoModel:
    model = load_model()
    assert isinstance(model, DemoModel)
    return model


@pytest.fixture(scope="module")
def prompts(demo: DemoModel) -> dict[str, list]:
    """Conditionings by their words."""
    with torch.inference_mode():
        clip = clip_of(demo)
        return {words: clip.encode_from_tokens_scheduled(clip.tokenize(words)) for words in (BEFORE, AFTER, "")}


@pytest.fixture(scope="module")
def sockets(demo: DemoModel, prompts: dict[str, list]) -> dict:
    with torch.inference_mode():
        return {"model": model_of(demo), "vae": vae_of(demo), "positive": prompts[AFTER], "negative": prompts[""]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cfg": 3.0},
        {"cfg": 3.0, "source_cfg": 2.0, "inversion": "flow-edit", "denoise": 0.8, "seed": 5},
        {"cfg": 3.0, "inversion": "direct"},
        {"inversion": "edit-friendly", "seed": 5},
    ],
)
def test_it_is_the_core_s(options: dict, demo: DemoModel, prompts: dict[str, list], sockets: dict) -> None:
    """By sockets, and by a guider, whose cfg is that of the way back."""
    headless = edit(PICTURE, AFTER, BEFORE, model=demo, steps=5, mask=HOLE[0], **options).picture
    told = {"steps": 5, "strength": 0.2, "mask": HOLE, "source_positive": prompts[BEFORE], **options}
    guider = CFGGuider(sockets["model"])
    guider.set_conds(sockets["positive"], sockets["negative"])
    guider.set_cfg(options.get("cfg", 1.0))
    with torch.inference_mode():
        image, _ = Edit.execute(image_of(PICTURE), **told, **sockets).args
        again, _ = Edit.execute(image_of(PICTURE), **(told | {"cfg": 9.0}), vae=sockets["vae"], guider=guider).args
    unsaid = edit(PICTURE, AFTER, model=demo, steps=5, mask=HOLE[0]).picture
    assert psnr(image, image_of(headless)) > max(30, psnr(image_of(unsaid), image_of(headless)) + 5)
    assert torch.equal(again, image)
    assert list(guider.original_conds) == ["positive", "negative"], "the guider is left as it was"


def test_a_batch_has_noise_of_its_own(prompts: dict[str, list], sockets: dict) -> None:
    told = {"steps": 3, "strength": 0.2, "source_positive": prompts[BEFORE], "inversion": "flow-edit"}
    with torch.inference_mode():
        both, _ = Edit.execute(image_of(PICTURE).repeat(2, 1, 1, 1), seed=3, **told, **sockets).args
        second, _ = Edit.execute(image_of(PICTURE), seed=4, **told, **sockets).args
    assert psnr(both[1:], second) > 60 > psnr(both[:1], second)


def test_without_guidance_no_negative_side_is_needed(prompts: dict[str, list], sockets: dict) -> None:
    told = {"steps": 2, "strength": 0.2, "source_positive": prompts[BEFORE], **sockets}
    with torch.inference_mode():
        with_it, without = (
            Edit.execute(image_of(PICTURE), **(told | {"negative": negative})).args[0]
            for negative in (sockets["negative"], None)
        )
    assert torch.equal(with_it, without)
    with pytest.raises(ValueError, match=r"^negative: not connected"), torch.inference_mode():
        Edit.execute(image_of(PICTURE), **(told | {"negative": None, "cfg": 2.0}))
    with pytest.raises(ValueError, match=r"^source_cfg: got 2 without a negative"), torch.inference_mode():
        Edit.execute(image_of(PICTURE), **(told | {"negative": None, "source_cfg": 2.0}))


@pytest.mark.parametrize(
    ("inversion", "mask"),
    [
        ("", None),
        ("uni-inv", HOLE),
        ("direct", None),
        ("edit-friendly", HOLE),
        ("flow-edit", None),
        ("rf-solver", HOLE),
    ],
)
def test_the_bar_ends_with_the_work(
    inversion: str, mask: torch.Tensor | None, prompts: dict[str, list], sockets: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of inversions with a fixed cost, and of an edit without the picture's own prompt."""
    totals, done = [], []

    class Bar:
        def __init__(self, total: int) -> None:
            totals.append(total)

        def update(self) -> None:
            done.append(1)

    monkeypatch.setattr("msd_pack.nodes.existing.Progress", Bar)
    told = {"inversion": inversion, "source_positive": prompts[BEFORE]} if inversion else {}
    with torch.inference_mode():
        Edit.execute(image_of(PICTURE), steps=4, strength=0.2, mask=mask, **told, **sockets)
    assert totals[0] - 3 <= len(done) <= totals[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cfg": 2.0}, "cfg: got 2 without source_positive; allowed is 1 there"),
        ({"source_cfg": 2.0}, "source_cfg: got 2 without source_positive; allowed is 1 there"),
        ({"inversion": "flow-edit"}, "inversion: got 'flow-edit', which goes back by steps of its own"),
        ({"inversion": "null-text"}, "inversion: got 'null-text'; allowed are 'explicit'"),
        ({"source_positive": []}, "source_positive: "),
        ({"denoise": 2.0}, "denoise: got 2.0; allowed is a number above 0 up to 1"),
    ],
)
def test_what_does_not_go_together_is_named(options: dict, told: str, sockets: dict) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(told)), torch.inference_mode():
        Edit.execute(image_of(PICTURE), steps=2, strength=0.2, **sockets, **options)
