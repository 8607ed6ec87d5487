"""Volume rendering: a field of densities and colours, seen along rays.

    alpha_i = 1 - exp(-sigma_i delta),   T_i = exp(-sum_{j<i} sigma_j delta),   w_i = T_i alpha_i
    colour = sum w_i c_i,   opacity = sum w_i,   depth = sum w_i t_i / opacity

(Max 1995; Mildenhall et al. 2020, Eq. 3), with S pieces of equal length delta on the ray's chord through the unit ball:
in the middle of each piece, or one offset a ray into all of them. The transmittance T is a sum of logarithms, so that
opaque matter underflows to 0 and nothing becomes infinite.

Memory is bounded. Samples in cells that are known to be empty are never evaluated; in two passes, those that turn out
to be transparent or hidden are left out of the second, which autograd sees. What is still too much is evaluated ray by
ray in pieces, each again in the backward pass (Chen et al. 2016). Nothing is drawn by chance here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .camera import RADIUS

KEPT = 2**22
"""Samples on the rays of all views together whose values a backward pass may keep: 1.8 GB with the dense grid."""
CHUNK = 2**19
"""Samples on the rays of one piece, beyond that; and of one piece without gradient."""
FAINT, HIDDEN = 0.01, 1e-3
"""Opacity of a sample, and transmittance before it, below which a second pass leaves it out."""
STEP = 2 / 48
"""Half the distance over which a normal is measured: about a cell of the finest grid."""

Field = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(N, 3) positions in the unit ball to densities (N,) in 1/radius and colours (N, 3)."""


@dataclass(frozen=True)
class Rays:
    """R rays: origins (R, 3), unit directions (R, 3), and offsets (R,) into each piece, in [0, 1)."""

    origin: Tensor
    direction: Tensor
    offset: Tensor

    def __len__(self) -> int:
        return len(self.origin)

    def part(self, start: int, stop: int) -> Rays:
        """Some of them."""
        return Rays(self.origin[start:stop], self.direction[start:stop], self.offset[start:stop])


class Traced(NamedTuple):
    """What is seen along R rays.

    ``colour`` (R, 3) is the object's alone, on black; ``opacity`` (R,) in [0, 1]; ``depth`` (R,) the mean distance from
    the origin of what is seen, and ``thickness`` (R,) its variance, both 0 where nothing is; ``inward`` (R,) how much
    of what is seen faces away, 0 unless asked for.
    """

    colour: Tensor
    opacity: Tensor
    depth: Tensor
    thickness: Tensor
    inward: Tensor


