"""What a volume is exported as: closed meshes of known bodies, GLB files parsed byte by byte, and pictures."""

from __future__ import annotations

import io
import json
import math
import struct
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from msd_core.generators.volume.camera import Camera
from msd_core.generators.volume.files import shown_from, turntable
from msd_core.generators.volume.glb import glb_of, linear_colours
from msd_core.generators.volume.mesh import (
    Mesh,
    buried,
    buried_in,
    extract,
    largest_pieces,
    silhouette_level,
    surface,
    vertex_normals,
)
from msd_core.generators.volume.volume import Volume

pytestmark = pytest.mark.core


class Ball(torch.nn.Module):
    """A ball of radius .5 around ``centre``, soft over a tenth, red on its right half and blue on its left."""

    def __init__(self, top: float = 40.0, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        super().__init__()
        self.top, self.centre = top, torch.tensor(centre)

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        right = (place[:, :1] > 0).to(place)
        colour = torch.cat([0.9 * right + 0.1, 0 * right + 0.1, 1 - 0.9 * right], dim=1)
        distance = (place - self.centre).norm(dim=1)
        return self.top * ((0.55 - distance) / 0.1).clamp(0, 1), colour


def ball(top: float = 40.0, **options: Any) -> Volume:  # noqa: ANN401
    volume = Volume(48, 48, background="grey", ray_samples=64, **options)
    volume.field = Ball(top)
    return volume


def lattice(side: int) -> tuple[Tensor, Tensor, Tensor]:
    at = torch.linspace(-1, 1, side, dtype=torch.float64)
    z, y, x = torch.meshgrid(at, at, at, indexing="ij")
    return x, y, z


def enclosed(vertices: Tensor, faces: Tensor) -> tuple[float, float]:
    """Volume and area, by the divergence theorem: positive if the triangles turn anticlockwise from outside."""
    a, b, c = (vertices[faces[:, i]].double() for i in range(3))
    area = torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2
    return float((a * torch.linalg.cross(b, c)).sum() / 6), float(area)


def euler(vertices: Tensor, faces: Tensor) -> int:
    """V - E + F; and every edge is there twice, once in each direction."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = set(map(tuple, edges.tolist()))
    assert len(there) == len(edges) and there == set(map(tuple, edges.flip(1).tolist())), "not closed"
    return len(vertices) - len(edges) // 2 + len(faces)


@pytest.mark.parametrize(("side", "error"), [(32, 6e-3), (64, 1.5e-3)])
def test_the_surface_of_a_sphere(side: int, error: float) -> None:
    x, y, z = lattice(side)
    vertices, faces = surface(0.6 - (x * x + y * y + z * z).sqrt(), 0.0)
    vertices = vertices * (2 / (side - 1)) - 1
    volume, area = enclosed(vertices, faces)
    assert volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=error)
    assert area == pytest.approx(4 * math.pi * 0.6**2, rel=error)
    assert euler(vertices, faces) == 2
    assert float((vertices.norm(dim=1) - 0.6).abs().max()) < 2.6e-3 * (32 / side) ** 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_surface_of_a_torus_has_its_hole(axis: int) -> None:
    place = list(lattice(48))
    along = place.pop(axis)
    vertices, faces = surface(0.2 - ((place[0].hypot(place[1]) - 0.5) ** 2 + along**2).sqrt(), 0.0)
    vertices = vertices * (2 / 47) - 1
    assert euler(vertices, faces) == 0
    assert enclosed(vertices, faces)[0] == pytest.approx(2 * math.pi**2 * 0.5 * 0.2**2, rel=0.01)
    assert float(vertices[:, axis].abs().max()) < 0.201 < float(vertices[:, axis - 1].abs().max()), (
        "x, y and z in order"
    )


def test_small_pieces_are_left_out() -> None:
    x, y, z = lattice(40)
    large = 0.4 - (x * x + y * y + z * z).sqrt()
    small = 0.05 - ((x - 0.7) ** 2 + (y - 0.6) ** 2 + z * z).sqrt()
    equal = 0.4 - ((x - 0.55) ** 2 + (y - 0.55) ** 2 + (z - 0.55) ** 2).sqrt()
    assert euler(*surface(torch.maximum(large, small), 0.0)) == 4
    assert euler(*largest_pieces(*surface(torch.maximum(large, small), 0.0))) == 2
    apart = torch.maximum(0.3 - (x * x + y * y + (z + 0.6) ** 2).sqrt(), equal)
    assert euler(*largest_pieces(*surface(apart, 0.0))) == 4, "two of a size stay"


def test_how_deep_a_point_is_buried() -> None:
    """The shortest way out counts, in the lattice's cells; half of a point's own layer is before it."""
    slab = torch.ones(5, 9, 9)
    found = buried(slab)
    assert found[2, 4, 4] == 2.5 and found[0, 4, 4] == 0.5 and found[1, 4, 4] == 1.5
    pillar = torch.zeros(9, 9, 9)
    pillar[:, 4, 4] = 1.0
    assert buried(pillar)[4, 4, 4] == 0.5, "from the side"
    pillar[:, 5, 4] = pillar[:, 4, 5] = 7.0
    assert buried(pillar)[4, 4, 4] == 0.5, "and between the others"
    walls = torch.zeros(9, 9, 9)
    walls[2:7, 2:7, 2:7] = 1.0
    walls[3:6, 3:6, 3:6] = 0.0
    assert buried(walls)[4, 4, 4] == 1 and buried(walls)[1].max() == 0, "a shell has an inside, and no outside"


class Shell(torch.nn.Module):
    """Thick fog in a thin layer, thin fog within, and less still between."""

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        radius = place.norm(dim=1)
        density = 8.0 * (radius < 0.1) + 3.0 * (radius < 0.5) + 12.0 * ((radius > 0.45) & (radius < 0.5))
        return density, torch.full_like(place, 0.5)


def test_a_shell_of_fog_is_a_solid() -> None:
    """Level sets of the density are hollow; the surface is one, and encloses the ball."""
    volume = Volume(8, 8, ray_samples=128)
    volume.field = Shell()
    mesh = extract(volume, 64)
    assert euler(mesh.vertices, mesh.faces) == 2
    assert enclosed(mesh.vertices, mesh.faces)[0] == pytest.approx(4 / 3 * math.pi * 0.5**3, rel=0.05)


class Ring(torch.nn.Module):
    """A torus about the upright axis."""

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        tube = ((place[:, [0, 2]].norm(dim=1) - 0.55) ** 2 + place[:, 1] ** 2).sqrt()
        return 60.0 * (tube < 0.2), torch.full_like(place, 0.5)


def test_a_ring_keeps_its_hole() -> None:
    volume = Volume(8, 8, ray_samples=128, lowest=0, highest=60)
    volume.field = Ring()
    mesh = extract(volume, 64)
    assert euler(mesh.vertices, mesh.faces) == 0
    assert enclosed(mesh.vertices, mesh.faces)[0] == pytest.approx(2 * math.pi**2 * 0.55 * 0.2**2, rel=0.08)


class Painted(torch.nn.Module):
    """Red outside, blue within."""

    def forward(self, place: Tensor) -> tuple[Tensor, Tensor]:
        radius = place.norm(dim=1, keepdim=True)
        red, blue = (place.new_tensor(c) for c in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
        return 30.0 * (radius[:, 0] < 0.5), torch.where(radius > 0.3, red, blue)


def test_a_vertex_has_the_colour_that_is_seen() -> None:
    volume = Volume(8, 8, ray_samples=128)
    volume.field = Painted()
    colours = extract(volume, 48).colours
    assert float(colours[:, 0].min()) > 0.98 and float(colours[:, 2].max()) < 0.02


@pytest.mark.parametrize("top", [4.0, 40.0, 100.0])
def test_the_isovalue_is_that_of_the_silhouettes(top: float) -> None:
    """Soft or hard, the mesh covers what the pictures show; at a constant it would not."""
    volume = ball(top)
    tau = silhouette_level(volume, buried_in(volume, 64))
    mesh = extract(volume, 64)
    radius = float(mesh.vertices.norm(dim=1).mean())
    [(_, traced)] = volume.look([Camera(96, 96)])
    shown = float((traced.opacity > 0.5).float().mean())
    tangent = math.tan(math.asin(radius / 2.2)) / math.tan(math.radians(20))
    assert math.pi / 4 * tangent**2 == pytest.approx(shown, rel=0.05), (tau, radius)
    assert euler(mesh.vertices, mesh.faces) == 2


def test_a_mesh_has_the_field_s_colours() -> None:
    mesh = extract(ball(), 32)
    right = mesh.vertices[:, 0] > 0.05
    torch.testing.assert_close(
        mesh.colours[right], torch.tensor([1.0, 0.1, 0.1]).expand(int(right.sum()), 3), atol=5e-3, rtol=0
    )
    left = mesh.vertices[:, 0] < -0.05
    torch.testing.assert_close(
        mesh.colours[left], torch.tensor([0.1, 0.1, 1.0]).expand(int(left.sum()), 3), atol=5e-3, rtol=0
    )


def test_an_empty_volume_has_no_mesh() -> None:
    with pytest.raises(ValueError, match=r"^volume: is empty: .* allowed is an object"):
        extract(ball(0.0))
    with pytest.raises(ValueError, match=r"^level: got 50, and the innermost part of the volume has 16"):
        extract(ball(), 24, level=50.0)
    with pytest.raises(ValueError, match=r"^side: got 7"):
        extract(ball(), 7)


# --- GLB --------------------------------------------------------------------------------------------------------------


def parsed(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The document, and the arrays of its one primitive by attribute; "" are the triangles."""
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON" and size % 4 == 0
    document = json.loads(content[20 : 20 + size])
    count, kind = struct.unpack_from("<I4s", content, 20 + size)
    binary = content[28 + size :]
    assert kind == b"BIN\0" and count == len(binary) == document["buffers"][0]["byteLength"]
    primitive = document["meshes"][0]["primitives"][0]
    arrays = {}
    for name, number in {**primitive["attributes"], "": primitive["indices"]}.items():
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        part = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        dtype = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        width = {"VEC3": 3, "SCALAR": 1}[accessor["type"]]
        arrays[name] = np.frombuffer(part, dtype).reshape(-1, width)
        assert len(arrays[name]) == accessor["count"]
    return document, arrays


def test_a_glb_holds_the_mesh() -> None:
    mesh = extract(ball(), 96)
    document, arrays = parsed(glb_of(mesh))
    np.testing.assert_array_equal(arrays["POSITION"], mesh.vertices.numpy())
    np.testing.assert_array_equal(arrays[""].reshape(-1, 3), mesh.faces.numpy())
    position = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    np.testing.assert_allclose(position["max"], mesh.vertices.amax(dim=0).numpy())
    outward = (arrays["NORMAL"] * arrays["POSITION"]).sum(axis=1) / np.linalg.norm(arrays["POSITION"], axis=1)
    assert outward.min() > 0.8 and outward.mean() > 0.98
    assert document["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert "KHR_materials_unlit" in document["materials"][0]["extensions"]


def test_the_colours_of_a_glb_are_linear() -> None:
    """sRGB (.86, .12, .14) is linear (.7106, .0134, .0174)."""
    found = linear_colours(torch.tensor([[0.86, 0.12, 0.14], [0.0, 1.0, 0.03]]))
    torch.testing.assert_close(found[0], torch.tensor([0.7106, 0.0134, 0.0174]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1], torch.tensor([0.0, 1.0, 0.03 / 12.92]))
    mesh = extract(ball(), 24)
    np.testing.assert_allclose(parsed(glb_of(mesh))[1]["COLOR_0"], linear_colours(mesh.colours).numpy())


def test_a_triangle_without_area_has_a_normal() -> None:
    vertices = torch.zeros(3, 3)
    assert vertex_normals(vertices, torch.tensor([[0, 1, 2]])).tolist() == [[0, 1, 0]] * 3


def test_other_readers_open_the_glb() -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh reads GLB files: pip install trimesh")
    mesh = extract(ball(), 32)
    scene = trimesh.load(io.BytesIO(glb_of(mesh)), file_type="glb")
    (found,) = scene.geometry.values()
    assert found.is_watertight and found.is_winding_consistent and len(found.faces) == len(mesh.faces)
    assert found.volume == pytest.approx(enclosed(mesh.vertices, mesh.faces)[0], rel=1e-4)


def test_a_planted_error_in_the_mesh_is_found() -> None:
    mesh = extract(ball(), 24)
    with pytest.raises(AssertionError, match="not closed"):
        euler(mesh.vertices, mesh.faces[1:])
    turned = Mesh(mesh.vertices, mesh.faces.flip(1), mesh.colours)
    assert enclosed(turned.vertices, turned.faces)[0] < 0


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_turntable_begins_at_the_front_and_goes_over_the_right() -> None:
    frames = list(turntable(ball(), 24, 32, 4))
    assert len(frames) == 4 and frames[0].shape == (1, 3, 24, 32)
    red, blue = ([frame[0, i, 12, 16] > 0.5 for frame in frames] for i in (0, 2))
    sides = [(bool(r), bool(b)) for r, b in zip(red, blue, strict=True)]
    assert sides[1] == (True, False) and sides[3] == (False, True)


def test_depth_and_normals_of_a_ball() -> None:
    volume, camera = ball(4000.0), Camera(64, 64)
    seen = shown_from(volume, camera)
    depth = seen.depth[0, 0]
    assert float(depth[32, 32]) == pytest.approx(0.5 + 0.55 / 2, abs=0.02) and float(depth[2, 2]) == 0
    x, y, z = (2 * seen.normal[0] - 1).tolist()
    assert (x[32][32], y[32][32], z[32][32]) == pytest.approx((0, 0, 1), abs=0.15)
    assert x[32][44] > 0.3 and x[32][20] < -0.3 and y[20][32] > 0.3 and y[44][32] < -0.3
    assert (x[2][2], y[2][2], z[2][2]) == (0, 0, 1)


@pytest.mark.parametrize("name", Volume.files)
def test_every_file_opens(name: str) -> None:
    volume = Volume(16, 8, ray_samples=8)
    volume.field = Ball()
    content = volume.export(name)
    if name.endswith(".glb"):
        assert len(parsed(content)[1][""]) > 100
        return
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (192, 96)
        assert getattr(picture, "n_frames", 1) == (32 if name == "turntable.webp" else 1)


def test_an_unknown_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^name: got 'object.obj'"):
        Volume(8, 8).export("object.obj")
