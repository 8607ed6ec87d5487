"""Vector pictures: outlines, coverage against closed forms and another renderer, upkeep, and SVG both ways."""

from __future__ import annotations

import io
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from msd_core.generators import Vector, View, fit, load_generator, read_svg, save_generator
from msd_core.generators.base import Moved
from msd_core.generators.vector import shapes
from msd_core.generators.vector.coverage import coverages, windings
from msd_core.generators.vector.outline import areas, chords, circles, crossings, curves, halved
from msd_core.generators.vector.svg import write_svg
from msd_core.optimize import optimize, start

pytestmark = pytest.mark.core


def polygon(*corners: tuple[float, float]) -> Tensor:
    """An outline (1, S, 3, 2) of straight lines."""
    begin = torch.tensor(corners, dtype=torch.float64)
    along = begin.roll(-1, dims=0) - begin
    return torch.stack([begin, begin + along / 3, begin + 2 * along / 3], dim=1)[None]


def circle(x: float, y: float, radius: float, segments: int = 4) -> Tensor:
    return circles(torch.tensor([[x, y]], dtype=torch.float64), torch.tensor([radius], dtype=torch.float64), segments)


def drawn(outline: Tensor, height: int, width: int) -> Tensor:
    return coverages(chords(outline), len(outline), height, width)


def test_a_rectangle_s_coverage_is_its_area_in_each_pixel() -> None:
    """Closed form: the product of the shares of its sides."""
    left, top, right, bottom = 3.25, 2.5, 10.75, 7.25
    share = [(torch.arange(n).double() + 1).clamp(max=b) - torch.arange(n).double().clamp(min=a) for n, a, b in
             ((10, top, bottom), (14, left, right))]  # fmt: skip
    rows, columns = (part.clamp(min=0) for part in share)
    found = drawn(polygon((left, top), (right, top), (right, bottom), (left, bottom)), 10, 14)
    torch.testing.assert_close(found[0], rows[:, None] * columns, atol=1e-9, rtol=0)


def test_a_half_plane_cuts_pixels_at_their_diagonal() -> None:
    found = drawn(polygon((0, 0), (8, 8), (0, 8)), 8, 8)[0]
    torch.testing.assert_close(found, torch.full((8, 8), 1.0).double().tril() - 0.5 * torch.eye(8).double())


@pytest.mark.parametrize("segments", [3, 4, 8])
def test_the_sum_of_the_coverage_is_the_area(segments: int) -> None:
    outline = circle(20.3, 17.8, 9.7, segments)
    area = float(areas(outline))
    assert area == pytest.approx(math.pi * 9.7**2, rel=2e-3)  # what a cubic arc is off by
    assert float(drawn(outline, 40, 44).sum()) == pytest.approx(area, rel=2e-3)  # and what chords cut off


def test_the_winding_number_has_the_sign_of_the_area() -> None:
    """A planted sign error would be seen here: reversed, both change it."""
    outline = circle(6, 6, 4)
    backwards = outline.flip(1)
    backwards = torch.stack(
        [backwards[:, :, 0], outline.roll(1, 1).flip(1)[:, :, 2], outline.roll(1, 1).flip(1)[:, :, 1]], 2
    )
    for one, sign in ((outline, 1), (backwards, -1)):
        found = windings(chords(one), 1, 12, 12)
        assert sign * float(areas(one)) > 0 and sign * float(found.sum()) > 40


def test_what_lies_left_of_the_picture_covers_it_and_what_lies_right_does_not() -> None:
    around = circle(5, 5, 400)
    assert torch.equal(drawn(around, 10, 10), torch.ones(1, 10, 10, dtype=torch.float64))
    for x, y in ((-30, 5), (40, 5), (5, -30), (5, 40)):
        assert float(drawn(circle(x, y, 9), 10, 10).abs().max()) < 1e-9


def test_a_window_has_the_pixels_of_the_whole() -> None:
    vector = Vector(40, 30, paths=12, seed=3)
    whole = vector.render(View(60, 80))
    part = vector.render(View(60, 80, (13, 22, 17, 31)))
    torch.testing.assert_close(part, whole[..., 13:30, 22:53], atol=1e-5, rtol=0)


