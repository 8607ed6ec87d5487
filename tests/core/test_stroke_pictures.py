"""Pictures of strokes, alone and among shapes: drawn as another renderer does, upkeep, files, and SVG both ways."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from msd_core.cli.main import main
from msd_core.generators import Batch, Vector, View, fit, load_generator, read_svg, save_generator
from msd_core.generators.base import Moved
from msd_core.generators.vector import pens, shapes
from msd_core.generators.vector.drawing import Shape, Stroke
from msd_core.generators.vector.settings import THICKEST, THINNEST
from msd_core.generators.vector.svg import write_svg
from msd_core.info import measure
from msd_core.memory import step_bytes
from msd_core.optimize import optimize, start
from msd_core.tensorfile import read_tensors, write_tensors

pytestmark = pytest.mark.core


def resvg(document: str, width: int, height: int) -> Tensor:
    """The picture (3, height, width) that resvg makes of an SVG."""
    module = pytest.importorskip(
        "resvg_py", reason="resvg-py, the independent renderer, is not installed: pip install resvg-py"
    )
    from PIL import Image

    made = bytes(module.svg_to_bytes(svg_string=document, width=width, height=height))
    return torch.from_numpy(np.array(Image.open(io.BytesIO(made)).convert("RGB"))).movedim(-1, 0) / 255


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(max(1e-12, float((a - b).double().square().mean())))


def shown(vector: Vector, width: int, height: int) -> Tensor:
    with torch.no_grad():
        return vector.render(View(height, width))[0]


def scene(count: int, size: int, *, alone: bool, **options: bool | str | float) -> Vector:
    """Strokes of many widths, in any order with as many shapes, or alone."""
    paths = 0 if alone else count // 2
    vector = Vector(size, size, paths=paths, strokes=count - paths, simplify=99.0, seed=count, **options)
    assert vector.strokes is not None and vector.widths is not None and vector.order is not None
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        vector.points.add_(torch.randn(vector.points.shape, generator=rng) * 0.05)
        vector.strokes.add_(torch.randn(vector.strokes.shape, generator=rng) * 0.05)
        vector.widths.add_(torch.randn(vector.widths.shape, generator=rng) * 0.1)
        vector.order.copy_(torch.randperm(count, generator=rng))
    return vector


@pytest.mark.parametrize(
    ("count", "size", "options"),
    [
        (8, 64, {"alone": True}),
        (32, 64, {"alone": False, "paint": "translucent"}),
        (128, 64, {"alone": True, "paint": "translucent"}),
        (32, 128, {"alone": True, "closed_strokes": True}),
        (128, 256, {"alone": False}),
        (64, 512, {"alone": True, "stroke_segments": 1}),
    ],
)
def test_another_renderer_draws_the_same(count: int, size: int, options: dict) -> None:
    """>= 35 dB at the canvas's size and, where that is small, at twice of it; a stroke that is missing is seen."""
    vector = scene(count, size, **options)
    document = write_svg(vector)
    assert document.count("<path") > 0.5 * count
    for side in (size, 2 * size) if size < 200 else (size,):
        assert psnr(resvg(document, side, side), shown(vector, side, side)) > 35
    lines = document.splitlines()
    last = max(i for i, line in enumerate(lines) if "stroke-width" in line)
    assert psnr(resvg("\n".join(lines[:last] + lines[last + 1 :]), size, size), resvg(document, size, size)) < 65


def test_svg_there_and_back_keeps_order_width_and_kind() -> None:
    for options in ({"alone": False, "paint": "translucent"}, {"alone": True, "closed_strokes": True}):
        vector = scene(12, 64, **options)
        paint = options.get("paint", "opaque")
        again = Vector.of_drawing(read_svg(write_svg(vector)), 64, 64, paint=paint)
        assert again.made.closed_strokes == vector.made.closed_strokes
        assert psnr(shown(again, 64, 64), shown(vector, 64, 64)) > 45
        larger = Vector.of_drawing(read_svg(write_svg(vector)), 32, 32, paint=paint)
        assert psnr(shown(larger, 64, 64), shown(vector, 64, 64)) > 45


def test_the_file_is_small() -> None:
    """As attributes of a group, what is the same of all strokes costs nothing."""
    document = write_svg(scene(64, 512, alone=True))
    assert len(document) < 170 * document.count("<path") and document.count("stroke-linecap") == 1


