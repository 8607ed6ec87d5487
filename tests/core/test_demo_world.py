"""The illustrated world: its grammar, its silhouettes and its painter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msd_core.demo.grammar import GROUPS, MIN_CONTRAST, RADII, RELATIONS
from msd_core.demo.grounds import COLOURS, GROUND_COLOURS, GROUNDS, PLAIN, contrast, ground_picture
from msd_core.demo.scenes import THINGS, Scene, Thing, caption, coverage, draw, parse, random_scene
from msd_core.demo.silhouettes import distance_field, profile, signed_distance


def scenes(count: int, seed: int = 0) -> list[Scene]:
    generator = torch.Generator().manual_seed(seed)
    return [random_scene(generator) for _ in range(count)]


def test_captions_are_read_back() -> None:
    some = scenes(300)
    assert {len(scene.things) for scene in some} == {1, 2, 3}
    for scene in some:
        assert parse(caption(scene)) == scene
        assert parse(caption(scene, say_medium=True, say_flat=True)) == scene


@pytest.mark.parametrize(
    "text, scene",
    [
        ("a red circle on a blue background", Scene((Thing("red", "circle"),), ground="blue")),
        (
            "a small yellow star left of a green square",
            Scene((Thing("yellow", "star", "small"), Thing("green", "square")), relation="left of"),
        ),
        ("A large red cross, at the top.", Scene((Thing("red", "cross", "large"),), "at the top")),
        (
            "a red cat on a blue house in the snow, outlined",
            Scene((Thing("red", "cat"), Thing("blue", "house")), "", "on", "in the snow", "outlined"),
        ),
        (
            "a red sun above a blue boat and a green fir at sea",
            Scene((Thing("red", "sun"), Thing("blue", "boat"), Thing("green", "fir")), "", "above", "at sea"),
        ),
    ],
)
def test_captions_say_what_they_say(text: str, scene: Scene) -> None:
    assert parse(text) == scene


@pytest.mark.parametrize(
    "text",
    [
        *("", "a red dog", "red circle", "a huge red circle", "a red circle left of", "a cat on a mat"),
        *("a red sun between a blue boat", "a red sun left of a blue boat and a green fir", "a red cat at the night"),
    ],
)
def test_text_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="caption: .*things circle"):
        parse(text)


def test_random_scenes_cover_the_world_and_can_be_seen() -> None:
    some = scenes(1500, seed=2)
    assert {t.shape for s in some for t in s.things} == set(THINGS)
    assert {t.colour for s in some for t in s.things} == set(COLOURS)
    assert {s.ground for s in some} == set(GROUNDS)
    assert {s.relation for s in some} == {"", *RELATIONS, *GROUPS}
    assert all(contrast(t.colour, s.ground) >= MIN_CONTRAST for s in some for t in s.things)
    assert all(len({t.colour for t in s.things}) == len(s.things) for s in some)


@pytest.mark.parametrize(
    "shape, area", [("circle", torch.pi), ("square", 1.68**2), ("diamond", 2 * 1.1 * 0.74), ("triangle", 1.84)]
)
def test_shapes_cover_their_area(shape: str, area: float) -> None:
    half, radius = torch.full((1,), 0.5), torch.full((1,), 0.25)
    covered = float(coverage(shape, half, half, radius, 256).sum()) / 64**2
    assert covered == pytest.approx(area, rel=5e-3)


@pytest.mark.parametrize("thing", THINGS)
def test_a_painted_thing_covers_its_silhouette(thing: str) -> None:
    """The distance fields that things are painted from agree with the exact distances."""
    picture = draw([Scene((Thing("red", thing, "large"),), ground="black")], 96)[0]
    changed = (picture - ground_picture("black", 96)).abs().amax(dim=0) > 0.04
    place = [torch.tensor([v]) for v in (0.5, 0.5, RADII[1]["large"])]
    covered = coverage(thing, *place, 96)[0]
    assert bool((changed | (covered < 0.9) | (covered > 2)).logical_not().sum() <= 0.12 * covered.sum())  # dark accents
    assert not bool((changed & (covered < 1e-3)).any())


@pytest.mark.parametrize("thing", THINGS)
def test_distances_are_distances(thing: str) -> None:
    """A signed distance changes by no more than the way gone, and near an outline by just as much."""
    field = distance_field(thing)
    step = 2 * 1.3 / field.shape[-1]
    assert max(float(field.diff(dim=dim).abs().max()) for dim in (1, 2)) < 1.001 * step
    slope = torch.stack(torch.gradient(field, spacing=step, dim=(1, 2))).norm(dim=0)
    for one, distance in zip(slope, field, strict=True):
        assert float((one[distance.abs() < 0.03] > 0.97).float().mean()) > 0.7


def test_things_fit_their_square_and_differ() -> None:
    axis = (torch.arange(64) + 0.5) / 32 - 1
    y, x = torch.meshgrid(1.3 * axis, 1.3 * axis, indexing="ij")
    masks = {thing: signed_distance(thing, x, y) < 0 for thing in THINGS}
    for thing, mask in masks.items():
        assert not bool((mask & ((x.abs() > 1.16) | (y.abs() > 1.16))).any()), thing
        assert float(mask.float().mean()) > 0.1, thing
    names = list(masks)
    for i, one in enumerate(names):
        for other in names[:i]:
            union = (masks[one] | masks[other]).sum()
            assert float((masks[one] & masks[other]).sum() / union) < 0.87, (one, other)


def test_drawing_a_batch_is_drawing_one_by_one() -> None:
    some = scenes(16)
    together = draw(some, 48)
    for i, scene in enumerate(some):
        assert torch.equal(together[i], draw([scene], 48)[0])


def at(picture: Tensor, x: float, y: float) -> Tensor:
    side = picture.shape[-1]
    return picture[:, int(y * side), int(x * side)]


def close(value: Tensor, colour: tuple[float, float, float]) -> bool:
    return torch.allclose(value, torch.tensor(colour), atol=2e-3)


def test_drawing_follows_the_caption() -> None:
    picture = draw([parse("a red square left of a small blue circle on a white background")])[0]
    assert close(at(picture, 0.02, 0.02), GROUND_COLOURS["white"])
    assert close(at(picture, 0.25, 0.5), COLOURS["red"])
    assert close(at(picture, 0.75, 0.5), COLOURS["blue"])
    assert close(at(draw([parse("a red circle")])[0], 0.02, 0.02), PLAIN)


def test_what_stands_in_front_hides() -> None:
    picture = draw([parse("a red circle in front of a blue square")])[0]
    assert close(at(picture, 0.49, 0.51), COLOURS["red"])
    picture = draw([parse("a blue square in front of a red circle")])[0]
    assert close(at(picture, 0.49, 0.51), COLOURS["blue"])


@pytest.mark.parametrize("upper", THINGS)
def test_what_is_on_something_touches_it(upper: str) -> None:
    """Also with jitter: touching things move as one."""
    scene = parse(f"a red {upper} on a blue square")
    (_, y, r), (_, y2, r2) = scene.layout()
    gap = y2 + profile("square")[0] * r2 - (y + profile(upper)[1] * r)
    assert -0.02 < gap < 0
    for seed in range(3):
        picture = draw([scene], 128, torch.Generator().manual_seed(seed))[0]
        ground = (picture - torch.tensor(PLAIN)[:, None, None]).abs().amax(dim=0) < 0.01
        rows = (~ground).any(dim=1).nonzero()
        assert int(rows.max() - rows.min()) + 1 - len(rows) <= 2, (upper, seed)  # no empty rows between the two


def test_outlines_are_ink_and_only_outlined_scenes_have_them() -> None:
    flat, outlined = draw([parse("a red circle"), parse("a red circle, outlined")])
    edge = 0.5 - RADII[1]["medium"]
    assert at(outlined, edge, 0.5).mean() < 0.3
    assert torch.equal(at(flat, 0.5, 0.5), at(outlined, 0.5, 0.5))
    assert at(flat, edge + 0.01, 0.5)[0] > 0.7


def test_a_thing_left_out_keeps_the_place_of_the_other() -> None:
    scene = parse("a red circle left of a blue square")
    whole, without = draw([scene, scene], 64, left_out=[None, 0])
    assert torch.equal(whole[:, :, 40:], without[:, :, 40:])
    assert close(at(without, 0.25, 0.5), PLAIN)


def test_jitter_is_seeded_and_small() -> None:
    scene = [parse("a red circle")]
    one, two, same = (draw(scene, 64, torch.Generator().manual_seed(s)) for s in (1, 2, 1))
    assert torch.equal(one, same) and not torch.equal(one, two)
    assert close(at(one[0], 0.5, 0.5), COLOURS["red"])
