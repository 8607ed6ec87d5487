"""Marks for an object of the solid world: no network looks at it, what it should be is known.

    iou            of what the object fills with the solid it should be, on 48^3 points, at the size and the turn about
                   the upright axis that fit best
    silhouettes    intersection over union of 24 held-out views, there
    front, back    share of a side's covered pixels that have its colour rather than the other side's
    janus          share of the views from behind that look more like a view of the front than like any from behind
    floaters       share of the surface that is in pieces apart from the largest
    accepted       iou >= .8, front and back >= .8, no view from behind that looks like the front

What an object fills is what lies within its surface, as `generators.volume.mesh` finds it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from ...generators.volume.camera import Camera
from ...generators.volume.mesh import buried_in, pieces, silhouette_level, surface
from ...generators.volume.volume import Volume
from ..grounds import COLOURS
from .shapes import ROUND, distance
from .world import AMBIENT, SIZES, Scene, draw, hits

POINTS, SIDE = 48, 64
FACTORS = tuple(0.7 + 0.025 * i for i in range(28))
TURNS = tuple(range(-40, 41, 10))
FRONT, BACK = (-24.0, 0.0, 24.0), (156.0, 180.0, 204.0)
GOOD = 0.8


@dataclass(frozen=True)
class Marks:
    """What is said above, in that order; ``size`` and ``turn`` (degrees) are those that fit best."""

    iou: float
    silhouettes: float
    front: float
    back: float
    janus: float
    floaters: float
    size: float
    turn: float

    @property
    def accepted(self) -> bool:
        """Whether it is the solid, with its front in front and its back behind."""
        return self.iou >= GOOD and min(self.front, self.back) >= GOOD and self.janus == 0

    def figures(self) -> dict[str, float]:
        """All of them by name."""
        return {**asdict(self), "accepted": float(self.accepted)}


def held_out(side: int = SIDE) -> list[Camera]:
    """24 cameras that no iteration stands at: twelve yaws at two pitches."""
    return [Camera(side, side, yaw=30.0 * i + 15, pitch=pitch) for i in range(12) for pitch in (0.0, 20.0)]


@torch.no_grad()
def judge(volume: Volume, scene: Scene) -> Marks:
    """Marks of ``volume`` as a ``scene``; an empty one has none but zeros."""
    inside = inside_of(volume)
    if inside is None:
        return Marks(0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    filled = inside > 0
    iou, size, turn = best_solid(scene.solid, filled, SIZES[scene.size])
    front, back = (_own_colour(volume, yaws, scene.front, scene.back) for yaws in (FRONT, BACK))
    return Marks(
        iou,
        _silhouettes(volume, scene.solid, size, turn),
        front,
        1 - back,
        _janus(volume, scene),
        _floaters(inside),
        size,
        turn,
    )


def grid_of(like: Tensor) -> Tensor:
    """Positions (48, 48, 48, 3), by z, y and x."""
    at = torch.linspace(-1, 1, POINTS, device=like.device)
    return torch.stack(torch.meshgrid(at, at, at, indexing="ij")[::-1], dim=-1)


def inside_of(volume: Volume) -> Tensor | None:
    """How much deeper than its surface a point is buried, (48, 48, 48), above 0 inside; None if there is nothing."""
    buried = buried_in(volume, POINTS)
    try:
        return buried - silhouette_level(volume, buried)
    except ValueError:
        return None


def turned_about(place: Tensor, degrees: float) -> Tensor:
    """Positions (*, 3) turned about the upright axis."""
    angle = torch.deg2rad(torch.tensor(float(degrees), dtype=torch.float64))
    cos, sin = float(angle.cos()), float(angle.sin())
    x, y, z = place.unbind(dim=-1)
    return torch.stack([cos * x - sin * z, y, sin * x + cos * z], dim=-1)


def best_solid(solid: str, filled: Tensor, size: float) -> tuple[float, float, float]:
    """IoU of ``filled`` (48, 48, 48) with a solid, and the size, of equal ones that nearest to
    ``size``, and the turn, in degrees, at which it is largest."""
    place, best = grid_of(filled), (0.0, 0.0, size, 0.0)
    for turn in (0,) if solid in ROUND else TURNS:
        seen = turned_about(place, turn)
        for factor in FACTORS:
            inside = distance(solid, seen, size * factor) < 0
            iou = float((inside & filled).sum() / (inside | filled).sum().clamp(min=1))
            best = max(best, (iou, -abs(factor - 1), size * factor, float(turn)))
    return best[0], best[2], best[3]


def _silhouettes(volume: Volume, solid: str, size: float, turn: float) -> float:
    """Mean IoU over the held-out views."""
    found = []
    for camera in held_out():
        [(_, traced)] = volume.look([camera])
        origin, direction = replace(camera, yaw=camera.yaw - turn).cast(volume.ground)
        sizes = torch.full((1, 1), size, device=origin.device)
        _, hit = hits(solid, sizes, origin.expand_as(direction)[None], direction[None])
        covered = traced.opacity > 0.5
        found.append(float((covered & hit[0]).sum() / (covered | hit[0]).sum().clamp(min=1)))
    return sum(found) / len(found)


def _views(volume: Volume, yaws: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Pictures (V, 3, S, S) from these yaws at two pitches each, and opacities (V, S, S)."""
    cameras = [Camera(SIDE, SIDE, yaw=yaw, pitch=pitch) for yaw in yaws for pitch in (0.0, 20.0)]
    seen = volume.look(cameras)
    opacity = torch.stack([traced.opacity.reshape(SIDE, SIDE) for _, traced in seen])
    return torch.cat([picture for picture, _ in seen]), opacity


def _own_colour(volume: Volume, yaws: tuple[float, ...], own: str, other: str) -> float:
    """Share of the covered pixels from these yaws that are nearer to one colour than to the other, lit or in shade."""
    pictures, opacity = _views(volume, yaws)
    pixels = pictures.movedim(1, -1)[opacity > 0.5]
    if not len(pixels):
        return 0.0
    shades = torch.tensor([AMBIENT, (1 + AMBIENT) / 2, 1.0], device=pixels.device)[:, None]
    near = [torch.cdist(pixels, shades * pixels.new_tensor(COLOURS[c])).amin(dim=1) for c in (own, other)]
    return float((near[0] < near[1]).float().mean())


def _janus(volume: Volume, scene: Scene) -> float:
    """Share of the views from behind that are nearer to a true view of the front than to any true one from behind."""
    pictures, _ = _views(volume, BACK)
    truth = []
    for yaws in (FRONT, BACK):
        cameras = [Camera(SIDE, SIDE, yaw=yaw, pitch=pitch) for yaw in yaws for pitch in (0.0, 20.0)]
        truth.append(draw([scene] * len(cameras), cameras, pictures.device).flatten(1))
    front, back = (torch.cdist(pictures.flatten(1), one).amin(dim=1) for one in truth)
    return float((front < back).float().mean())


def _floaters(inside: Tensor) -> float:
    """Share of the surface's triangles that are apart from the largest piece."""
    vertices, faces = surface(inside, 0.0)
    if not len(faces):
        return 0.0
    count = torch.bincount(pieces(len(vertices), faces))
    return float(1 - count.max() / count.sum())