def test_gradients_are_those_of_finite_differences() -> None:
    """Of coverage with respect to points: exact, since no sampling is in it; a gradient with the sign of y flipped
    fails."""
    outline = circle(6.3, 5.1, 3.7).requires_grad_()
    weight = torch.linspace(-1, 1, 140).double().view(1, 10, 14).sin()

    def loss(points: Tensor) -> Tensor:
        return (coverages(chords(points), 1, 10, 14) * weight).sum()

    assert torch.autograd.gradcheck(loss, outline, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss(outline), outline)
    step = torch.zeros_like(outline)
    step[0, 1, 0, 1] = 1e-4
    with torch.no_grad():
        slope = float(loss(outline + step) - loss(outline - step)) / 2e-4
    assert float(gradient[0, 1, 0, 1]) == pytest.approx(slope, rel=1e-3) and abs(slope) > 1e-2


def test_colours_opacities_and_ground_have_the_gradient_of_the_picture() -> None:
    vector = Vector(12, 10, paths=3, paint="translucent", seed=1).double()
    names = [name for name, _ in vector.named_parameters() if name != "points"]

    def loss(*values: Tensor) -> Tensor:
        found = torch.func.functional_call(vector, dict(zip(names, values, strict=True)), (View(10, 12),))
        return found.square().sum()

    vector.forward = vector.render  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(
        loss, [p.detach().requires_grad_() for n, p in vector.named_parameters() if n in names]
    )


@pytest.mark.parametrize(
    "points",
    [
        torch.zeros(1, 4, 3, 2),
        torch.full((1, 4, 3, 2), 7.0),
        circles(torch.tensor([[1e5, -1e5]]), torch.tensor([1e5]), 4),
        torch.linspace(0, 8, 24).view(1, 4, 3, 2),
        torch.tensor([[0.0, 5], [8, 5], [0, 5]]).repeat(4, 1).view(1, 4, 3, 2),
    ],
)
def test_degenerate_outlines_have_numbers_and_gradients(points: Tensor) -> None:
    vector = Vector(8, 8, paths=1)
    with torch.no_grad():
        vector.points.copy_(points / 8 / shapes.REACH)
    picture, penalty = vector.render(View(8, 8)), vector.penalty(View(8, 8))
    assert penalty is not None
    gradients = torch.autograd.grad(picture.sum() + penalty, [vector.points, vector.colours, vector.ground])
    assert all(torch.isfinite(part).all() for part in (picture, penalty, *gradients))


def test_crossed_curves_are_told_from_open_ones() -> None:
    crossed = torch.tensor([[[0.0, 0], [9, 9], [-3, 9]], [[6, 0], [7, -3], [0, -3]]])[None]
    assert float(crossings(circle(5, 5, 3)).max()) == 0 and float(crossings(crossed).max()) > 0.3


def test_a_divided_outline_is_the_same_line() -> None:
    outline = circle(9, 8, 6, 3)
    many = halved(curves(outline)[0], 11)[None, :, :3]
    assert many.shape == (1, 11, 3, 2) and float(areas(many)) == pytest.approx(float(areas(outline)), rel=1e-9)
    torch.testing.assert_close(drawn(many, 16, 18), drawn(outline, 16, 18), atol=0.02, rtol=0)


def test_large_pictures_are_drawn_in_bands_with_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = Vector(24, 20, paths=6, seed=2)
    found = []
    for kept in (shapes.KEPT, 6 * 24 * 7):
        monkeypatch.setattr(shapes, "KEPT", kept)
        picture = vector.render(View(20, 24))
        found.append((picture, *torch.autograd.grad(picture.square().sum(), [vector.points, vector.ground])))
    for whole, bands in zip(*found, strict=True):
        torch.testing.assert_close(bands, whole, atol=2e-4, rtol=1e-4)


def resvg(document: str, width: int, height: int) -> Tensor:
    """The picture (3, height, width) that resvg makes of an SVG."""
    module = pytest.importorskip(
        "resvg_py", reason="resvg-py, the independent renderer, is not installed: pip install resvg-py"
    )
    from PIL import Image

    made = bytes(module.svg_to_bytes(svg_string=document, width=width, height=height))
    return torch.from_numpy(np.array(Image.open(io.BytesIO(made)).convert("RGB"))).movedim(-1, 0) / 255


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float((a - b).double().square().mean()))


