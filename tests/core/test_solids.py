"""The solid world: distances of its solids, its pictures and captions, its model's file, and its judge."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from msd_core import load_model
from msd_core.demo.grounds import COLOURS
from msd_core.demo.solids import judge as judging
from msd_core.demo.solids.judge import best_solid, inside_of, judge
from msd_core.demo.solids.model import SOLID_MODEL_PATH, VOCABULARY, SolidModel, token_ids, tokenize
from msd_core.demo.solids.shapes import SOLIDS, distance
from msd_core.demo.solids.world import (
    LEAST_CONTRAST,
    SIZES,
    Scene,
    draw,
    inside,
    random_camera,
    random_scene,
    random_view,
)
from msd_core.generators.volume.camera import Camera, side_words
from msd_core.generators.volume.volume import Volume

pytestmark = pytest.mark.core
SCENE = Scene("cube", "red", "blue", "white", "large")
CAPTION = "a large red cube with a blue back on a white background"


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solid", "volume"),
    [
        ("sphere", 4 / 3 * math.pi * 0.9**3),
        ("cube", 1.32**3),
        ("cylinder", math.pi * 0.68**2 * 1.36),
        ("cone", math.pi / 3 * 0.78**2 * 1.67),
        ("pyramid", (2 * 0.78) ** 2 * 1.67 / 3),
        ("torus", 2 * math.pi**2 * 0.64 * 0.27**2),
    ],
)
def test_a_solid_has_its_volume(solid: str, volume: float) -> None:
    at = (torch.arange(96) + 0.5) / 48 - 1
    place = torch.stack(torch.meshgrid(at, at, at, indexing="ij")[::-1], dim=-1)
    for size in (1.0, 0.5):
        found = float((distance(solid, place, size) < 0).float().mean()) * 8
        assert found == pytest.approx(volume * size**3, rel=0.04)
    largest = distance(solid, place, max(SIZES.values())) < 0
    assert not bool(largest[place.norm(dim=-1) > 0.9].any()), "well within the unit ball"


@pytest.mark.parametrize("solid", SOLIDS)
def test_a_ray_may_advance_by_the_distance(solid: str) -> None:
    """No two places differ by more in distance than they are apart."""
    one, other = (torch.rand(4000, 3, generator=rng(seed)) * 2.4 - 1.2 for seed in (0, 1))
    change = (distance(solid, one, 0.8) - distance(solid, other, 0.8)).abs()
    assert bool((change <= (one - other).norm(dim=-1) + 1e-5).all())


# --- pictures and words -----------------------------------------------------------------------------------------------


def test_the_front_is_in_front_and_the_back_behind() -> None:
    cameras = [Camera(64, 64, yaw=yaw) for yaw in (0.0, 180.0, 90.0, -90.0)]
    front, back, right, left = draw([SCENE] * 4, cameras)
    red, blue = (torch.tensor(COLOURS[name]) for name in ("red", "blue"))

    def nearest(pixel: Tensor) -> str:
        return "red" if (pixel - red).norm() < (pixel - blue).norm() else "blue"

    assert nearest(front[:, 32, 32]) == "red" and nearest(back[:, 32, 32]) == "blue"
    assert (nearest(right[:, 32, 22]), nearest(right[:, 32, 42])) == ("red", "blue"), "from the right, front is left"
    assert (nearest(left[:, 32, 22]), nearest(left[:, 32, 42])) == ("blue", "red")
    assert torch.allclose(front[:, 0, 0], back[:, 0, 0]), "the ground"


def test_what_is_drawn_is_what_is_inside() -> None:
    """Pixels of the solid's silhouette are those whose ray meets its inside."""
    camera = Camera(48, 48, yaw=33.0, pitch=15.0)
    for solid in SOLIDS:
        scene = replace(SCENE, solid=solid)
        picture = draw([scene], [camera])[0]
        ground = draw([replace(scene, size="small")], [camera])[0][:, 0, 0]
        covered = (picture - ground[:, None, None]).abs().amax(dim=0) > 0.02
        origin, direction = camera.cast(torch.zeros(()))
        at = torch.linspace(1.2, 3.2, 200)[:, None, None]
        met = inside(scene, origin + at * direction).any(dim=0).reshape(48, 48)
        assert float((covered ^ met).float().mean()) < 0.03, solid


