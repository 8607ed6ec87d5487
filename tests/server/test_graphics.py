"""The templates of pictures that no model samples, run in a real server: what they write, and how it is read again."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from comfy_server import Server
from PIL import Image

from msd_core.generators import Vector, read_svg


@pytest.fixture
def short(api_workflow: Callable[[str], dict]) -> Callable[[str], dict]:
    """A template's graph in four steps."""

    def shortened(name: str) -> dict:
        graph = api_workflow(name)
        graph["5"]["inputs"]["steps"] = graph["6"]["inputs"]["steps"] = 4
        return graph

    return shortened


def test_an_svg_is_written_by_the_host_and_begins_the_next_one(server: Server, short: Callable[[str], dict]) -> None:
    graph = short("text_to_svg")
    server.run(graph)
    (path,) = (server.base / "output" / "svg").glob("msd*.svg")
    drawing = read_svg(path.read_bytes())
    assert 2 <= len(drawing.shapes) <= 32 and (drawing.width, drawing.height) == (128, 128)
    with_image = Vector.of_drawing(drawing, 128, 128).render(Vector(128, 128).canvas.view)
    assert float(with_image.detach().std()) > 0.05


def test_sprites_are_files_with_a_palette(server: Server, short: Callable[[str], dict]) -> None:
    graph = short("pixel_art")
    graph["4"]["inputs"]["batch"] = 2
    server.run(graph)
    files = sorted((server.base / "output" / "sprites").glob("*.png"))
    assert len(files) == 2
    for file in files:
        picture = Image.open(file)
        assert picture.mode == "P" and picture.size == (256, 256) and len(picture.getcolors()) <= 8


def test_a_pattern_has_no_seam(server: Server, short: Callable[[str], dict]) -> None:
    entry = server.run(short("seamless_pattern"))
    pixels = np.array(Image.open(io.BytesIO(server.image(entry, "8"))).convert("RGB")).astype(float)
    for axis in (0, 1):
        border = np.abs(pixels.take(0, axis) - pixels.take(-1, axis)).mean()
        assert border < 3 * np.abs(np.diff(pixels, axis=axis)).mean() + 1
