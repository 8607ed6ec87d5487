"""What the solid world says and how it looks.

    scene   := "a" size colour solid "with a" colour "back" "on a" colour "background" ["," view]
    view    := "front view" | "right side view" | "back view" | "left side view" | "side view" | "overhead view"

The half of a solid with z > 0 has its front colour, the other that of its back. It is lit from a direction that is
fixed to the world and seen as a `Camera` sees it: yaw and pitch vary within what a view's name allows, and a caption
without one is true of every view. Rays advance by the distance to the solid (Hart 1996).

Conventions: pictures are (B, 3, S, S) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...generators.volume.camera import OVERHEAD, Camera, side_words
from ...generators.volume.march import chord
from ..grounds import COLOURS, GROUND_COLOURS
from .shapes import SOLIDS, distance

SIZES = {"small": 0.4, "medium": 0.52, "large": 0.64}
INKS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
"""Colours of the solids, and of the grounds behind them."""
LOWEST, HIGHEST, TOP = -10.0, 30.0, 85.0
"""Pitches of a view from a side, and the highest one from overhead."""
LIGHT, AMBIENT = (0.42, 0.76, 0.5), 0.72
"""Direction that the light comes from, and the share of a colour that needs none."""
STEPS, NEAR = 48, 2e-3
"""Advances of a ray at most, and distance at which it has arrived."""
LEAST_CONTRAST = 0.28


@dataclass(frozen=True)
class Scene:
    """What a caption says of a solid and its ground."""

    solid: str
    front: str
    back: str
    ground: str
    size: str = "medium"

    def caption(self, view: str = "") -> str:
        """In words, with the name of a view, or none."""
        words = f"a {self.size} {self.front} {self.solid} with a {self.back} back on a {self.ground} background"
        return f"{words}, {view}" if view else words


def random_scene(generator: torch.Generator) -> Scene:
    """A scene whose colours can be told apart."""

    def pick(words: Sequence[str]) -> str:
        return words[int(torch.randint(len(words), (), generator=generator))]

    while True:
        scene = Scene(pick(SOLIDS), pick(INKS), pick(INKS), pick(INKS), pick(tuple(SIZES)))
        ground = GROUND_COLOURS[scene.ground]
        front, back = COLOURS[scene.front], COLOURS[scene.back]
        pairs = ((front, back), (front, ground), (back, ground))
        if all(math.dist(a, b) >= LEAST_CONTRAST for a, b in pairs):
            return scene


def random_camera(side: int, generator: torch.Generator) -> Camera:
    """Any yaw; from a side seven times in eight, else from overhead."""
    turn, rise, which = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    low, high = (OVERHEAD + 0.1, TOP) if which < 1 / 8 else (LOWEST, HIGHEST)
    return Camera(side, side, yaw=360 * turn, pitch=low + (high - low) * rise)


def random_view(camera: Camera, generator: torch.Generator) -> str:
    """What a caption calls a view: its name; a quarter of the side views "side view"; in three of ten cases nothing."""
    silent, plain = torch.rand(2, generator=generator).tolist()
    words = side_words(camera)
    return "" if silent < 0.3 else words["side"] if plain < 0.25 else words["view"]


@torch.no_grad()
def draw(scenes: Sequence[Scene], cameras: Sequence[Camera], device: torch.device | str = "cpu") -> Tensor:
    """Pictures (B, 3, S, S) of scenes from cameras of one size, each pixel the mean of four rays."""
    side = cameras[0].height
    pictures = torch.empty(len(scenes), 3, side, side, device=device)
    for solid in SOLIDS:
        rows = [i for i, scene in enumerate(scenes) if scene.solid == solid]
        if rows:
            pictures[rows] = _draw(solid, [scenes[i] for i in rows], [cameras[i] for i in rows], device)
    return pictures


def _draw(solid: str, scenes: list[Scene], cameras: list[Camera], device: torch.device | str) -> Tensor:
    """Pictures of scenes with one solid."""
    side, like = cameras[0].height, torch.zeros((), device=device)
    cast = [replace(camera, height=2 * side, width=2 * side).cast(like) for camera in cameras]
    direction = torch.stack([one for _, one in cast])
    origin = torch.stack([one for one, _ in cast])[:, None].expand_as(direction)
    size = torch.tensor([SIZES[scene.size] for scene in scenes], device=device)[:, None]
    place, hit = hits(solid, size, origin, direction)
    inks = [[COLOURS[s.front], COLOURS[s.back], GROUND_COLOURS[s.ground]] for s in scenes]
    front, back, ground = torch.tensor(inks, device=device)[:, :, None].unbind(1)
    lit = (_normals(solid, place, size) * place.new_tensor(LIGHT)).sum(dim=-1).clamp(0, 1)
    colour = torch.where(place[..., 2:] > 0, front, back) * (AMBIENT + (1 - AMBIENT) * lit[..., None])
    picture = torch.where(hit[..., None], colour, ground).movedim(-1, 1).reshape(-1, 3, 2 * side, 2 * side)
    return F.avg_pool2d(picture, 2)


def hits(solid: str, size: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays (B, R, 3) come to rest (B, R, 3), and whether on the solid (B, R)."""
    near, far = (t.reshape(origin.shape[:2]) for t in chord(origin.flatten(0, 1), direction.flatten(0, 1)))
    at = near
    for _ in range(STEPS):
        step = distance(solid, origin + at[..., None] * direction, size)
        at = torch.minimum(at + step.clamp(min=0), far)
    place = origin + at[..., None] * direction
    return place, (distance(solid, place, size) < NEAR) & (at < far)


def _normals(solid: str, place: Tensor, size: Tensor) -> Tensor:
    """Unit normals (B, R, 3), by differences."""
    step = 1e-3 * torch.eye(3, device=place.device)
    slope = [distance(solid, place + h, size) - distance(solid, place - h, size) for h in step]
    return F.normalize(torch.stack(slope, dim=-1), dim=-1)


def inside(scene: Scene, place: Tensor) -> Tensor:
    """Whether positions (*, 3) lie in a scene's solid, bool (*)."""
    return distance(scene.solid, place, SIZES[scene.size]) < 0