def test_what_editors_write_is_read() -> None:
    document = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20">
    <g stroke="#ff0000" stroke-linecap="round" stroke-linejoin="round" stroke-width="10%" transform="translate(1,2)">
    <path fill="none" d="M0 0h4c1 1 2 1 3 0"/></g>
    <path style="fill:#00ff00;stroke:#0000ff;stroke-width:2px;stroke-linecap:round;stroke-linejoin:round;
     stroke-opacity:.5;stroke-dasharray:none" d="M10 10h5v5z"/>
    <path stroke="#123456" stroke-width="0" d="M0 5h9v3z"/><path fill="none" d="M1 1L9 9"/>
    <rect x="2" y="3" width="4" height="5" fill="none" stroke="#fff" stroke-linecap="round" stroke-linejoin="round"/>
    </svg>"""
    with pytest.raises(ValueError, match="stroke-width"):
        read_svg(document)
    found = read_svg(document.replace("10%", "3")).shapes
    assert [type(path) for path in found] == [Stroke, Shape, Stroke, Shape, Stroke]
    first, fill, border, plain, box = found
    assert isinstance(first, Stroke) and first.width == 3 and not first.closed and len(first.curves) == 2
    assert first.curves[0, 0].tolist() == [1, 2] and first.curves[-1, 3].tolist() == [8, 2]
    assert fill.colour == (0, 1, 0) and border.colour == (0, 0, 1) and border.opacity == 0.5
    assert isinstance(border, Stroke) and border.closed and len(border.curves) == 3 and border.width == 2
    assert isinstance(plain, Shape) and isinstance(box, Stroke) and box.width == 1 and len(box.curves) == 4


ROUND = 'stroke="red" stroke-linecap="round" stroke-linejoin="round"'
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ('<path stroke="red" stroke-linejoin="round" d="M0 0 L 3 3"/>', "stroke-linecap"),
        ('<path stroke="red" stroke-linecap="round" d="M0 0 L 3 3"/>', "stroke-linejoin"),
        (f'<path {ROUND} stroke-dasharray="1 2" d="M0 0 L 3 3"/>', "stroke-dasharray"),
        (f'<path {ROUND} paint-order="stroke" d="M0 0 L 3 3"/>', "paint-order"),
        (f'<path {ROUND} vector-effect="non-scaling-stroke" d="M0 0 L 3 3"/>', "vector-effect"),
        (f'<path {ROUND} stroke-width="-1" d="M0 0 L 3 3"/>', "stroke-width"),
        (f'<path {ROUND} stroke-width="1mm" d="M0 0 L 3 3"/>', "length"),
        (f'<path {ROUND} stroke-width="9" fill="none" d="M0 0 L 3 3"/>', "25 %"),
        (f'<path {ROUND} stroke-width="1e-5" fill="none" d="M0 0 L 3 3"/>', "0.02"),
        (f'<path {ROUND} opacity=".5" d="M0 0 L 3 3 0 3"/>', "opacity"),
        (f'<path {ROUND} fill="none" d="M0 0 L 1e30 3"/>', "above 1e"),
        ('<path stroke="url(#g)" d="M0 0 L 3 3"/>', "colour"),
        ('<path stroke="red; javascript:x" d="M0 0 L 3 3"/>', "colour"),
        (f"<line {ROUND} x2='9'/>", "line"),
    ],
)
def test_strokes_that_would_be_drawn_otherwise_are_refused(path: str, says: str) -> None:
    with pytest.raises(ValueError, match="svg|colour") as caught:
        Vector.of_drawing(read_svg(SVG.format(path)), 16, 16)
    assert says in str(caught.value)


def test_open_and_closed_strokes_of_one_document_look_as_they_are() -> None:
    path = 'fill="none" stroke-width="2"'
    ground = '<rect width="9" height="9" fill="#ddd"/>'
    document = SVG.format(f'{ground}<path {ROUND} {path} d="M1 1L8 2"/><path {ROUND} {path} d="M2 4h5v3z"/>')
    document = document.replace("red", "#c83232")  # a colour at an end of its range is drawn 2 % off it
    made = Vector.of_drawing(read_svg(document), 90, 90)
    assert not made.made.closed_strokes and psnr(shown(made, 90, 90), resvg(document, 90, 90)) > 35
    assert '<path d="M10 10C' in write_svg(made)


def test_a_window_and_bands_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same picture, and the same gradient."""
    vector = scene(10, 40, alone=False)
    whole = vector.render(View(60, 80))
    part = vector.render(View(60, 80, (13, 22, 17, 31)))
    torch.testing.assert_close(part, whole[..., 13:30, 22:53], atol=1e-5, rtol=0)
    found = []
    for kept in (shapes.KEPT, 10 * 80 * 7):
        monkeypatch.setattr(shapes, "KEPT", kept)
        picture = vector.render(View(60, 80))
        of = [vector.points, vector.strokes, vector.widths, vector.colours]
        found.append((picture, *torch.autograd.grad(picture.square().sum(), of)))
    for once, bands in zip(*found, strict=True):
        torch.testing.assert_close(bands, once, atol=2e-3, rtol=2e-4)
    assert step_bytes("vector", 64, 64, None, {"paths": 0, "strokes": 64}) == step_bytes(
        "vector", 64, 64, None, {"paths": 64}
    )


