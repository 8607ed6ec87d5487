"""A picture as vector graphics: filled shapes of cubic Bézier curves, painted one over the other.

    out <- ground,   then for each path, from back to front:   out <- out + a c_p (colour - out)

with the path's opacity a and its coverage c_p of the pixel (`coverage`). The gradient is that of the exact area: it
lives where an outline passes. (VectorFusion, Jain et al. 2022, distils into the same; DiffVG, Li et al. 2020, renders
it.)

Parameters are moved at one rate, so each is kept in a unit of its own: at Adam's 0.01 a point moves by .4 % of the
longer side a step, half a pixel of 128, and a colour or an opacity by 1.5 % of its range where it is in the middle.

A path that has become too small or too faint, is hidden or lies outside, has no gradient that would bring it back.
After an iteration it begins anew, as a disc on top, where the picture asks for most (`draft.where`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...randomness import Rng, seeded
from ...settings import check_settings, setting
from ...validation import check_choice, check_count
from ..base import SIDE, Canvas, Config, Generator, Moved, View
from ..paint import tone, toned
from . import draft
from .coverage import coverages
from .outline import areas, chords, circles, crossings, divided, lengths

if TYPE_CHECKING:
    from .svg import Drawing

MOST_PATHS, MOST_SEGMENTS = 4096, 512
REACH = 0.4
"""Longer sides of the canvas that a unit of a point is: the rate's unit."""
OUTSIDE = 1.0
"""How far beyond the edge, in sides of the picture, a point counts; farther out it lies there."""
KEPT = 2**24
"""Pixels, over all paths, of what a backward pass keeps; a larger picture is drawn in bands, each of them twice."""
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
PAINTS = ("opaque", "translucent")


@dataclass(frozen=True)
class VectorSettings:
    """What a vector picture is made of."""

    paths: int = setting(64, "shapes of the picture; fewer are bolder, and easier to edit", low=1, high=MOST_PATHS)
    segments: int = setting(
        4, "curves of a shape's outline; more give it more corners", low=2, high=MOST_SEGMENTS, usual=(2, 16)
    )
    paint: str = setting("opaque", "opaque: flat colours; translucent: each shape learns its opacity", choices=PAINTS)
    tidy: float = setting(
        0.02,
        "how strongly crossed and sliver-thin outlines are avoided; 0 = not at all",
        low=0,
        high=1e3,
        usual=(0, 1),
        expert=True,
    )
    simplify: float = setting(
        36.0,
        "shapes are left out of the SVG as long as the picture stays the same to this many dB; 99 keeps nearly all",
        low=10,
        high=99,
        usual=(20, 60),
        expert=True,
    )

    def __post_init__(self) -> None:
        check_settings(self)


