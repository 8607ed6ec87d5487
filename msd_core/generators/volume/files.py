"""What a volume is used for elsewhere: a turntable, a mesh, and pictures of its depth and of its normals."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ...validation import check_count
from .camera import RADIUS, Camera
from .glb import glb_of
from .march import STEP
from .mesh import extract
from .volume import Volume

FRAMES, MILLISECONDS = 32, 80
LONGEST = 192
"""Pixels of the longer side of a turntable's frames and of the other pictures."""


@torch.no_grad()
def turntable(volume: Volume, height: int, width: int, frames: int = FRAMES) -> Iterator[Tensor]:
    """Yield pictures (1, 3, height, width) from all around, from the front over the right side, without the front
    again."""
    for camera in volume.orbit(height, width, frames):
        yield volume.render(camera).clamp(0, 1)


class Shown(NamedTuple):
    """What a camera shows: picture (1, 3, height, width) and opacity (1, 1, height, width) in [0, 1]; depth, the same
    shape: 1 where the ball begins, 0 where it ends and behind; normals (1, 3, height, width) as the camera sees them:
    right, up and towards it, from -1 to 1 as 0 to 1, (.5, .5, 1) where nothing is."""

    picture: Tensor
    opacity: Tensor
    depth: Tensor
    normal: Tensor


@torch.no_grad()
def shown_from(volume: Volume, camera: Camera) -> Shown:
    """What ``camera`` shows, every pixel of it traced.

    Depth is the expected one; normals are its slopes, each over the pixels beside it.
    """
    camera = replace(camera, rays=None)
    height, width = camera.box[2:]
    [(picture, traced)] = volume.look([camera])
    opacity = traced.opacity.reshape(1, 1, height, width)
    nearest = camera.distance - RADIUS
    near = (1 - (traced.depth - nearest) / (2 * RADIUS)).clamp(0, 1).reshape_as(opacity)
    origin, direction = camera.cast(volume.ground)
    place = (origin + traced.depth[:, None] * direction).T.reshape(3, height, width)
    right, down = (_slope(place, axis) for axis in (2, 1))
    normal = torch.linalg.cross(down, right, dim=0)
    normal = normal / normal.norm(dim=0, keepdim=True).clamp(min=STEP * 1e-9)
    own = torch.einsum("ac,chw->ahw", place.new_tensor(camera.axes), normal)
    flat = place.new_tensor([0.0, 0.0, 1.0])[:, None, None]
    normals = torch.where(opacity[0] > 0.5, own, flat)[None] / 2 + 0.5
    return Shown(picture.clamp(0, 1), opacity, near * opacity, normals)


def _slope(place: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, one-sided at the borders."""
    size = place.shape[axis]
    at = torch.arange(size, device=place.device)
    return place.index_select(axis, (at + 1).clamp(max=size - 1)) - place.index_select(axis, (at - 1).clamp(min=0))


def exported(volume: Volume, name: str) -> bytes:
    """The content of a file of `Volume.files`."""
    if name == "object.glb":
        return glb_of(extract(volume))
    scale = LONGEST / max(volume.canvas.width, volume.canvas.height)
    height, width = (max(1, round(side * scale)) for side in (volume.canvas.height, volume.canvas.width))
    if name == "turntable.webp":
        return movie(list(turntable(volume, height, width)))
    seen = shown_from(volume, volume.frame(height, width))
    return png(seen.depth if name == "depth.png" else seen.normal)


def movie(frames: list[Tensor], milliseconds: int = MILLISECONDS) -> bytes:
    """An animated WebP of pictures (1, 3, H, W) in [0, 1], without end."""
    check_count("frames", len(frames))
    first, *rest = (_image(frame) for frame in frames)
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=milliseconds, loop=0, quality=90)
    return file.getvalue()


def png(picture: Tensor) -> bytes:
    """A PNG of a picture (1, 1 or 3, H, W) in [0, 1]."""
    file = io.BytesIO()
    _image(picture).save(file, "PNG")
    return file.getvalue()


def _image(picture: Tensor) -> Image.Image:
    pixels = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).contiguous().cpu().numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
