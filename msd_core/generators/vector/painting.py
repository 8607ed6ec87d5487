"""What the paths of a vector picture cover, painted one over the other.

out <- ground,   then for each path, from back to front:   out <- out + a c_p (colour - out)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .coverage import coverages
from .outline import Chords, chords
from .stroke import outlined


class Paths(NamedTuple):
    """Shapes and strokes of a frame, in pixels.

    ``outlines`` (P, S, 3, 2) are filled; ``lines`` (Q, K, 2) with ``radii`` (Q,) are stroked, and ``closed`` or open.
    ``order`` (P + Q,) holds the numbers of the paths from back to front, shapes counted first; None: as they stand.
    """

    outlines: Tensor
    lines: Tensor
    radii: Tensor
    closed: bool
    order: Tensor | None


def covered(paths: Paths, height: int, width: int) -> Tensor:
    """Share of each pixel that each path covers, from back to front, (P + Q, height, width)."""
    pieces, count = chords(paths.outlines, height, width), len(paths.outlines)
    if len(paths.radii):
        more = outlined(paths.lines, paths.radii, paths.closed, height, width)
        more = more._replace(path=more.path + count)
        pieces = Chords(*(torch.cat(both) for both in zip(pieces, more, strict=True)))
        count += len(paths.radii)
    if paths.order is not None:
        pieces = pieces._replace(path=paths.order.argsort()[pieces.path])
    return coverages(pieces, count, height, width)


def painted(
    outlines: Tensor,
    lines: Tensor,
    radii: Tensor,
    colours: Tensor,
    opacities: Tensor,
    ground: Tensor,
    *,
    closed: bool,
    order: Tensor | None,
    view: tuple[int, int, int, int],
) -> Tensor:
    """RGB (3, height, width) of a window: top, left, height, width; colours and opacities from back to front."""
    top, left, height, width = view
    corner = outlines.new_tensor([left, top])
    cover = covered(Paths(outlines - corner, lines - corner, radii, closed, order), height, width)
    return over(cover * opacities[:, None, None], colours, ground)


def over(cover: Tensor, colours: Tensor, ground: Tensor) -> Tensor:
    """RGB (3, height, width) of paths painted one over the other, each with its share (height, width) of the pixels."""
    out = ground[:, None, None].expand(3, *cover.shape[1:])
    # `unbind`, since indexing in the loop would make a gradient of the whole stack for each path
    for one, colour in zip(cover.unbind(), colours.unbind(), strict=True):
        out = torch.lerp(out, colour[:, None, None].expand_as(out), one.expand_as(out))
    return out


def differences(cover: Tensor, colours: Tensor, ground: Tensor) -> Tensor:
    """Mean squared error (P,) that the picture would have without each of the paths."""
    under, found = ground[:, None, None].expand(3, *cover.shape[1:]), list[Tensor]()
    for one, colour in zip(cover.unbind(), colours.unbind(), strict=True):
        found.append(one * (colour[:, None, None] - under).square().mean(dim=0).sqrt())
        under = torch.lerp(under, colour[:, None, None].expand_as(under), one.expand_as(under))
    left = torch.ones_like(under[0])
    for i in reversed(range(len(found))):
        change, left = left * found[i], left * (1 - cover[i])
        found[i] = change.square().mean()
    return torch.stack(found)


def _by_difference(shown: Tensor, cover: Tensor, colours: Tensor, ground: Tensor) -> Tensor:
    """Numbers of the paths that are ``shown`` (P,), those first without which the picture would differ least."""
    kept = shown.nonzero()[:, 0]
    return kept[differences(cover[kept], colours[kept], ground).argsort()]


@torch.no_grad()
def needed(cover: Tensor, colours: Tensor, ground: Tensor, error: float, most: int, at_once: int) -> Tensor:
    """Which paths (P,) a picture needs: without the rest its mean squared error is at most ``error``.

    Args:
        cover: share of each path, (P, height, width), from back to front.
        colours, ground: (P, 3), (3,).
        error: in units of the square of a colour, 0 to 1.
        most: paths that can be spared.
        at_once: paths that are tried together at first.
    """
    whole, found = over(cover, colours, ground), torch.ones(len(cover), dtype=torch.bool, device=cover.device)
    count, least = at_once, _by_difference(found, cover, colours, ground)
    while count:
        # two equal shapes, one over the other, are needed together and neither alone: so the sum is looked at
        fewer = found.clone()
        fewer[least[:count]] = False
        spared = len(found) - int(fewer.sum())
        if spared <= most and (over(cover[fewer], colours[fewer], ground) - whole).square().mean() <= error:
            found, count = fewer, min(count, int(fewer.sum()))
            least = _by_difference(found, cover, colours, ground) if count else least
        else:
            count //= 2
    return found