class Vector(Generator):
    """Filled Bézier outlines on a plain ground.

    Args:
        width, height: of the canvas, in pixels.
        paths, segments, paint, tidy, simplify: as in `VectorSettings`.
        seed: of places, sizes and colours at the start: discs, the larger ones behind.

    Raises:
        ValueError: for a value out of range.
    """

    windows = True
    settings = VectorSettings
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, side in (("width", width), ("height", height)):
            check_count(name, side, maximum=SIDE)
        self.made = VectorSettings(paths, segments, paint, tidy, simplify)
        self.size, self.seed = (width, height), seed
        rng = seeded(seed)
        centres, colours = (_uniform((paths, k), rng) for k in (2, 3))
        radii = torch.logspace(math.log10(0.25), math.log10(0.04), paths)
        self.points = nn.Parameter(circles(centres * self.sides, radii, segments) / REACH)
        self.colours = nn.Parameter(toned(0.25 + 0.5 * colours))
        self.ground = nn.Parameter(torch.zeros(3))
        self.opacities = nn.Parameter(torch.zeros(paths)) if paint == "translucent" else None

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
        place = self.points * REACH / self.sides
        return place.clamp(-OUTSIDE, 1 + OUTSIDE) * place.new_tensor([width, height])

    def paints(self) -> tuple[Tensor, Tensor, Tensor]:
        """Colours (P, 3), opacities (P,) and the ground's colour (3,), all in [0, 1]."""
        colours, ground = tone(self.colours), tone(self.ground)
        if self.opacities is None:
            return colours, torch.ones_like(colours[:, 0]), ground
        return colours, tone(self.opacities + toned(self.opacities.new_tensor(DENSE))), ground

    def render(self, view: View) -> Tensor:
        """RGB in [0, 1], (1, 3, height, width) of the view's window, differentiable in the parameters."""
        down, right, height, width = view.box
        points, paints = self.outlines(view.width, view.height), self.paints()
        differentiated = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        bands = []
        for top, rows in self._bands(height, width):
            draw = partial(_painted, view=(down + top, right, rows, width))
            if differentiated and rows < height:
                again = checkpoint(draw, points, *paints, use_reentrant=False, preserve_rng_state=False)
                assert isinstance(again, Tensor)  # noqa: S101 - as `draw` gives it
                bands.append(again)
            else:
                bands.append(draw(points, *paints))
        return torch.cat(bands, dim=1)[None]

    def _bands(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """First row and number of rows of the bands that a picture is drawn in."""
        rows = max(1, min(height, KEPT // (width * self.made.paths)))
        for top in range(0, height, rows):
            yield top, min(rows, height - top)

    def renderer(self, view: View) -> Callable[[], Tensor]:
        """`render` of one view, to be called while the parameters change."""
        return partial(self.render, view)

    def penalty(self, view: View) -> Tensor | None:
        """``tidy`` times how crossed the curves are, and how thin the shapes, both 0 to 1 and a mean over the paths.

        A shape is thin once 4 pi area/length^2, 1 for a disc, is below `THIN`.
        """
        if self.made.tidy == 0:
            return None
        points = self.points * REACH
        thin = (1 - 4 * math.pi * areas(points).abs() / lengths(points).square() / THIN).relu()
        return self.made.tidy * (crossings(points).mean() + thin.mean())

    def tend(self, moved: Moved, rng: Rng) -> Mapping[str, Tensor]:
        """Paths that make no difference begin anew, on top, where the picture asks for most; at last none does."""
        if moved.step >= SETTLED * moved.steps or moved.pulled.shape[1] != 3:
            return {}
        height, width = moved.pulled.shape[-2:]
        stays = self.needed(width, height, VANISHED, max(1, self.made.paths // AT_ONCE))
        if stays.all():
            return {}
        order = torch.cat([stays.nonzero()[:, 0], (~stays).nonzero()[:, 0]])
        kept = int(stays.sum())
        self._reorder(order)
        now = _over(self._covers(width, height)[:kept], self.paints()[0], self.paints()[2])
        self._place(slice(kept, None), draft.where(moved.target[0].clamp(0, 1), now, len(order) - kept))
        source = torch.cat([order[:kept], torch.full_like(order[kept:], -1)])
        return {name: source for name, _ in self.named_parameters() if name != "ground"}

    @torch.no_grad()
    def needed(self, width: int, height: int, error: float, most: int = MOST_PATHS) -> Tensor:
        """Which paths (P,) a picture of a size needs: without the rest its mean squared error is at most ``error``.

        Args:
            width, height: in pixels.
            error: in units of the square of a colour, 0 to 1.
            most: paths that can be spared.
        """
        cover, (colours, _, ground) = self._covers(width, height), self.paints()
        whole, needed = _over(cover, colours, ground), torch.ones(len(cover), dtype=torch.bool, device=cover.device)
        count = max(1, len(cover) // AT_ONCE)
        while count:
            # two equal shapes, one over the other, are needed together and neither alone: so the sum is looked at
            kept = needed.nonzero()[:, 0]
            least = kept[_differences(cover[kept], colours[kept], ground).argsort()[:count]]
            fewer = needed.clone()
            fewer[least] = False
            spared = len(needed) - int(fewer.sum())
            if spared <= most and (_over(cover[fewer], colours[fewer], ground) - whole).square().mean() <= error:
                needed, count = fewer, min(count, int(fewer.sum()))
            else:
                count //= 2
        return needed

    def _covers(self, width: int, height: int) -> Tensor:
        """What each path paints of each pixel of the whole picture, (P, height, width)."""
        cover = coverages(chords(self.outlines(width, height), height, width), self.made.paths, height, width)
        return cover * self.paints()[1][:, None, None]

    def _reorder(self, order: Tensor) -> None:
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name != "ground":
                    parameter.copy_(parameter[order].clone())

    def _place(self, rows: slice, discs: draft.Discs) -> None:
        """Make paths of ``rows`` these discs, given in sides of the picture."""
        with torch.no_grad():
            centres = discs.centres * self.sides
            self.points[rows] = circles(centres, discs.radii, self.made.segments) / REACH
            self.colours[rows] = toned(discs.colours)
            if self.opacities is not None:
                self.opacities[rows] = 0

    def begun(self, picture: Tensor) -> Vector:
        """Discs that cover what stands out most, the ground of the most frequent colour: where a fit begins."""
        made, picture = Vector(**self.config()), picture.cpu()
        ground = draft.ground_of(picture[0])
        with torch.no_grad():
            made.ground.copy_(toned(ground))
        blank = ground[:, None, None].expand(3, *picture.shape[-2:])
        made._place(slice(None), draft.where(picture[0], blank, self.made.paths))
        return made.to(self.points.device)

    @classmethod
    def of_drawing(cls, drawing: Drawing, width: int, height: int, **options: str | float) -> Vector:
        """The shapes of an SVG document on a canvas, stretched to it; outlines with fewer curves are divided.

        Args:
            drawing: as `read_svg` gives it.
            width, height: of the canvas, in pixels.
            options: of `VectorSettings`, but for paths and segments, which are the document's.

        Raises:
            ValueError: it has no shapes, more than `MOST_PATHS`, or one of more than `MOST_SEGMENTS` curves.
        """
        shapes = drawing.shapes
        check_count("svg: shapes", len(shapes), maximum=MOST_PATHS)
        segments = max(2, *(len(shape.outline) for shape in shapes))
        check_count("svg: curves of a shape", segments, maximum=MOST_SEGMENTS)
        made = cls(width, height, paths=len(shapes), segments=segments, **options)  # pyright: ignore[reportArgumentType]
        outlines = torch.stack([divided(shape.outline, segments) for shape in shapes])
        with torch.no_grad():
            sides = torch.tensor([drawing.width, drawing.height])
            made.points.copy_(outlines / sides * made.sides / REACH)
            made.colours.copy_(toned(torch.tensor([shape.colour for shape in shapes])))
            if made.opacities is not None:
                own = toned(torch.tensor([shape.opacity for shape in shapes]))
                made.opacities.copy_(own - toned(torch.tensor(DENSE)))
            made.ground.copy_(toned(torch.tensor(drawing.ground)))
        return made

    def export(self, name: str) -> bytes:
        """picture.svg: the shapes that are seen."""
        from .svg import write_svg

        check_choice("name", name, self.files)
        return write_svg(self).encode()


def _painted(
    points: Tensor, colours: Tensor, opacities: Tensor, ground: Tensor, view: tuple[int, int, int, int]
) -> Tensor:
    """RGB (3, height, width) of a window: top, left, height, width."""
    top, left, height, width = view
    pieces = chords(points - points.new_tensor([left, top]), height, width)
    return _over(coverages(pieces, len(points), height, width) * opacities[:, None, None], colours, ground)


def _over(cover: Tensor, colours: Tensor, ground: Tensor) -> Tensor:
    """RGB (3, height, width) of paths painted one over the other, each with its share (height, width) of the pixels."""
    out = ground[:, None, None].expand(3, *cover.shape[1:])
    # `unbind`, since indexing in the loop would make a gradient of the whole stack for each path
    for one, colour in zip(cover.unbind(), colours.unbind(), strict=False):
        out = torch.lerp(out, colour[:, None, None].expand_as(out), one.expand_as(out))
    return out


def _differences(cover: Tensor, colours: Tensor, ground: Tensor) -> Tensor:
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


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) on the CPU; on the meta device, where only shapes are asked for, none."""
    made = torch.empty(shape, dtype=torch.float32)
    return made if made.is_meta else made.uniform_(generator=rng)