@dataclass(frozen=True)
class March:
    """How rays are sampled.

    Attributes:
        samples: S, pieces of a chord.
        occupied: which of (N, 3) positions may hold anything, (N,) bool; None: all may.
        thrifty: in two passes.
        orientation: whether ``inward`` is measured, with four more densities a sample.
        shares: that the samples which may be kept are divided into: one for each view of an iteration, or several.
    """

    samples: int
    occupied: Callable[[Tensor], Tensor] | None = None
    thrifty: bool = False
    orientation: bool = False
    shares: int = 1

    def __call__(self, field: Field, rays: Rays, parameters: bool = True) -> Traced:
        """What is seen along ``rays``, differentiable in the field's parameters.

        Args:
            field: densities and colours.
            rays: from outside of the ball.
            parameters: whether the field has any that want a gradient.
        """
        kept = torch.is_grad_enabled() and parameters
        if len(rays) * self.samples <= (KEPT // self.shares if kept else CHUNK):
            return self._trace(field, rays)
        size = max(1, CHUNK // self.samples)
        pieces = [rays.part(start, min(start + size, len(rays))) for start in range(0, len(rays), size)]
        if kept:
            found = [checkpoint(self._trace, field, piece, use_reentrant=False) for piece in pieces]
        else:
            found = [self._trace(field, piece) for piece in pieces]
        return Traced(*(torch.cat(parts) for parts in zip(*found, strict=True)))  # pyright: ignore[reportArgumentType]

    def _trace(self, field: Field, rays: Rays) -> Traced:
        at, length = _pieces(rays, self.samples)
        place, ray, slot = self._samples(rays, at, length)
        if self.thrifty and torch.is_grad_enabled():
            with torch.no_grad():
                seen = _seen(_spread(field(place)[0], ray, slot, at), length)[ray, slot]
            place, ray, slot = place[seen], ray[seen], slot[seen]
        density, colour = field(place)
        weight = weights(_spread(density, ray, slot, at), length)
        opacity = weight.sum(dim=1)
        whole = opacity.clamp(min=1e-6)
        depth = (weight * at).sum(dim=1) / whole
        thickness = (weight * (at - depth[:, None]).square()).sum(dim=1) / whole
        own = weight[ray, slot]
        mixed = colour.new_zeros(len(rays), 3).index_add(0, ray, own[:, None] * colour)
        inward = torch.zeros_like(opacity)
        if self.orientation:
            facing = (normals(field, place) * rays.direction[ray]).sum(dim=1).clamp(min=0).square()
            inward = inward.index_add(0, ray, own.detach() * facing)
        return Traced(mixed, opacity, depth, thickness, inward)

    @torch.no_grad()
    def _samples(self, rays: Rays, at: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the samples at distances (R, S), those to evaluate: positions (N, 3), and ray and piece of each (N,)."""
        place = rays.origin[:, None] + at[..., None] * rays.direction[:, None]
        wanted = (length > 0).expand(-1, self.samples)
        if self.occupied is not None:
            wanted = wanted & self.occupied(place.flatten(0, 1)).reshape(wanted.shape)
        ray, slot = wanted.nonzero(as_tuple=True)
        return place[ray, slot], ray, slot


def _pieces(rays: Rays, samples: int) -> tuple[Tensor, Tensor]:
    """Distances (R, S) of the samples, and the length (R, 1) of a ray's pieces, 0 where it misses the ball."""
    near, far = chord(rays.origin, rays.direction)
    length = ((far - near) / samples)[:, None]
    return near[:, None] + length * (torch.arange(samples, device=near.device) + rays.offset[:, None]), length


def chord(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays (R, 3) from outside enter and leave the ball, distances (R,); equal for those that miss it."""
    middle = -(origin * direction).sum(dim=1)
    apart2 = origin.square().sum(dim=1) - middle.square()
    half = (RADIUS**2 - apart2).clamp(min=0).sqrt() * (middle > 0)
    return middle - half, middle + half


def weights(density: Tensor, length: Tensor) -> Tensor:
    """w (R, S) of densities (R, S) on pieces of a length (R, 1)."""
    thickness = density * length
    return torch.exp(thickness - thickness.cumsum(dim=1)) * -torch.expm1(-thickness)


def _seen(density: Tensor, length: Tensor) -> Tensor:
    """Which samples (R, S) of densities (R, S) on pieces (R, 1) anything is seen of."""
    thickness = density * length
    return (thickness > -math.log1p(-FAINT)) & (thickness.cumsum(dim=1) - thickness < -math.log(HIDDEN))


def _spread(values: Tensor, ray: Tensor, slot: Tensor, at: Tensor) -> Tensor:
    """``values`` (N,) at their rays and pieces in a table (R, S) as large as ``at``, 0 elsewhere."""
    return values.new_zeros(at.shape).index_put((ray, slot), values)


def normals(field: Field, place: Tensor) -> Tensor:
    """Unit vectors (N, 3) against the gradient of the density at (N, 3), by differences over a tetrahedron."""
    corners = place.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    around = place[:, None] + STEP * corners
    density = field(around.flatten(0, 1))[0].reshape(-1, 4, 1)
    slope = -(density * corners).sum(dim=1)
    return slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-6)
