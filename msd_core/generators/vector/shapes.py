"""A picture as vector graphics: filled shapes and stroked lines of cubic Bézier curves, painted one over the other.

    out <- ground,   then for each path, from back to front:   out <- out + a c_p (colour - out)

with the path's opacity a and its coverage c_p of the pixel (`painting`). The gradient is that of the exact area: it
lives where an outline passes. (VectorFusion, Jain et al. 2022, distils into the same, CLIPasso, Vinker et al. 2022,
into strokes alone; DiffVG, Li et al. 2020, renders both.)

Parameters are moved at one rate, so each is kept in a unit of its own: at Adam's 0.01 a point moves by .4 % of the
longer side a step, half a pixel of 128, a colour or an opacity by 1.5 % of its range where it is in the middle, and a
stroke's width by up to 5 % of itself (`pens`).

A path that has become too small or too faint, is hidden or lies outside, has no gradient that would bring it back.
After an iteration it begins anew on top, as a disc, a bar or a ring where the picture asks for most (`draft`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...randomness import Rng, seeded
from ...validation import check_choice, check_count
from ..base import SIDE, Canvas, Config, Generator, Moved, View
from ..paint import tone, toned
from . import draft, painting, pens
from .outline import areas, circles, crossings, lengths
from .settings import MOST_PATHS, PAINTS, VectorSettings

if TYPE_CHECKING:
    from .drawing import Drawing

__all__ = ["PAINTS", "Vector", "VectorSettings"]

REACH = 0.4
"""Longer sides of the canvas that a unit of a point is: the rate's unit."""
OUTSIDE = 1.0
"""How far beyond the edge, in sides of the picture, a point counts; farther out it lies there."""
KEPT = 2**24
"""Pixels, over all paths, of what a backward pass keeps; a larger picture is drawn in bands, each of them twice."""
HELD = 2**26
"""Pixels, over all paths, whose coverages are held at once to see which paths make a difference."""
THIN = 0.1
"""4 pi area/length^2 below which a shape counts as a sliver."""
VANISHED = 2e-6
"""Mean squared difference below which a path begins anew: one level in 255 over a third of the picture."""
AT_ONCE = 8
"""One path in so many, at most, begins anew after an iteration."""
SETTLED = 0.8
"""Share of the iterations after which nothing begins anew."""
DENSE = 0.9
"""Opacity that a translucent path begins with."""