def test_a_batch_draws_what_each_draws() -> None:
    one, two = (Vector(20, 24, paths=2, strokes=3, seed=seed) for seed in (1, 2))
    batch = Batch([one, two])
    both = batch.render(batch.frame(24, 20))
    for row, vector in zip(both, (one, two), strict=True):
        torch.testing.assert_close(row, vector.render(View(24, 20))[0], atol=1e-6, rtol=0)


def test_widths_stay_between_their_bounds() -> None:
    parameter = torch.tensor([-1e6, -3.0, 0.0, 3.0, 1e6])
    widths = pens.wide(parameter)
    assert THINNEST * 0.999 <= float(widths.min()) and float(widths.max()) <= THICKEST * 1.001
    asked = torch.tensor([THINNEST, 1e-3, 0.02, 0.2, THICKEST])
    torch.testing.assert_close(pens.wide(pens.widened(asked)), asked, rtol=2e-3, atol=0)
    share = pens.wide(pens.widened(asked) + 0.01) / asked - 1
    assert 0 < float(share[:4].min()) and float(share.max()) < 0.06  # a step of Adam


def goal(width: int = 40, height: int = 32) -> Tensor:
    """A thick red line on a pale ground."""
    picture = torch.full((1, 3, height, width), 0.85)
    picture[..., 10:16, 6:34] = torch.tensor([0.8, 0.1, 0.1])[:, None, None]
    return picture


def test_a_fit_finds_the_line_and_its_width() -> None:
    *_, last = fit(Vector(40, 32, paths=0, strokes=1, stroke_width=4.0), goal(), steps=200)
    assert last.psnr is not None and last.psnr > 25
    widths = last.generator.lines(40, 32)[1].detach()
    assert float(widths.max()) == pytest.approx(6, abs=1.2)
    *_, pen = fit(Vector(40, 32, paths=0, strokes=2, stroke_width=4.0, fixed_width=True), goal(), steps=20)
    torch.testing.assert_close(pen.generator.lines(40, 32)[1], torch.full((2,), 1.6), rtol=1e-3, atol=0)
    assert write_svg(pen.generator).count('stroke-width="1.6"') == 2


@pytest.mark.parametrize("options", [{}, {"closed_strokes": True}, {"paths": 3}])
def test_a_draft_is_nearer_to_the_picture_than_its_ground(options: dict) -> None:
    picture = goal()
    made = Vector(40, 32, **{"paths": 0, "strokes": 6, "stroke_width": 8.0, **options}).begun(picture)
    bare = float((picture - made.paints()[2].detach()[:, None, None]).square().mean())
    assert float((shown(made, 40, 32) - picture[0]).square().mean()) < 0.75 * bare


def test_strokes_that_make_no_difference_begin_anew_in_front() -> None:
    """A stroke outside, and a shape that is a point; the optimiser forgets them, and follows the others."""
    vector = Vector(32, 32, paths=8, strokes=8, stroke_width=6.0, seed=5)
    assert vector.strokes is not None and vector.order is not None
    with torch.no_grad():
        vector.points[1] = vector.points[1, :1, :1]
        vector.strokes[3] = vector.strokes[3] * 0 - 2.0
        vector.order.copy_(vector.order.flip(0))
    before = {name: tensor.clone() for name, tensor in vector.state_dict().items()}
    pulled = shown(vector, 32, 32)[None]
    target = pulled.clone()
    target[..., 20:24, 4:26] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    stays = vector.needed(32, 32, shapes.VANISHED, 2)
    assert not stays[1] and not stays[11]
    moved = vector.tend(Moved(0, 10, vector.canvas.view, pulled, target), torch.Generator())
    assert set(moved) == {"points", "strokes", "widths", "colours"}
    assert moved["points"].tolist() == [0, *range(2, 8), -1]
    assert moved["strokes"].tolist() == [0, 1, 2, 4, 5, 6, 7, -1] == moved["widths"].tolist()
    assert moved["colours"].tolist() == [0, *range(2, 8), -1, 8, 9, 10, 12, 13, 14, 15, -1]
    for name, source in moved.items():
        assert torch.equal(vector.state_dict()[name][source >= 0], before[name][source[source >= 0]])
    order = vector.painted()
    assert order is not None and order.tolist()[-2:] == [7, 15] and sorted(order.tolist()) == list(range(16))
    found = (shown(vector, 32, 32) - target[0]).square().mean(), (pulled - target).square().mean()
    assert float(found[0]) < float(found[1])


