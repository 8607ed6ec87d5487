"""The demo model's figures: true drawings in the place of samples score full marks, another prompt's drawings none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from msd_core.demo import evaluate as module
from msd_core.demo.evaluate import draw_scenes, evaluate, round_trip, sample_scenes, save_sheet
from msd_core.demo.model import DemoModel
from msd_core.demo.scenes import SIDE, Scene, draw


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return DemoModel.random(0).eval().requires_grad_(False)


def drawings(roll: int):  # noqa: ANN201
    """In the place of `sample_scenes`: every scene with a true drawing of the scene ``roll`` places before it."""

    def pairs(model: DemoModel, scenes: list[Scene], **_: object) -> Iterator[tuple[Scene, Tensor]]:
        yield from zip(scenes, draw(scenes, SIDE, torch.Generator().manual_seed(9)).roll(roll, 0), strict=True)

    return pairs


def test_prompts_take_turns() -> None:
    scenes = draw_scenes(9, 0)
    assert [len(scene.things) for scene in scenes] == [1, 2, 3] * 3
    assert scenes == draw_scenes(9, 0) != draw_scenes(9, 1)
    assert [len(s.things) for s in draw_scenes(4, 0, (2, 3))] == [2, 3, 2, 3]


def test_true_drawings_have_full_marks_and_others_none(model: DemoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sample_scenes", drawings(0))
    right = evaluate(model, cfg=1.0, count=9)
    assert set(right) == {"one thing", "two things", "three things", "all", "Fréchet distance", "MMD²"}
    assert all(right["all"].values())
    monkeypatch.setattr(module, "sample_scenes", drawings(1))
    assert evaluate(model, cfg=1.0, count=9)["all"]["accepted"] == 0


def test_samples_come_with_their_scenes_and_follow_the_seed(model: DemoModel) -> None:
    scenes = draw_scenes(3, 0)
    one, other, again = (list(sample_scenes(model, scenes, cfg=2.0, steps=2, seed=s, batch=2)) for s in (0, 1, 0))
    assert [scene for scene, _ in one] == scenes
    assert all(picture.shape == (3, SIDE, SIDE) for _, picture in one)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one, again, strict=True))
    assert not torch.equal(one[0][1], other[0][1])


def test_the_round_trip_is_judged(model: DemoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert round_trip(model, 3, 0)["accepted"]["all"] == 0  # an untrained autoencoder keeps nothing
    monkeypatch.setattr(DemoModel, "encode", lambda self, picture: picture)
    monkeypatch.setattr(DemoModel, "decode", lambda self, x: x)
    assert round_trip(model, 3, 0)["accepted"]["all"] == 1


def test_a_sheet_holds_its_pictures_row_by_row(tmp_path: Path) -> None:
    pictures = [torch.full((3, 4, 4), value) for value in (0.0, 0.4, 0.8)]
    save_sheet(pictures, tmp_path / "sheet.png", columns=2, gap=2)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (14, 14)
    assert [sheet.getpixel(place)[0] for place in ((3, 3), (9, 3), (3, 9), (9, 9), (0, 0))] == [0, 102, 204, 255, 255]