@pytest.mark.parametrize("paint", shapes.PAINTS)
@pytest.mark.parametrize(("paths", "size"), [(8, 64), (32, 128), (128, 256)])
def test_another_renderer_draws_the_same(paths: int, size: int, paint: str) -> None:
    """Random scenes with random outlines, crossings and all, at the canvas's size and twice of it: >= 35 dB; and a
    shape that is missing is seen."""
    vector = Vector(size, size, paths=paths, paint=paint, simplify=99.0, seed=paths)
    with torch.no_grad():
        vector.points.add_(torch.randn(vector.points.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
        document = write_svg(vector)
        for side in (size, 2 * size):
            assert psnr(resvg(document, side, side), vector.render(View(side, side))[0]) > 35
    lines = document.splitlines()
    assert psnr(resvg("\n".join([*lines[:-2], lines[-1]]), size, size), resvg(document, size, size)) < 60


def test_svg_there_and_back() -> None:
    vector = Vector(64, 48, paths=9, paint="translucent", simplify=99.0, seed=4)
    again = Vector.of_drawing(read_svg(write_svg(vector)), 64, 48, paint="translucent")
    with torch.no_grad():
        assert psnr(again.render(View(48, 64)), vector.render(View(48, 64))) > 45


def test_what_tracers_and_editors_write_is_read() -> None:
    document = """<?xml version="1.0"?><!-- a tracer --><svg xmlns="http://www.w3.org/2000/svg" width="20" height="10">
    <metadata><![CDATA[{"prompt": "<svg>"}]]></metadata>
    <g fill="#ff0000" transform="translate(2,1)"><path d="m0 0 h4v4l-4 0z M10 0 c1 0 2 1 2 2 L10,2"/></g>
    <path style="fill:rgb(0, 0, 255); fill-opacity:50%" d="M0,5L5,5 5,10Z" transform="translate(1)"/></svg>"""
    drawing = read_svg(document)
    assert (drawing.width, drawing.height, drawing.ground) == (20, 10, (1.0, 1.0, 1.0))
    assert [(len(s.outline), s.colour, s.opacity) for s in drawing.shapes] == [
        (4, (1.0, 0.0, 0.0), 1.0), (3, (1.0, 0.0, 0.0), 1.0), (3, (0.0, 0.0, 1.0), 0.5),
    ]  # fmt: skip
    assert drawing.shapes[0].outline[0, 0].tolist() == [2, 1] and drawing.shapes[2].outline[1, 0].tolist() == [6, 5]


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "no XML"),
        ("<html/>", "begins with"),
        ('<!DOCTYPE svg [<!ENTITY a "aaaa">]>' + SVG.format(""), "document type"),
        (SVG.format('<script>fetch("x")</script>'), "script"),
        (SVG.format('<image href="file:///etc/passwd"/>'), "image"),
        (SVG.format('<use href="http://example.org/x.svg#a"/>'), "use"),
        (SVG.format("<style>path { fill: red }</style>"), "style sheet"),
        (SVG.format("<g>" * 40 + "</g>" * 40), "nested"),
        (SVG.format('<path d="M0 0 L 1e999 3 Z"/>'), "number"),
        (SVG.format('<path d="M0 0 A 1 1 0 0 0 3 3 Z"/>'), "'A'"),
        (SVG.format('<path d="M0 0 C 1 1 2"/>'), "3 of the 6"),
        (SVG.format('<path d="0 0 L 3 3"/>'), "without a letter"),
        (SVG.format('<path d="M0 0 L 9 0 9 9 0 9 Z M3 3 L3 6 6 6 6 3 Z"/>'), "hole"),
        (SVG.format('<path stroke="red" d="M0 0 L 3 3"/>'), "stroke"),
        (SVG.format('<path fill="url(#g)" d="M0 0 L 3 3 3 0"/>'), "colour"),
        (SVG.format('<path transform="rotate(3)" d="M0 0 L 3 3"/>'), "transform"),
        (SVG.format('<path style="transform:translate(1px)" d="M0 0 L 3 3"/>'), "transform: got one in a style"),
        (SVG.format('<path fill-rule="evenodd" d="M0 0H9V9H0Z M3 3H6V6H3Z"/>'), "fill-rule"),
        (SVG.format('<path fill-rule="evenodd" d="M4 0L7 9L0 3H9L2 9Z"/>'), "fill-rule"),
        (SVG.format('<rect width="9" height="9" rx="2"/>'), "rounded corners"),
        (SVG.format('<g filter="url(#a)"><path d="M0 0 L 3 3 3 0"/></g>'), "filter: got"),
        (SVG.format('<path mask="url(#a)" d="M0 0 L 3 3 3 0"/>'), "mask: got"),
        (SVG.format('<path style="mix-blend-mode:multiply" d="M0 0 L 3 3 3 0"/>'), "mix-blend-mode: got"),
        (SVG.format('<path clip-path="url(#a)" d="M0 0 L 3 3 3 0"/>'), "clip-path: got 'a'"),
        (SVG.format('<clipPath id="a"><rect width="5" height="9"/></clipPath><g clip-path="url(#a)"/>'), "clip-path"),
        ('<svg xmlns="http://www.w3.org/2000/svg"/>', "size"),
        ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 0 9"/>', "size"),
        (b"\xff" * 9, "no XML"),
        (7, "bytes"),
        ("<svg>" + " " * 2**24, "bytes"),
    ],
)
def test_a_foreign_or_hostile_svg_is_refused(document: str, says: str) -> None:
    with pytest.raises(ValueError, match="svg|colour") as caught:
        Vector.of_drawing(read_svg(document), 16, 16)
    assert says in str(caught.value)


