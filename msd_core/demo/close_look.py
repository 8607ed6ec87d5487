"""All things of the world tried at one place of a picture: what stands there?

The scores are those of :mod:`.matching`, for every thing, flat and outlined, at a few sizes and shifts around a first
match; a window around the place is cut out at the thing's own scale, so that all templates can be kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .matching import OWN, Fit, evidence, role_evidence, role_masks, score, standing_out
from .scenes import LINE
from .silhouettes import THINGS

WINDOW, CELLS, SHIFT = 1.5, 44, 3
"""Templates are squares of WINDOW radii around the thing, CELLS pixels a side, shifted by up to SHIFT pixels."""
RADII = tuple(0.78 * 1.065**i for i in range(9))
"""Radii of the templates, as multiples of the one found before."""


@dataclass(frozen=True)
class Bank:
    """Templates of all things: masks (rows, CELLS²) by role with the numbers of their templates, and all rims."""

    names: tuple[tuple[str, bool], ...]
    roles: dict[str, tuple[Tensor, Tensor]]
    rims: Tensor


@cache
def bank(line: float) -> Bank:
    """Templates at RADII of all things, flat and with outlines of width ``line`` (in radii)."""
    radii = torch.tensor(RADII) / (2 * WINDOW)
    width = torch.full_like(radii, line * CELLS / (2 * WINDOW))
    names = tuple((thing, outlined) for thing in THINGS for outlined in (False, True))
    rows: dict[str, list[tuple[int, Tensor]]] = {}
    rims = []
    for number, (thing, outlined) in enumerate(names):
        masks, rim = role_masks(thing, radii, CELLS, width if outlined else None)
        rims.append(rim.flatten(1))
        for role, mask in masks.items():
            rows.setdefault(role, []).extend((number * len(RADII) + i, m.flatten()) for i, m in enumerate(mask))
    roles = {
        role: (torch.tensor([n for n, _ in some]), torch.stack([m for _, m in some])) for role, some in rows.items()
    }
    return Bank(names, roles, torch.cat(rims))


def _shifted(layer: Tensor) -> Tensor:
    """All squares of CELLS pixels of a layer (CELLS + 2 SHIFT,)²: (CELLS², shifts)."""
    return F.unfold(layer[None, None], CELLS)[0]


def scores(window: Tensor, ground: Tensor, colour: str, seen: Tensor, clear: Tensor, line: float) -> Tensor:
    """Scores (templates, shifts) of the whole bank in a window of CELLS + 2 SHIFT pixels a side.

    Args:
        window, ground: the picture and the empty ground, each (3, H, H).
        seen, clear: weights (H, H) of a thing's own pixels and of its rim's.
    """
    templates, counts = bank(line), standing_out(ground, colour)
    weight, rim_weight = _shifted(seen), _shifted(clear)
    sums = torch.zeros(4, len(templates.rims), weight.shape[1])  # own, its area, other parts, their area
    for role, layer in role_evidence(window, colour).items():
        if role in templates.roles and counts[role] > 0:
            rows, masks = templates.roles[role]
            at = 0 if role in OWN else 2
            sums[at].index_add_(0, rows, counts[role] * (masks @ _shifted(layer * seen)))
            sums[at + 1].index_add_(0, rows, counts[role] * (masks @ weight))
    own, own_area, rest, rest_area = sums
    rim = templates.rims @ _shifted(evidence(window, ground) * clear)
    areas = own_area, own_area + rest_area, templates.rims @ rim_weight
    least = [0.3 * a.amax(dim=1, keepdim=True).clamp(min=1e-6) for a in areas]
    means = (s / torch.maximum(a, low) for s, a, low in zip((own, own + rest, rim), areas, least, strict=True))
    return score(*means)


def look_closely(
    picture: Tensor, ground: Tensor, fit: Fit, colour: str, seen: Tensor, clear: Tensor
) -> dict[tuple[str, bool], Fit]:
    """The best fit near ``fit`` of every thing, flat and outlined, in ``colour``.

    Args:
        picture, ground: (3, S, S).
        seen, clear: (S, S) in [0, 1], where the thing's own pixels and its rim's count.
    """
    step = 2 * WINDOW * fit.radius / CELLS
    side = CELLS + 2 * SHIFT
    axis = (torch.arange(side) + 0.5 - side / 2) * step
    y, x = torch.meshgrid(2 * (fit.y + axis) - 1, 2 * (fit.x + axis) - 1, indexing="ij")
    layers = torch.cat([picture, ground, seen[None], clear[None]])[None]
    window = F.grid_sample(layers, torch.stack([x, y], dim=-1)[None], padding_mode="border", align_corners=False)[0]
    line = min(0.18, max(0.06, round(LINE / fit.radius / 0.02) * 0.02))
    table = scores(window[:3], window[3:6], colour, window[6], window[7], line)
    shifts = 2 * SHIFT + 1
    fits = {}
    for (thing, outlined), rows in zip(bank(line).names, table.reshape(-1, len(RADII), shifts**2), strict=True):
        best = int(rows.argmax())
        size, place = divmod(best, shifts**2)
        down, right = (step * (v - SHIFT) for v in divmod(place, shifts))
        at = (fit.x + right, fit.y + down, fit.radius * RADII[size])
        fits[thing, outlined] = Fit(thing, outlined, float(rows.flatten()[best]), *at)
    return fits
