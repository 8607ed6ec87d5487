"""A volume: cameras, rays and rendering against closed forms, and each shortcut against the whole."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from msd_core.generators import View, load_generator, make_generator, render_tiles, save_generator
from msd_core.generators.volume import march as marching
from msd_core.generators.volume.camera import Camera, side_words
from msd_core.generators.volume.fields import DenseGrid, HashGrid, _gathered, trilinear
from msd_core.generators.volume.ground import solved
from msd_core.generators.volume.march import March, Rays, chord, normals, weights
from msd_core.generators.volume.occupancy import CELLS, looked, lookup, occupied, unseen
from msd_core.generators.volume.table import weighted_rows
from msd_core.generators.volume.volume import Volume
from msd_core.randomness import seeded

pytestmark = pytest.mark.core
RED, BLUE, GREY = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9), 0.5


def beam(offsets: Tensor, shift: float = 0.5) -> Rays:
    """Parallel rays along -z from z = 3, beside the centre by ``offsets`` (R,), in float64."""
    zero = torch.zeros_like(offsets)
    direction = torch.tensor([0.0, 0.0, -1.0], dtype=offsets.dtype).expand(len(offsets), 3)
    return Rays(torch.stack([offsets, zero, zero + 3], dim=1), direction, zero + shift)


def grey(density: Tensor) -> tuple[Tensor, Tensor]:
    return density, torch.full((len(density), 3), GREY, dtype=density.dtype)


def patched(place: Tensor) -> tuple[Tensor, Tensor]:
    """A ball of radius .5, red where x > .2, blue where y > .2, white where z > .2: no mirror image is alike."""
    colour = torch.stack([(place[:, 0] > 0.2), (place[:, 2] > 0.2), (place[:, 1] > 0.2)], dim=1).to(place) * 0.8 + 0.1
    return 200.0 * (place.norm(dim=1) < 0.5).to(place), colour


class Known(torch.nn.Module):
    """A field that is given."""

    def __init__(self, known) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
        super().__init__()
        self.known, self.still = known, torch.nn.Parameter(torch.zeros(()))

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        density, colour = self.known(place)
        return density + 0 * self.still, colour


def volume_of(known, **options) -> Volume:  # type: ignore[no-untyped-def] # noqa: ANN001, ANN003
    volume = Volume(48, 48, background="black", ray_samples=96, **options)
    volume.field = Known(known)
    return volume


def trained(seed: int = 0, **options: object) -> Volume:
    """With parameters that make something of everything."""
    volume = Volume(32, 24, seed=seed, **options)
    with torch.no_grad():
        for i, parameter in enumerate(volume.field.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=seeded(i)) * 0.3)
        volume.ground.copy_(torch.tensor([0.2, 0.5, 0.7]))
    return volume


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "error"), [(16, 1.2e-5), (32, 3e-6), (64, 8e-7)])
def test_a_gaussian_blob_has_its_opacity(samples: int, error: float) -> None:
    """1 - exp(-s0 s sqrt(2 pi) erf(h/(s sqrt 2)) e^(-b^2/2 s^2)) on a chord of half-length h; of second order in S."""
    s, top = 0.25, 3.0
    aside = torch.linspace(0, 0.6, 13, dtype=torch.float64)
    found = March(samples)(lambda p: grey(top * torch.exp(-p.square().sum(dim=1) / (2 * s * s))), beam(aside)).opacity
    half = (1 - aside**2).sqrt()
    length = s * math.sqrt(2 * math.pi) * torch.erf(half / (s * math.sqrt(2)))
    wanted = 1 - torch.exp(-top * length * torch.exp(-(aside**2) / (2 * s * s)))
    assert float((found - wanted).abs().max()) < error


def test_a_constant_ball_has_its_opacity_and_depth() -> None:
    density = 2.5
    aside = torch.linspace(0, 0.95, 9, dtype=torch.float64)
    long = 2 * (1 - aside**2).sqrt()
    traced = March(256)(lambda p: grey(torch.full((len(p),), density, dtype=p.dtype)), beam(aside))
    torch.testing.assert_close(traced.opacity, 1 - torch.exp(-density * long), atol=1e-12, rtol=0)
    past = 1 / density - long * torch.exp(-density * long) / (1 - torch.exp(-density * long))
    torch.testing.assert_close(traced.depth, 3 - long / 2 + past, atol=2e-5, rtol=0)
    boxed = 1 - torch.exp(-density * torch.full_like(long, 2.0))
    assert float((boxed - traced.opacity).abs().max()) > 0.1, "a box instead of the ball would be seen"


def test_what_is_in_front_hides_what_is_behind() -> None:
    """Blue of opacity .3 before an opaque red."""
    length = 2 / 64
    thin = -math.log(0.7) / length

    def layers(place: Tensor) -> tuple[Tensor, Tensor]:
        z = place[:, 2]
        front = (z > 0.25) & (z < 0.25 + length)
        density = torch.where(front, thin, torch.where(z < -0.2, 1e4, 0.0)).to(place)
        return density, torch.where(front[:, None], place.new_tensor(BLUE), place.new_tensor(RED))

    traced = March(64)(layers, beam(torch.zeros(1, dtype=torch.float64)))
    wanted = 0.3 * torch.tensor(BLUE).double() + 0.7 * torch.tensor(RED).double()
    torch.testing.assert_close(traced.colour[0], wanted, atol=1e-7, rtol=0)
    assert float(traced.opacity) == pytest.approx(1, abs=1e-12)


def test_nothing_is_infinite() -> None:
    """Opaque, empty, and missed rays: numbers, and gradients that are numbers."""
    density = torch.tensor([[1e6, 1e6, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    found = weights(density, torch.tensor([[0.1], [0.1]]))
    found.sum().backward()
    assert (
        torch.equal(found[1], torch.zeros(3))
        and float(found[0, 0].detach()) == 1
        and torch.isfinite(density.grad).all()
    )  # type: ignore[arg-type]
    near, far = chord(torch.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0, -1], [0, 0, 1]]))
    assert torch.equal(near, far), "a ray beside the ball, and one away from it"
    missed = March(8)(lambda p: grey(torch.ones(len(p))), beam(torch.tensor([1.5])))
    assert [float(part.sum()) for part in missed] == [0] * 5


def test_gradients_of_everything_that_is_seen() -> None:
    """Against finite differences, of colour, opacity, depth and its variance."""
    start = torch.rand(4, 4, generator=seeded(1), dtype=torch.float64)

    def seen(table: Tensor) -> tuple[Tensor, ...]:
        def field(place: Tensor) -> tuple[Tensor, Tensor]:
            values = torch.sin(3 * place @ table[:3]) + 1.5
            return values[:, 0] * 2, values[:, 1:] / 3

        traced = March(12)(field, beam(torch.tensor([0.1, 0.5], dtype=torch.float64)))
        return traced.colour, traced.opacity, traced.depth, traced.thickness

    assert torch.autograd.gradcheck(seen, (start.requires_grad_(),))


# --- cameras ----------------------------------------------------------------------------------------------------------


def test_a_camera_stands_where_it_says() -> None:
    assert Camera(8, 8, yaw=0, distance=2).position == pytest.approx((0, 0, 2))
    assert Camera(8, 8, yaw=90, distance=2).position == pytest.approx((2, 0, 0))
    assert Camera(8, 8, pitch=90, distance=2).position == pytest.approx((0, 2, 0))
    shifted = Camera(8, 8, yaw=37, pitch=-20, distance=3, centre=(0.1, -0.2, 0.3))
    x, y, z = (a - b for a, b in zip(shifted.position, shifted.centre, strict=True))
    assert math.degrees(math.atan2(x, z)) == pytest.approx(37) and math.degrees(math.asin(y / 3)) == pytest.approx(-20)
    assert math.hypot(x, y, z) == pytest.approx(3)


def test_rays_span_the_field_of_view() -> None:
    camera = Camera(40, 60, yaw=25, pitch=10, fov=50)
    origin, direction = camera.cast(torch.zeros(1, dtype=torch.float64))
    back = origin / origin.norm()
    right, up, _ = (torch.tensor(axis, dtype=torch.float64) for axis in camera.axes)
    first = direction[0] / -(direction[0] @ back)
    tangent = math.tan(math.radians(25))
    assert float(first @ up) == pytest.approx(tangent * (1 - 1 / 40))
    assert float(first @ right) == pytest.approx(-tangent * (60 - 1) / 40)
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(2400, dtype=torch.float64))
    part = replace(camera, window=(10, 20, 5, 7)).cast(origin)[1]
    assert torch.equal(part, direction.reshape(40, 60, 3)[10:15, 20:27].reshape(-1, 3))


@pytest.mark.parametrize(
    ("yaw", "pitch", "middle", "right", "top"),
    [(0, 0, 1, 0, 2), (90, 0, 0, None, 2), (-90, 0, None, 1, 2), (0, 89, 2, 0, None)],
)
def test_the_sides_of_an_object_are_where_they_belong(
    yaw: float, pitch: float, middle: int | None, right: int | None, top: int | None
) -> None:
    """+X is red and on the right of the front picture, +Y blue and above, +Z green and in front."""
    with torch.no_grad():
        picture = volume_of(patched).render(Camera(48, 48, yaw=yaw, pitch=pitch))[0]
    places = {"middle": (24, 24, middle), "right": (24, 34, right), "top": (13, 24, top)}
    for name, (row, column, channel) in places.items():
        bright = [i for i in range(3) if float(picture[i, row, column]) > 0.5]
        assert (channel in bright) if channel is not None else set(bright) <= {middle}, (name, bright)


def test_a_side_has_its_name() -> None:
    said = [side_words(Camera(4, 4, yaw=yaw))["view"] for yaw in (0, 44, 46, 134, 180, 226, 314, 316, -90, 720)]
    front, right, back, left = "front view", "right side view", "back view", "left side view"
    assert said == [front, front, right, right, back, left, left, front, left, front]
    assert side_words(Camera(4, 4, yaw=-90))["side"] == side_words(Camera(4, 4, yaw=90))["side"] == "side view"
    assert side_words(Camera(4, 4, pitch=70)) == {"view": "overhead view", "side": "overhead view"}


def test_cameras_of_an_iteration_surround_the_object() -> None:
    volume = Volume(16, 16, views=5, lowest=-5, highest=25, vary=0.1, shift=0.2, background="random")
    rng = seeded(0)
    seen = [volume.view(step, 50, rng) for step in range(50)]
    for cameras in seen:
        assert isinstance(cameras, list)
        assert [int(camera.yaw // 72) for camera in cameras] == [0, 1, 2, 3, 4]
    every = [camera for cameras in seen for camera in cameras]  # type: ignore[union-attr]
    pitches = [camera.pitch for camera in every]
    assert -5 <= min(pitches) < 0 and 20 < max(pitches) <= 25
    assert all(1.98 <= c.distance <= 2.42 and math.dist(c.centre, (0, 0, 0)) <= 0.2 for c in every)
    assert len({c.ground for c in every}) == len({c.jitter for c in every}) == 250
    assert Volume(16, 16, views=5).view(3, 9, seeded(4)) == Volume(16, 16, views=5).view(3, 9, seeded(4))
    assert isinstance(Volume(16, 16, views=1).view(0, 9, rng), Camera)


# --- shortcuts --------------------------------------------------------------------------------------------------------


def gradients(volume: Volume, cameras: list[Camera]) -> tuple[Tensor, list[Tensor]]:
    volume = copy.deepcopy(volume)
    picture = volume.render(cameras)
    weight = torch.randn(picture.shape, generator=seeded(5))
    return picture.detach(), list(torch.autograd.grad((picture * weight).sum(), list(volume.field.parameters())))


CAMERAS = [Camera(12, 16, yaw=yaw, pitch=5, jitter=7) for yaw in (10, 200)]


def test_pieces_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = trained()
    whole = gradients(volume, CAMERAS)
    monkeypatch.setattr(marching, "KEPT", 100)
    monkeypatch.setattr(marching, "CHUNK", 33 * volume.made.ray_samples)
    pieces = gradients(volume, CAMERAS)
    assert torch.equal(whole[0], pieces[0])
    for one, other in zip(whole[1], pieces[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_two_passes_leave_out_what_is_not_seen() -> None:
    volume = trained()
    whole = gradients(volume, CAMERAS)
    thrifty = gradients(volume, [replace(camera, thrifty=True) for camera in CAMERAS])
    assert 0 < float((whole[0] - thrifty[0]).abs().max()) < 0.05
    for one, other in zip(whole[1], thrifty[1], strict=True):
        assert float((one - other).norm() / one.norm()) < 0.1


def test_empty_cells_are_not_asked_about() -> None:
    """The same picture where what is left out is exactly empty; and one that is not, if the wrong cells are."""
    volume = volume_of(patched)
    with torch.no_grad():
        whole = volume.render(CAMERAS[0])
        volume.density.copy_(looked(unseen(), volume.field, torch.full((CELLS**3, 3), 0.5)))
        assert 0.05 < float(occupied(volume.density).float().mean()) < 0.2
        assert torch.equal(volume.render(CAMERAS[0]), whole)
        volume.density.copy_(volume.density.flip(0) * (torch.arange(CELLS) < 16))
        assert not torch.equal(volume.render(CAMERAS[0]), whole)


def test_a_cell_is_found_where_it_is() -> None:
    cells = torch.zeros(CELLS, CELLS, CELLS, dtype=torch.bool)
    cells[3, 10, 20] = True  # z, y, x
    place = (torch.tensor([[20.5, 10.5, 3.5], [3.5, 10.5, 20.5], [CELLS + 1.0, 0, 0]]) * 2 / CELLS) - 1
    assert lookup(cells, place).tolist() == [True, False, False]


def test_a_look_forgets_slowly() -> None:
    offset = torch.full((CELLS**3, 3), 0.5)
    full = looked(unseen(), lambda p: grey(torch.full((len(p),), 2.0)), offset)
    assert float(full.max()) == 2 and float(full[0, 0, 0]) == 0, "nothing is outside of the ball"
    later = looked(full, lambda p: grey(torch.zeros(len(p))), offset)
    assert float(later.max()) == pytest.approx(1.9) and occupied(unseen()).all()


@pytest.mark.parametrize("side", [2, 5, 16])
def test_gathered_corners_are_grid_sample(side: int) -> None:
    lattice = torch.randn(1, 3, side, side, side, generator=seeded(1)).requires_grad_()
    place = torch.rand(200, 3, generator=seeded(2)) * 2.2 - 1.1
    found = [f(lattice, place) for f in (trilinear, _gathered)]
    torch.testing.assert_close(*found, atol=2e-6, rtol=1e-5)
    slopes = [torch.autograd.grad(f.square().sum(), lattice)[0] for f in found]
    torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [DenseGrid, HashGrid])
def test_a_field_starts_as_a_blob(kind: type) -> None:
    field = kind(10.0, seeded(0))
    place = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0, 0, 0.9]])
    density, colour = field(place)
    assert density.tolist() == pytest.approx([10, math.log(2), 3e-4], rel=0.3, abs=0.2)
    assert density.dtype == torch.float32 and float((colour - 0.5).abs().max()) < 0.2
    twin = kind(10.0, seeded(0))
    assert all(torch.equal(a, b) for a, b in zip(field.parameters(), twin.parameters(), strict=True))


def test_the_hash_grid_tells_positions_apart() -> None:
    field = HashGrid(0.0, seeded(0))
    with torch.no_grad():
        for table in field.tables:
            table.normal_(generator=seeded(1))
    place = torch.rand(400, 3, generator=seeded(2)) * 2 - 1
    apart = torch.pdist(field.features(place))
    assert float(apart.min()) > 1e-2
    near = field.features(place + 1e-5)
    assert float((near - field.features(place)).abs().max()) < 0.02, "it is continuous"


def test_a_lookup_is_an_embedding_and_a_sum() -> None:
    """With its gradients, and the same ones with any number of threads."""
    table = torch.randn(50, 3, generator=seeded(0), dtype=torch.float64, requires_grad=True)
    rows = torch.randint(0, 50, (40, 8), generator=seeded(1))
    weight = torch.rand(40, 8, generator=seeded(2), dtype=torch.float64, requires_grad=True)
    wanted = (weight[..., None] * table[rows]).sum(dim=1)
    for numbers in (rows, rows.int()):
        torch.testing.assert_close(weighted_rows(table, numbers, weight), wanted, rtol=1e-12, atol=1e-12)
        assert torch.autograd.gradcheck(lambda t, w, r=numbers: weighted_rows(t, r, w), (table, weight))
    many, entries = torch.randint(0, 9, (50_000, 8), generator=seeded(3)), torch.zeros(9, 2, requires_grad=True)
    shares, threads = torch.rand(50_000, 8, generator=seeded(4)), torch.get_num_threads()
    found = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        found.append(torch.autograd.grad(weighted_rows(entries, many, shares).sum(), entries)[0])
    torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_coarse_levels_of_the_hash_grid_are_lattices_and_fine_ones_share_their_entries() -> None:
    """At a corner a level is the entry that the formula names."""
    field = HashGrid(0.0, seeded(0))
    for side, table in zip(field.sides, field.tables, strict=True):
        x, y, z = corner = torch.tensor([side // 2, side // 3, side - 1])
        place = (2 * corner / (side - 1) - 1)[None]
        number = x + side * y + side**2 * z if side**3 <= len(table) else None
        if number is None:
            assert len(table) == field.ENTRIES
            number = (x ^ y * field.PRIMES[1] ^ z * field.PRIMES[2]) % field.ENTRIES
        torch.testing.assert_close(field._level(side, table, place)[0], table[number], rtol=1e-3, atol=1e-9)


def test_normals_point_outward() -> None:
    place = torch.nn.functional.normalize(torch.randn(50, 3, generator=seeded(0)), dim=1) * 0.5
    found = normals(lambda p: grey(torch.sigmoid((0.5 - p.norm(dim=1)) * 20)), place)
    assert float((found * place).sum(dim=1).min()) > 0.499


# --- the ground -------------------------------------------------------------------------------------------------------


def test_the_ground_is_solved_from_what_sees_it() -> None:
    opacity = torch.tensor([[1.0, 0.0], [0.5, 0.0]]).reshape(1, 1, 2, 2)
    target = torch.tensor([[0.0, 0.8], [0.2, 0.6]]).expand(1, 3, 2, 2)
    wanted = (0.8 + 0.6 + 0.2 / 16) / (2 + 1 / 16)
    start = torch.full((3,), 0.5)
    torch.testing.assert_close(solved(start, opacity, target, 1.0), torch.full((3,), wanted))
    torch.testing.assert_close(solved(start, opacity, target, 0.2), torch.full((3,), 0.5 + 0.2 * (wanted - 0.5)))
    assert torch.equal(solved(start, torch.ones(1, 1, 2, 2), target, 1.0), start), "nobody sees it"


@pytest.mark.parametrize("background", ["white", "grey", "black", "random", "solved", "sky"])
def test_every_ground_is_behind_the_object(background: str) -> None:
    volume = Volume(8, 8, background=background)
    volume.field = Known(lambda p: grey(torch.zeros(len(p))))
    camera = volume.view(0, 9, seeded(0))[0]  # type: ignore[index]
    picture = volume.render(camera)
    known = {"white": 1.0, "grey": 0.5, "black": 0.0, "solved": 0.5}
    if background in known:
        assert torch.equal(picture, torch.full_like(picture, known[background]))
    elif background == "random":
        torch.testing.assert_close(picture[0, :, 3, 4], torch.tensor(camera.ground))
    else:
        assert torch.autograd.grad(picture.sum(), volume.sky.network[0].weight)[0].abs().sum() > 0  # type: ignore[union-attr]


# --- as a generator ---------------------------------------------------------------------------------------------------


def test_a_small_trace_is_enlarged() -> None:
    volume = trained()
    camera = Camera(64, 64, yaw=20)
    with torch.no_grad():
        small = volume.render(replace(camera, rays=16))
        own = volume.render(Camera(16, 16, yaw=20))
    wanted = torch.nn.functional.interpolate(own, (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(small, wanted)


def test_tiles_are_the_whole() -> None:
    volume = trained()
    with torch.no_grad():
        whole = volume.render(volume.frame(40, 30))
    for top, left, tile in render_tiles(volume, 40, 30, tile=16):
        assert torch.equal(tile, whole[..., top : top + tile.shape[2], left : left + tile.shape[3]])


def test_a_file_is_the_volume(tmp_path) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    volume = trained(grid="hash", background="sky", views=2, lowest=0.0)
    volume.density.fill_(1.0)
    save_generator(volume, tmp_path / "v.safetensors")
    again = load_generator(tmp_path / "v.safetensors")
    assert again.config() == volume.config() and isinstance(again, Volume) and float(again.density.mean()) == 1
    with torch.no_grad():
        assert torch.equal(again.render(again.frame(16, 16)), volume.render(View(16, 16)))
    assert make_generator("volume", **volume.config()).config() == volume.config()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"views": 0}, "views"),
        ({"distance": 1.0}, "distance"),
        ({"distance": 1.3, "shift": 0.4}, "distance"),
        ({"distance": 2.0, "vary": 0.6}, "distance"),
        ({"lowest": 40.0}, "lowest"),
        ({"background": "plaid"}, "background"),
        ({"grid": "octree"}, "grid"),
        ({"rays": 0}, "rays"),
        ({"colour": 1}, "options"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}: .*[Aa]llowed|^{named}: got .* allowed"):
        Volume(16, 16, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"distance": 0.9}, "distance"),
        ({"distance": 1.5, "centre": (0.0, 0.0, -1.0)}, "distance"),
        ({"pitch": 91.0}, "pitch"),
        ({"yaw": math.nan}, "yaw"),
        ({"fov": 0.0}, "fov"),
        ({"centre": (math.inf, 0, 0)}, "centre"),
    ],
)
def test_a_bad_camera_is_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}: got"):
        Camera(8, 8, **options)  # type: ignore[arg-type]


def test_a_batch_has_one_view_each() -> None:
    with pytest.raises(ValueError, match="views: got 4 of a volume that stands in a batch"):
        make_generator("batch", members=[Volume(8, 8), Volume(8, 8)])
    pair = make_generator("batch", members=[Volume(8, 8, views=1, seed=i) for i in range(2)])
    views = pair.view(0, 3, [seeded(1), seeded(2)])
    assert pair.render(views).shape == (2, 3, 8, 8)