def picture_of(inner: str, root: str = "", paint: str = "opaque", side: int = 64) -> Tensor:
    """What is made of a document of 64 x 64 units, (3, side, side)."""
    document = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" {root}>{inner}</svg>'
    with torch.no_grad():
        return Vector.of_drawing(read_svg(document), side, side, paint=paint).render(View(side, side))[0]


PAGE = '<defs><clipPath id="page"><rect width="64" height="64"/></clipPath></defs>'
RED = '<path fill="#ff0000" d="M8 8H56V56H8Z"/>'


@pytest.mark.parametrize(
    ("inner", "seen"),
    [
        (RED, True),
        (f'<g style="display:none">{RED}</g>', False),
        (f'<g display="none"><g display="inline">{RED}</g></g>', False),
        (f'<g visibility="hidden">{RED}</g>', False),
        (f'<g visibility="hidden"><g visibility="visible">{RED}</g></g>', True),
        (f'<g clip-path="url(#page)">{RED}</g>{PAGE}', True),
        ('<path fill="#ff0000" fill-rule="evenodd" d="M8 8H56V56H8Z"/>', True),
        ('<path fill="#ff0000" fill-rule="evenodd" d="M8 8H40V56H8Z M44 8H56V56H44Z"/>', True),
    ],
)  # fmt: skip
def test_what_is_hidden_is_not_drawn(inner: str, seen: bool) -> None:
    ground = '<path fill="#ffffff" d="M0 0H1V1H0Z"/>'
    assert (float(picture_of(ground + inner)[1, 32, 32]) < 0.1) == seen


def test_opacity_of_a_group_and_of_what_is_in_it() -> None:
    half = RED.replace("/>", ' opacity="50%"/>')
    found = picture_of(f'<g opacity=".5">{half}</g>', paint="translucent")
    assert float(found[1, 32, 32]) == pytest.approx(0.75, abs=0.02)
    with pytest.raises(ValueError, match="opacity 0.5 with paint 'opaque'.*Set paint to 'translucent'"):
        picture_of(half)


@pytest.mark.parametrize("far", [10.0, 300.0, 3000.0])
def test_what_begins_far_outside_is_the_same_inside(far: float) -> None:
    """An edge from (-far, 0) to the picture's corner, against the line itself."""
    found = picture_of(f'<path fill="#000000" d="M-{far:g} 0L64 64L-{far:g} 64Z"/>')[0]
    edge = 64 * (4.5 + far) / (64 + far)
    white, black = found[0, 60], found[63, 4]
    assert float(((found[:, 4] - black) / (white - black)).sum()) == pytest.approx(edge, abs=0.1)


def test_a_path_of_many_curves_beside_many_others_is_read_at_once() -> None:
    zigzag = "M0 0" + "".join(f"L{i / 5:g} {i % 2 * 9 + 9}" for i in range(300)) + "L60 0Z"
    begun = time.process_time()
    inner = f'<path d="{zigzag}"/>' + RED * 100
    document = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{inner}</svg>'
    made = Vector.of_drawing(read_svg(document), 64, 64)
    assert made.made.segments >= 300 and time.process_time() - begun < 10