def test_scenes_can_be_told_apart_and_views_are_named_truly() -> None:
    generator = rng(1)
    for _ in range(60):
        scene = random_scene(generator)
        assert math.dist(COLOURS[scene.front], COLOURS[scene.back]) >= LEAST_CONTRAST
        camera = random_camera(32, generator)
        said = random_view(camera, generator)
        assert said in ("", *side_words(camera).values())
        token_ids(scene.caption(said))
    drawn = [random_scene(rng(7)) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_captions_are_tokens() -> None:
    assert SCENE.caption() == CAPTION and SCENE.caption("front view") == f"{CAPTION}, front view"
    ids = token_ids(f"{CAPTION}, right side view")
    assert [VOCABULARY[i] for i in ids[1:-1]] == f"{CAPTION} right side view".split()
    assert tokenize([CAPTION, ""]).shape[0] == 2
    with pytest.raises(
        ValueError, match=r"prompt: 'a red boat' has words that the solid world does not know: boat; it"
    ):
        token_ids("a red boat")
    with pytest.raises(ValueError, match=r"prompt: 40 words; allowed are .*\. Shorten"):
        token_ids("red " * 40)


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_file_of_the_project_is_a_kind_of_model() -> None:
    model = load_model(kind="solids")
    assert isinstance(model, SolidModel) and SOLID_MODEL_PATH.stat().st_size < 12 * 10**6
    z = torch.randn(2, 4, 16, 16, generator=rng())
    named = model.denoiser([f"{CAPTION}, front view", f"{CAPTION}, back view"])(z[:1].expand(2, -1, -1, -1), 3.0)
    assert bool(named.isfinite().all()) and not torch.allclose(named[0], named[1], atol=1e-2)


def test_another_kind_of_file_is_refused_with_what_to_do(tmp_path) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    from msd_core.demo.model import DEMO_MODEL_PATH

    with pytest.raises(ValueError, match=r"msd-solid-model.*python -m msd_core.demo.solids.train"):
        load_model(DEMO_MODEL_PATH, "solids")
    with pytest.raises(ValueError, match=r"path: "):
        load_model(tmp_path / "none.safetensors", "solids")


# --- the judge --------------------------------------------------------------------------------------------------------


FEW = ("cube", "cone", "torus")
"""Judged whole in every run; the rest with `--long`."""


class Known(torch.nn.Module):
    """A scene's solid as a field, turned about the upright axis; with both halves in one colour if ``faces`` is two."""

    def __init__(self, scene: Scene, turn: float = 0.0, faces: int = 1, floater: bool = False) -> None:
        super().__init__()
        self.scene, self.turn, self.faces, self.floater = scene, turn, faces, floater

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        own = judging.turned_about(place, self.turn)
        filled = distance(self.scene.solid, own, SIZES[self.scene.size]) < 0
        if self.floater:
            filled = filled | ((place - place.new_tensor([0.0, 0.85, 0.0])).norm(dim=-1) < 0.1)
        front, back = (place.new_tensor(COLOURS[name]) for name in (self.scene.front, self.scene.back))
        colour = torch.where((place[..., 2:] > 0) | (self.faces == 2), front, back)
        return 200.0 * filled, colour


def known(scene: Scene = SCENE, **options: object) -> Volume:
    volume = Volume(48, 48, background="white", ray_samples=64)
    volume.field = Known(scene, **options)  # type: ignore[arg-type]
    return volume


@pytest.mark.parametrize(
    "solid", [solid if solid in FEW else pytest.param(solid, marks=pytest.mark.long) for solid in SOLIDS]
)
def test_a_solid_as_it_should_be_is_accepted(solid: str) -> None:
    marks = judge(known(replace(SCENE, solid=solid)), replace(SCENE, solid=solid))
    assert marks.accepted and marks.iou > 0.88 and marks.silhouettes > 0.93, marks
    assert marks.front > 0.9 and marks.back > 0.9 and marks.janus == 0 and marks.floaters == 0
    assert marks.size == pytest.approx(SIZES["large"], rel=0.03)


def test_a_turned_solid_is_found_with_its_turn() -> None:
    marks = judge(known(turn=-30.0), SCENE)
    assert marks.turn == -30.0 and marks.iou > 0.88 and marks.silhouettes > 0.93, marks


def test_planted_errors_are_seen() -> None:
    janus = judge(known(faces=2), SCENE)
    assert janus.janus == 1 and janus.back < 0.1 and not janus.accepted and janus.iou > 0.88
    other = judge(known(replace(SCENE, solid="sphere")), SCENE)
    assert other.iou < 0.85
    apart = judge(known(floater=True), SCENE)
    assert 0.01 < apart.floaters < 0.3
    swapped = judge(known(replace(SCENE, front="blue", back="red")), SCENE)
    assert swapped.front < 0.1 and swapped.back < 0.1 and not swapped.accepted


def test_nothing_has_no_marks() -> None:
    volume = known()
    volume.field = type("Empty", (torch.nn.Module,), {"forward": lambda _, p: (p[:, 0] * 0, p * 0)})()
    assert inside_of(volume) is None
    marks = judge(volume, SCENE)
    assert not marks.accepted and marks.iou == 0 and marks.janus == 1


def test_the_best_solid_is_the_one_that_is_there() -> None:
    filled = inside_of(known(replace(SCENE, solid="cylinder")))
    assert filled is not None
    found = {solid: best_solid(solid, filled > 0, 0.64)[0] for solid in SOLIDS}
    assert max(found, key=lambda solid: found[solid]) == "cylinder", found