def test_a_run_is_saved_resumed_and_drawn_alike(tmp_path: Path) -> None:
    """Half a run and the other half from its file: the whole, to the bit, with upkeep on the way."""

    def towards(x: Tensor, denoiser, *, step: int, steps: int, rng) -> tuple:  # noqa: ANN001
        return x - goal(24, 24), measure(x - goal(24, 24), 1)

    from msd_core.state import load_state, save_state

    first = start(Vector(24, 24, paths=3, strokes=5, paint="translucent", seed=1), steps=12)
    states = list(optimize(first, towards, lambda z, sigma: z, inner_steps=3))
    save_state(states[5], tmp_path / "half.safetensors")
    rest = list(optimize(load_state(tmp_path / "half.safetensors"), towards, lambda z, sigma: z, inner_steps=3))
    for name, tensor in states[-1].generator.state_dict().items():
        assert torch.equal(rest[-1].generator.state_dict()[name], tensor)
    begun = float((first.picture() - goal(24, 24)).square().mean())
    assert float((states[-1].picture() - goal(24, 24)).square().mean()) < 0.3 * begun
    save_generator(states[-1].generator, tmp_path / "g.safetensors")
    again = load_generator(tmp_path / "g.safetensors")
    assert torch.equal(again.render(View(24, 24)), states[-1].generator.render(View(24, 24)))


def test_a_file_of_shapes_from_before_there_were_strokes_is_read_to_the_bit(tmp_path: Path) -> None:
    vector = Vector(24, 20, paths=5, seed=3)
    save_generator(vector, tmp_path / "new.safetensors")
    tensors, text = read_tensors(tmp_path / "new.safetensors", "msd-generator", "1")
    assert set(tensors) == {"points", "colours", "ground"}
    old = {k: v for k, v in json.loads(text["config"]).items() if "stroke" not in k and k != "fixed_width"}
    assert set(old) == {"width", "height", "paths", "segments", "paint", "tidy", "simplify", "seed"}
    own = {"kind": "vector", "config": json.dumps(old, sort_keys=True)}
    write_tensors(tmp_path / "old.safetensors", tensors, "msd-generator", "1", own)
    again = load_generator(tmp_path / "old.safetensors")
    assert torch.equal(again.render(View(20, 24)), vector.render(View(20, 24)))


def test_an_order_from_a_file_is_any_numbers(tmp_path: Path) -> None:
    """It is sorted, so that nothing in a file can point outside."""
    vector = Vector(16, 16, paths=2, strokes=2)
    assert vector.order is not None
    vector.order.copy_(torch.tensor([9e5, -7.0, 9e5, 0.5]))
    save_generator(vector, tmp_path / "g.safetensors")
    again = load_generator(tmp_path / "g.safetensors")
    assert isinstance(again, Vector) and again.painted().tolist() == [1, 3, 0, 2]  # type: ignore[union-attr]


def test_the_command_writes_an_svg_that_is_our_picture(tmp_path: Path) -> None:
    """`msd distill` on the demo model, from noise, and on from the SVG that it wrote."""
    words, sizes = "a large blue car on a white background", ["--generator", "vector", "--steps", "2"]
    flags = ["--paths", "0", "--strokes", "6", "--stroke-width", "3", "--simplify", "99", "--inner-steps", "1"]
    assert main(["distill", words, *sizes, *flags, "--out", str(tmp_path / "a")]) == 0
    document = (tmp_path / "a" / "picture.svg").read_text()
    assert document.count("<path") == document.count("stroke-width") == 6
    made = load_generator(tmp_path / "a" / "generator.safetensors")
    assert isinstance(made, Vector) and psnr(resvg(document, *made.size), shown(made, *made.size)) > 35
    begin = ["--start", str(tmp_path / "a" / "picture.svg"), "--inner-steps", "1"]
    assert main(["distill", words, *sizes, *begin, "--out", str(tmp_path / "b")]) == 0
    made = load_generator(tmp_path / "b" / "generator.safetensors")
    assert isinstance(made, Vector) and (made.made.paths, made.made.strokes) == (0, 6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"strokes": -1}, "strokes"),
        ({"paths": 0}, "paths: got 0 beside 0 strokes"),
        ({"strokes": 2, "stroke_width": 0.0}, "stroke_width"),
        ({"strokes": 2, "stroke_width": 30.0}, "stroke_width"),
        ({"strokes": 2, "stroke_segments": 0}, "stroke_segments"),
        ({"strokes": 2, "stroke_segments": 1, "closed_strokes": True}, "stroke_segments: got 1 with closed_strokes"),
        ({"strokes": 2, "fixed_width": "yes"}, "fixed_width"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Vector(8, 8, **wrong)