class Vector(Generator):
    """Filled Bézier outlines and strokes on a plain ground.

    Parameters are in rows: ``points`` of the shapes, ``strokes`` and ``widths`` of the strokes, ``colours`` and
    ``opacities`` of the shapes and then of the strokes. ``order`` says where each is painted, the largest in front;
    without strokes the rows themselves do.

    Args:
        width, height: of the canvas, in pixels.
        seed: of places, sizes and colours at the start: discs and lines, the larger ones behind.
        options: of `VectorSettings`.

    Raises:
        ValueError: for a value out of range.
    """

    windows = True
    settings = VectorSettings
    strokes: nn.Parameter | None
    widths: nn.Parameter | None
    order: Tensor | None
    files = ("picture.svg",)
    label: ClassVar[str] = "Vector"

    def __init__(
        self,
        width: int,
        height: int,
        *,
        paths: int = 64,
        segments: int = 4,
        paint: str = "opaque",
        tidy: float = 0.02,
        simplify: float = 36.0,
        strokes: int = 0,
        stroke_width: float = 2.0,
        fixed_width: bool = False,
        stroke_segments: int = 2,
        closed_strokes: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, side in (("width", width), ("height", height)):
            check_count(name, side, maximum=SIDE)
        pen = (strokes, stroke_width, fixed_width, stroke_segments, closed_strokes)
        self.made = VectorSettings(paths, segments, paint, tidy, simplify, *pen)
        self.size, self.seed = (width, height), seed
        rng = seeded(seed)
        centres, colours = (_uniform((paths, k), rng) for k in (2, 3))
        radii = torch.logspace(math.log10(0.25), math.log10(0.04), paths)
        self.points = nn.Parameter(circles(centres * self.sides, radii, segments) / REACH)
        self._add_strokes(rng)
        colours = torch.cat([colours, _uniform((strokes, 3), rng)])
        self.colours = nn.Parameter(toned(0.25 + 0.5 * colours))
        self.ground = nn.Parameter(torch.zeros(3))
        self.opacities = nn.Parameter(torch.zeros(paths + strokes)) if paint == "translucent" else None

    def _add_strokes(self, rng: torch.Generator) -> None:
        """Lines at random places, or none."""
        made, count = self.made, self.made.strokes
        self.register_parameter("strokes", None)
        self.register_parameter("widths", None)
        self.register_buffer("order", None)
        if not count:
            return
        centres = _uniform((count, 2), rng) * self.sides
        if made.closed_strokes:
            lines = pens.loops(centres, made.stroke_segments)
        else:
            turns, bends = _uniform((count, 2), rng).unbind(1)
            lines = pens.bows(centres, turns, bends, made.stroke_segments)
        self.strokes = nn.Parameter(lines / REACH)
        widths = pens.widened(torch.full((count,), made.stroke_width / 100))
        self.widths = nn.Parameter(widths, requires_grad=not made.fixed_width)
        self.order = torch.arange(made.paths + count, dtype=torch.float32)

    @classmethod
    def for_size(
        cls,
        width: int,
        height: int,
        *,
        seed: int = 0,
        channels: int = 4,
        cell: int = 8,
        **options: int | str | float,
    ) -> Vector:
        """A vector picture for a canvas of ``width`` x ``height`` pixels."""
        return cls(width, height, seed=seed, **options)  # pyright: ignore[reportArgumentType] - checked by the settings

    @property
    def kind(self) -> str:
        """ "vector"."""
        return "vector"

    @property
    def canvas(self) -> Canvas:
        """Of the size at which it is optimised."""
        return Canvas(*self.size)

    @property
    def sides(self) -> Tensor:
        """Width and height of the canvas, in longer sides."""
        sides = torch.tensor(self.size, dtype=torch.float32, device=self._device)
        return sides / max(self.size)

    @property
    def _device(self) -> torch.device:
        return self.points.device if hasattr(self, "points") else torch.empty(0).device

    def config(self) -> Config:
        """Size, settings and seed."""
        return {"width": self.size[0], "height": self.size[1], **asdict(self.made), "seed": self.seed}

    def outlines(self, width: float, height: float) -> Tensor:
        """The outlines (P, S, 3, 2) in pixels of a frame of that size."""
        return self._placed(self.points, width, height)

    def lines(self, width: float, height: float) -> tuple[Tensor, Tensor]:
        """The strokes (Q, K, 2) in pixels of a frame of that size, K = 3T + 1, or 3T of closed ones; and their widths.

        In a frame of another shape than the canvas's, widths are those of equal area.
        """
        if self.strokes is None or self.widths is None:
            return self.points.new_empty(0, 3 * self.made.stroke_segments + 1, 2), self.points.new_empty(0)
        side = (width * height / self.sides.prod()).sqrt()
        return self._placed(self.strokes, width, height), pens.wide(self.widths) * side

    def _placed(self, points: Tensor, width: float, height: float) -> Tensor:
        place = points * REACH / self.sides
        return place.clamp(-OUTSIDE, 1 + OUTSIDE) * place.new_tensor([width, height])

    def paints(self) -> tuple[Tensor, Tensor, Tensor]:
        """Colours (P + Q, 3), opacities (P + Q,) and the ground's colour (3,), all in [0, 1]."""
        colours, ground = tone(self.colours), tone(self.ground)
        if self.opacities is None:
            return colours, torch.ones_like(colours[:, 0]), ground
        return colours, tone(self.opacities + toned(self.opacities.new_tensor(DENSE))), ground

    def painted(self) -> Tensor | None:
        """Numbers (P + Q,) of the paths from back to front, shapes counted first; None: as they are counted."""
        return None if self.order is None else self.order.argsort(stable=True)

    def render(self, view: View) -> Tensor:
        """RGB in [0, 1], (1, 3, height, width) of the view's window, differentiable in the parameters."""
        down, right, height, width = view.box
        (lines, widths), (colours, opacities, ground) = self.lines(view.width, view.height), self.paints()
        order = self.painted()
        if order is not None:
            colours, opacities = colours[order], opacities[order]
        given = self.outlines(view.width, view.height), lines, widths / 2, colours, opacities, ground
        differentiated = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        bands = []
        for top, rows in self._bands(height, width):
            box = (down + top, right, rows, width)
            draw = partial(painting.painted, closed=self.made.closed_strokes, order=order, view=box)
            if differentiated and rows < height:
                again = checkpoint(draw, *given, use_reentrant=False, preserve_rng_state=False)
                assert isinstance(again, Tensor)  # noqa: S101 - as `draw` gives it
                bands.append(again)
            else:
                bands.append(draw(*given))
        return torch.cat(bands, dim=1)[None]

    def _bands(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """First row and number of rows of the bands that a picture is drawn in."""
        rows = max(1, min(height, KEPT // (width * (self.made.paths + self.made.strokes))))
        for top in range(0, height, rows):
            yield top, min(rows, height - top)

    def renderer(self, view: View) -> Callable[[], Tensor]:
        """`render` of one view, to be called while the parameters change."""
        return partial(self.render, view)

    def penalty(self, view: View) -> Tensor | None:
        """``tidy`` times how crossed the curves are, and how thin the shapes, both 0 to 1 and a mean over the shapes.

        A shape is thin once 4 pi area/length^2, 1 for a disc, is below `THIN`. Of strokes nothing is asked.
        """
        if self.made.tidy == 0 or not self.made.paths:
            return None
        points = self.points * REACH
        thin = (1 - 4 * math.pi * areas(points).abs() / lengths(points).square() / THIN).relu()
        return self.made.tidy * (crossings(points).mean() + thin.mean())

    def tend(self, moved: Moved, rng: Rng) -> Mapping[str, Tensor]:
        """Paths that make no difference begin anew, on top, where the picture asks for most; at last none does."""
        if moved.step >= SETTLED * moved.steps or moved.pulled.shape[1] != 3:
            return {}
        height, width = moved.pulled.shape[-2:]
        count = self.made.paths + self.made.strokes
        stays = self.needed(width, height, VANISHED, max(1, count // AT_ONCE))
        if stays.all():
            return {}
        parts = stays[: self.made.paths], stays[self.made.paths :]
        orders = [torch.cat([part.nonzero()[:, 0], (~part).nonzero()[:, 0]]) for part in parts]
        kept = [int(part.sum()) for part in parts]
        self._reorder(*orders)
        begun = torch.cat(
            [torch.arange(len(part), device=part.device) >= n for part, n in zip(parts, kept, strict=True)]
        )
        self._draft(moved.target[0].clamp(0, 1), begun)
        sources = [
            torch.where(torch.arange(len(o), device=o.device) < n, o, -1) for o, n in zip(orders, kept, strict=True)
        ]
        both = torch.cat([sources[0], torch.where(sources[1] < 0, -1, sources[1] + self.made.paths)])
        rows = {"points": sources[0], "strokes": sources[1], "widths": sources[1], "colours": both, "opacities": both}
        return {name: rows[name] for name, _ in self.named_parameters() if name != "ground"}

    @torch.no_grad()
    def needed(self, width: int, height: int, error: float, most: int = 2 * MOST_PATHS) -> Tensor:
        """Which paths (P + Q,) a picture of a size needs: without the rest its mean squared error is at most ``error``.

        Args:
            width, height: in pixels.
            error: in units of the square of a colour, 0 to 1.
            most: paths that can be spared.

        A picture that is too large for all coverages at once is looked at as a smaller one.
        """
        height, width = self._looked_at(height, width)
        cover, colours, ground = self._covers(width, height)
        found = painting.needed(cover, colours, ground, error, most, max(1, len(cover) // AT_ONCE))
        order = self.painted()
        return found if order is None else torch.empty_like(found).index_put_((order,), found)

    def _looked_at(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the coverages of all paths are held: the picture's, unless it is too large."""
        shrink = min(1.0, math.sqrt(HELD / (height * width * max(1, self.made.paths + self.made.strokes))))
        return max(1, int(height * shrink)), max(1, int(width * shrink))

    @torch.no_grad()
    def _covers(self, width: int, height: int, shown: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What each path paints of each pixel of the whole picture, (P + Q, height, width), their colours, the ground.

        From back to front; of the paths (P + Q,) that are ``shown``, or of all.
        """
        (lines, widths), order = self.lines(width, height), self.painted()
        paths = painting.Paths(self.outlines(width, height), lines, widths / 2, self.made.closed_strokes, order)
        colours, opacities, ground = self.paints()
        rows = torch.arange(len(colours), device=colours.device) if order is None else order
        cover = painting.covered(paths, height, width) * opacities[rows][:, None, None]
        if shown is None:
            return cover, colours[rows], ground
        return cover[shown[rows]], colours[rows][shown[rows]], ground

    @torch.no_grad()
    def _reorder(self, shapes: Tensor, strokes: Tensor) -> None:
        """Bring the rows of shapes and those of strokes into another order."""
        both = torch.cat([shapes, strokes + len(shapes)])
        for name, tensor in self.state_dict().items():
            if name != "ground":
                rows = {"points": shapes, "strokes": strokes, "widths": strokes}.get(name, both)
                tensor.copy_(tensor[rows].clone())

    @torch.no_grad()
    def _draft(self, picture: Tensor, begun: Tensor, there: Tensor | None = None) -> None:
        """Make the paths (P + Q,) that are ``begun`` discs, and bars or rings, where ``picture`` asks for most.

        ``there`` is what the others draw, if it is known.
        """
        count, paths = int(begun[: self.made.paths].sum()), self.made.paths
        if self.order is not None:
            front = torch.where(begun, len(begun) + torch.arange(len(begun), device=begun.device), self.order)
            self.order.copy_(front.argsort(stable=True).argsort().to(self.order))
        if self.opacities is not None:
            self.opacities[begun] = 0
        height, width = self._looked_at(*picture.shape[-2:])
        if (height, width) != tuple(picture.shape[-2:]):
            picture, there = F.adaptive_avg_pool2d(picture, (height, width)), None
        shown = ~begun
        if count:
            there = painting.over(*self._covers(width, height, shown)) if there is None else there
            discs = draft.where(picture, there, count)
            rows = begun[:paths].nonzero()[:, 0]
            self.points[rows] = circles(discs.centres * self.sides, discs.radii, self.made.segments) / REACH
            self.colours[rows] = toned(discs.colours)
            shown, there = shown.index_fill(0, rows, True), None
        if begun[paths:].any():
            there = painting.over(*self._covers(width, height, shown)) if there is None else there
            self._draft_strokes(picture, there, begun[paths:].nonzero()[:, 0])

    def _draft_strokes(self, picture: Tensor, there: Tensor, rows: Tensor) -> None:
        """Make these strokes bars, or rings, where ``picture`` asks for most beside what is ``there``."""
        assert self.strokes is not None and self.widths is not None  # noqa: S101 - there are some
        width, segments = self.made.stroke_width / 100, self.made.stroke_segments
        if self.made.closed_strokes:
            found = draft.rings(picture, there, len(rows), width)
            self.strokes[rows] = pens.ringed(found, self.sides, segments) / REACH
        else:
            found = draft.bars(picture, there, len(rows), width)
            self.strokes[rows] = pens.straight(found, self.sides, segments) / REACH
        self.widths[rows] = pens.widened(self.widths.new_tensor(width))
        self.colours[rows + self.made.paths] = toned(found.colours)

    def begun(self, picture: Tensor) -> Vector:
        """Discs and lines that cover what stands out most on the most frequent colour: where a fit begins."""
        made, picture = Vector(**self.config()), picture.cpu()
        ground = draft.ground_of(picture[0])
        with torch.no_grad():
            made.ground.copy_(toned(ground))
        blank = ground[:, None, None].expand(3, *picture.shape[-2:])
        made._draft(picture[0], torch.ones(len(made.colours), dtype=torch.bool), blank)
        return made.to(self.points.device)

    @classmethod
    def of_drawing(cls, drawing: Drawing, width: int, height: int, **options: str | float) -> Vector:
        """The shapes and strokes of an SVG document on a canvas, stretched to it; see `drawing.of_drawing`."""
        from .drawing import of_drawing

        return of_drawing(drawing, width, height, **options)

    def export(self, name: str) -> bytes:
        """picture.svg: the paths that are seen."""
        from .svg import write_svg

        check_choice("name", name, self.files)
        return write_svg(self).encode()


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) on the CPU; on the meta device, where only shapes are asked for, none."""
    made = torch.empty(shape, dtype=torch.float32)
    return made if made.is_meta else made.uniform_(generator=rng)
