"""A closed surface of a volume: marching tetrahedra, on how deep a point is buried, at the depth of the silhouettes.

    b(p) = min over 26 directions d of the optical depth along d from p to the outside

A density has neither a scale nor an inside: what an object is made of stays thin where nothing is seen of it, and its
level sets are hollow. b grows inwards whatever the density does, and is the same for a thin shell and for a solid. Each
cell of a lattice of S^3 points is cut into the six tetrahedra around its main diagonal; where an edge crosses the
isovalue tau it gets a vertex, by linear interpolation, and a tetrahedron one or two triangles (Doi & Koide 1991). There
are no ambiguous cases, so the surface has no holes. Triangles turn anticlockwise as seen from outside.

tau is not a constant: bisected until as many pixels, over six views, have a b above it on their ray as have an opacity
above one half. A vertex has the colour that is seen there along its normal from outside.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ...validation import check_count, check_number
from .camera import Camera
from .march import Field, chord, weights
from .volume import Volume

SIDE = 96
"""Points a side of the lattice."""
LEAST_SHARE = 0.02
"""Of all triangles, that a separate piece has to have to be kept."""
SHOWN, STEPS = 48, 20
"""Pixels a side of a silhouette, and bisections."""
LOOKED, LENGTH = 16, 0.3
"""Samples, and the length in radii of the ball, of the way inwards along which a vertex's colour is seen."""
_TETRAHEDRA = ((0, 1, 3, 7), (0, 3, 2, 7), (0, 2, 6, 7), (0, 6, 4, 7), (0, 4, 5, 7), (0, 5, 1, 7))
"""Corners of a cell by number x + 2 y + 4 z; each tetrahedron is right-handed."""
_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
_FACES: dict[int, tuple[int, ...]] = {
    0b0001: (0, 1, 2), 0b0010: (0, 4, 3), 0b0100: (1, 3, 5), 0b1000: (2, 5, 4),
    0b0011: (1, 2, 4, 1, 4, 3), 0b0101: (0, 3, 5, 0, 5, 2), 0b1001: (0, 1, 5, 0, 5, 4),
}  # fmt: skip
"""By which of its corners are inside, edges of the triangles of a tetrahedron; of the other half, turned around."""


class Mesh(NamedTuple):
    """Vertices (N, 3), triangles (M, 3) of their numbers, and RGB (N, 3) in [0, 1], as pictures show it."""

    vertices: Tensor
    faces: Tensor
    colours: Tensor


@torch.no_grad()
def extract(
    volume: Volume, side: int = SIDE, level: float | None = None, on_piece: Callable[[], object] | None = None
) -> Mesh:
    """The surface of ``volume``, with the colours that are seen there.

    Args:
        volume: any.
        side: S.
        level: tau; that of the silhouettes if left out.
        on_piece: called before each piece of the field is asked, a fraction of a second each; what it raises ends it.

    Raises:
        ValueError: for a lattice below 8 points or above 512, or a volume in which nothing is buried as deep as that.
    """
    check_count("side", side, minimum=8, maximum=512)
    field = volume.field if on_piece is None else _watched(volume.field, on_piece)
    buried = _buried_in(field, side, volume.ground.device)
    tau = silhouette_level(volume, buried) if level is None else level
    check_number("level", tau, "Leave it out.", low=1e-6)
    vertices, faces = surface(buried, tau)
    if not len(faces):
        raise ValueError(
            f"level: got {tau:g}, and the innermost part of the volume has {float(buried.max()):.3g}; allowed is below "
            "that. Leave it out, or train the volume further."
        )
    vertices, faces = largest_pieces(vertices * (2 / (side - 1)) - 1, faces)
    return Mesh(vertices, faces, _colours(field, vertices, faces))


def _watched(field: Field, on_piece: Callable[[], object]) -> Field:
    def asked(place: Tensor) -> tuple[Tensor, Tensor]:
        on_piece()
        return field(place)

    return cast("Field", asked)