def test_a_large_picture_is_looked_at_as_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what makes a difference, and of where paths begin anew, no more is held than is allowed."""
    vector, held = Vector(96, 64, paths=8, seed=1), []
    whole = Vector._covers

    def covers(self: Vector, width: int, height: int, *more: object) -> object:
        held.append(width * height)
        return whole(self, width, height, *more)

    monkeypatch.setattr(Vector, "_covers", covers)
    found = vector.needed(96, 64, 1e-5)
    assert held == [96 * 64]
    monkeypatch.setattr("msd_core.generators.vector.shapes.HELD", 8 * 24 * 16)
    assert torch.equal(vector.needed(96, 64, 1e-5), found) and held[-1] == 24 * 16
    vector._draft(torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0)), torch.arange(8) > 5)
    assert max(held[1:]) <= 24 * 16


def test_an_svg_without_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="svg: draws no path"):
        Vector.of_drawing(read_svg(SVG.format("")), 16, 16)


def test_paths_that_make_no_difference_begin_anew_on_top_where_the_picture_asks_for_most() -> None:
    """The optimiser forgets what it knew of them, and follows the others."""
    vector = Vector(32, 32, paths=4, seed=5)
    with torch.no_grad():
        vector.points[1] = vector.points[1, :1, :1]  # a point: nothing is seen of it
    before = vector.points.detach().clone()
    pulled = vector.render(vector.canvas.view).detach()
    target = pulled.clone()
    target[..., 20:28, 4:12] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    moved = vector.tend(Moved(0, 10, vector.canvas.view, pulled, target), torch.Generator())
    assert {name: source.tolist() for name, source in moved.items()} == {
        n: [0, 2, 3, -1] for n in ("points", "colours")
    }
    assert torch.equal(vector.points[:3], before[[0, 2, 3]])
    new = vector.outlines(32, 32)[3].detach()
    assert abs(float(new[..., 0].mean()) - 8) < 3 and abs(float(new[..., 1].mean()) - 24) < 3
    assert vector.paints()[0][3, 0] > 0.7 and not vector.tend(
        Moved(9, 10, vector.canvas.view, pulled, target), torch.Generator()
    )


def test_two_equal_shapes_are_not_both_spared() -> None:
    vector = Vector(32, 32, paths=3, seed=5)
    with torch.no_grad():
        for parameter in (vector.points, vector.colours):
            parameter[1:] = parameter[0].clone()
    assert int(vector.needed(32, 32, 1e-3).sum()) == 1


def test_a_fit_shows_the_picture_and_keeps_its_outlines_tidy() -> None:
    picture = torch.ones(1, 3, 48, 48) * 0.8
    picture[..., 10:30, 8:40] = torch.tensor([0.2, 0.3, 0.7])[:, None, None]
    picture[..., 20:44, 24:36] = torch.tensor([0.9, 0.3, 0.1])[:, None, None]
    *_, last = fit(Vector(48, 48, paths=8), picture, steps=150)
    assert last.psnr is not None and last.psnr > 30
    free = Vector(48, 48, paths=8, tidy=0.0)
    assert free.penalty(View(48, 48)) is None


def test_distilled_by_any_method_and_saved(tmp_path) -> None:  # noqa: ANN001
    """A method that pulls towards a picture: the loop moves points and colours, and a file draws the same."""
    goal = torch.full((1, 3, 24, 24), 0.2)
    goal[..., 6:18, 6:18] = 0.9

    from msd_core.info import measure

    def towards(x: Tensor, denoiser, *, step: int, steps: int, rng) -> tuple:  # noqa: ANN001
        return x - goal, measure(x - goal, 1)

    first = start(Vector(24, 24, paths=6, seed=1), steps=40)
    *_, last = optimize(first, towards, lambda z, sigma: z, inner_steps=3)
    error = float((last.picture() - goal).square().mean())
    assert error < 0.1 * float((first.picture() - goal).square().mean())
    save_generator(last.generator, tmp_path / "g.safetensors")
    again = load_generator(tmp_path / "g.safetensors")
    assert torch.equal(again.render(View(24, 24)), last.generator.render(View(24, 24)))
    assert b"<svg" in again.export("picture.svg")
    assert replace(last, step=0).generator is last.generator


@pytest.mark.parametrize(
    "wrong", [{"paths": 0}, {"segments": 1}, {"paint": "oil"}, {"tidy": -1.0}, {"simplify": 3.0}, {"width": 0}]
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Vector(**{"width": 8, "height": 8, **wrong})