@torch.no_grad()
def buried_in(volume: Volume, side: int) -> Tensor:
    """b on a lattice of S^3 points over the cube around the ball, (S, S, S), its axes z, y, x; 0 on its border."""
    return _buried_in(volume.field, side, volume.ground.device)


def _buried_in(field: Field, side: int, device: torch.device) -> Tensor:
    return buried(_lattice(field, torch.linspace(-1, 1, side, device=device)) * (2 / (side - 1)))


def buried(density: Tensor) -> Tensor:
    """b of densities (D, H, W), in optical depths a cell of the lattice."""
    found = torch.full_like(density, torch.inf)
    for step in itertools.product((-1, 0, 1), repeat=3):
        if any(step):
            found = torch.minimum(found, _along(density, step))
    return found


def _along(density: Tensor, step: tuple[int, ...]) -> Tensor:
    """The optical depth of each point as seen against ``step``: all that lies before it, and half of its own."""
    axis = next(i for i, part in enumerate(step) if part)
    back = step[axis] < 0
    layers = density.movedim(axis, 0).flip(0) if back else density.movedim(axis, 0)
    down, right = (part for i, part in enumerate(step) if i != axis)
    before, found = torch.zeros_like(layers[0]), []
    for layer in layers:
        height, width = before.shape
        padded = F.pad(before, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
        top, left = max(-down, 0), max(-right, 0)
        before = padded[top : top + height, left : left + width]
        found.append(before + layer / 2)
        before = before + layer
    whole = torch.stack(found)
    return (whole.flip(0) if back else whole).movedim(0, axis) * math.hypot(*step)


def _lattice(field: Field, at: Tensor) -> Tensor:
    """Densities (S, S, S), its axes z, y, x, 0 outside of the ball and on its border."""
    z, y, x = torch.meshgrid(at, at, at, indexing="ij")
    place = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    inside = place.norm(dim=1) < 1 - 1e-4
    density = place.new_zeros(len(place)).masked_scatter(inside, _in_pieces(field, place[inside])[0])
    return density.reshape(z.shape)


def _colours(field: Field, vertices: Tensor, faces: Tensor) -> Tensor:
    """What is seen of the field (N, 3) at each vertex from outside, along its normal."""
    inwards = -vertex_normals(vertices, faces)
    step = LENGTH / LOOKED
    at = step * (torch.arange(LOOKED, device=vertices.device) - 0.5)
    place = vertices[:, None] + at[:, None] * inwards[:, None]
    density, colour = _in_pieces(field, place.flatten(0, 1))
    weight = weights(density.reshape(-1, LOOKED), density.new_tensor([[step]]))
    whole = weight.sum(dim=1, keepdim=True)
    seen = (weight[..., None] * colour.reshape(-1, LOOKED, 3)).sum(dim=1) / whole.clamp(min=1e-6)
    return torch.where(whole > 1e-3, seen, _in_pieces(field, vertices)[1])


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (N, 3) outward: the mean of a vertex's triangles, by their areas."""
    place, vertices, faces = vertices.device, vertices.cpu().double(), faces.cpu()  # not every device has float64
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    across = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for i in range(3):
        total = total.index_add(0, faces[:, i], across)
    length = total.norm(dim=1, keepdim=True)
    up = total.new_tensor([0.0, 1.0, 0.0])
    return torch.where(length > 0, total / length.clamp(min=1e-30), up).float().to(place)


def _in_pieces(field: Field, place: Tensor, size: int = 2**18) -> tuple[Tensor, Tensor]:
    found = [field(part) for part in place.split(size)]
    return torch.cat([density for density, _ in found]), torch.cat([colour for _, colour in found])


def surface(density: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Vertices (N, 3), x, y and z in cells, and triangles (M, 3), of the surface density = level.

    Args:
        density: (D, H, W), its axes z, y, x; closed if it is below ``level`` on its border.
        level: what is above it is inside.
    """
    depth, height, width = density.shape
    number = torch.arange(density.numel(), device=density.device).reshape(density.shape)
    corner = torch.stack(
        [
            number[
                k >> 2 : depth - 1 + (k >> 2), (k >> 1 & 1) : height - 1 + (k >> 1 & 1), (k & 1) : width - 1 + (k & 1)
            ]
            for k in range(8)
        ],
        dim=-1,
    ).reshape(-1, 8)
    values = density.flatten()
    inside = values[corner] > level
    corner = corner[inside.any(dim=1) & ~inside.all(dim=1)]
    tetrahedra = corner[:, torch.tensor(_TETRAHEDRA, device=corner.device)].reshape(-1, 4)
    powers = torch.tensor([1, 2, 4, 8], device=corner.device)
    code = ((values[tetrahedra] > level) * powers).sum(dim=1)
    edges = tetrahedra[:, torch.tensor(_EDGES, device=corner.device)]
    found = []
    for mask, order in _FACES.items():
        picked = torch.tensor(order, device=corner.device)
        found.append(edges[code == mask][:, picked].reshape(-1, 3, 2))
        found.append(edges[code == 0b1111 - mask][:, picked].reshape(-1, 3, 2).flip(1))
    ends = torch.cat(found).reshape(-1, 2).sort(dim=1).values
    unique, faces = torch.unique(ends, dim=0, return_inverse=True)
    low, high = values[unique[:, 0]], values[unique[:, 1]]
    share = ((level - low) / (high - low))[:, None]
    start, end = (_place(unique[:, i], height, width).to(density) for i in range(2))
    return torch.lerp(start, end, share), faces.reshape(-1, 3)


def _place(number: Tensor, height: int, width: int) -> Tensor:
    """x, y and z (N, 3) of lattice points by number."""
    return torch.stack([number % width, number // width % height, number // (width * height)], dim=1)


def largest_pieces(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Without the separate pieces that have less than `LEAST_SHARE` of the triangles; the largest stays in any case."""
    piece = pieces(len(vertices), faces)
    count = torch.bincount(piece, minlength=len(vertices))
    kept = (count >= LEAST_SHARE * len(faces)) | (count == count.max())
    faces = faces[kept[piece]]
    used, faces = torch.unique(faces, return_inverse=True)
    return vertices[used], faces


def pieces(count: int, faces: Tensor) -> Tensor:
    """For each triangle (M,) of (M, 3) over ``count`` vertices, the least number of a vertex of its separate piece."""
    label = torch.arange(count, device=faces.device)
    while True:  # the least number spreads over a piece, by leaps
        least = label[faces].amin(dim=1, keepdim=True).expand(-1, 3).reshape(-1)
        new = label.scatter_reduce(0, faces.reshape(-1), least, "amin")
        new = new[new]
        if torch.equal(new, label):
            return label[faces[:, 0]]
        label = new


@torch.no_grad()
def silhouette_level(volume: Volume, buried: Tensor) -> float:
    """tau, over six views from around the object, of its b (S, S, S).

    Raises:
        ValueError: no pixel of them is covered.
    """
    peaks, covered = [], 0
    for camera in volume.orbit(SHOWN, SHOWN, 6):
        [(_, traced)] = volume.look([camera])
        covered += int((traced.opacity > 0.5).sum())
        peaks.append(_peaks(buried, camera, 2 * volume.made.ray_samples))
    peak = torch.cat(peaks)
    if not covered:
        raise ValueError(
            "volume: is empty: no pixel of six views is covered; allowed is an object. Train it further, or lower its "
            "penalties."
        )
    low, high = 0.0, float(peak.max())
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if int((peak > middle).sum()) > covered else (low, middle)
    return (low + high) / 2


def _peaks(values: Tensor, camera: Camera, samples: int) -> Tensor:
    """The largest of the lattice's values on each ray (R,)."""
    origin, direction = camera.cast(values)
    near, far = chord(origin.expand_as(direction), direction)
    at = near[:, None] + ((far - near) / samples)[:, None] * (torch.arange(samples, device=near.device) + 0.5)
    place = origin + at[..., None] * direction[:, None]
    found = F.grid_sample(values[None, None], place[None, None], align_corners=True)[0, 0, 0]
    return torch.where(far > near, found.amax(dim=1), torch.zeros_like(near))
