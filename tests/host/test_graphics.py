"""Vector and pixel art inside the host: made, begun with a picture or an SVG, optimised by every method, written."""

from __future__ import annotations

import io as streams
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management
import folder_paths
import numpy as np
import pytest
import torch
from comfy_api.latest import io
from msd_pack.msd_core.generators import GENERATORS, View, read_svg
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.generators import ELSEWHERE, HostGenerator, NeuralImageGenerator, RenderGenerator
from msd_pack.nodes.graphics import (
    GeneratorToSVG,
    PixelArtGenerator,
    SavePixelArt,
    StickerGenerator,
    StickerToImage,
    VectorGenerator,
)
from PIL import Image
from tiny_models import conditioning, tiny_model, tiny_vae

CANVAS = {"width": 32, "height": 16, "seed": 1}
VECTOR = {"paths": 6, "segments": 4, "paint": "opaque", "tidy": 0.02, "simplify": 36.0}
ART = {"cells": 8, "colours": 3, "palette": "", "mirror": False, "contour": False, "tidy": 0.05}


def vector(**changes: object) -> HostGenerator:
    with torch.inference_mode():
        return VectorGenerator.execute(**{**CANVAS, **VECTOR, **changes}).args[0]


def art(**changes: object) -> HostGenerator:
    with torch.inference_mode():
        return PixelArtGenerator.execute(**{**CANVAS, **ART, **changes}).args[0]


def sticker(**changes: object) -> HostGenerator:
    with torch.inference_mode():
        return StickerGenerator.execute(**{**CANVAS, "field": "fourier", **changes}).args[0]


def repeated(**options: object) -> HostGenerator:
    shape = {"hidden": 8, "layers": 1, "channels": 4}
    with torch.inference_mode():
        return NeuralImageGenerator.execute("siren", **CANVAS, **shape, **options).args[0]


def step(generator: HostGenerator, method: str = "msd", **changes: object) -> HostGenerator:
    sockets = {"model": tiny_model(), "vae": tiny_vae(), "positive": conditioning(3), "negative": conditioning(4)}
    common = {"steps": 3, "seed": 0, "cfg": 2.0, "learning_rate": 0.01, "optimizer": "adam"}
    own = {"estimator": "one-step"} if method == "msd" else {}
    with torch.inference_mode():
        return STEPS[method].execute(generator, **common, **own, **sockets, **changes).args[0]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def values(generator: HostGenerator) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in generator.generator.parameters()])


@pytest.mark.parametrize("method", ["msd", "sds", "sdi"])
@pytest.mark.parametrize("make", [vector, art, sticker])
def test_every_method_moves_a_copy(method: str, make) -> None:  # noqa: ANN001
    born = make()
    before = values(born).clone()
    made = step(born, method)
    assert torch.equal(values(born), before) and not torch.equal(values(made), before)
    with torch.inference_mode():
        image = RenderGenerator.execute(made, 48, 24).args[0]
    assert image.shape == (1, 24, 48, 3) and bool(image.isfinite().all())


def test_the_svg_goes_through_the_host_s_own_node_and_back(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host writes its metadata into the document; it is read all the same."""
    reason = "this host's image nodes import only inside its server, where tests/server/test_graphics.py saves one"
    SaveSVGNode = pytest.importorskip("comfy_extras.nodes_images", reason=reason).SaveSVGNode  # noqa: N806
    made = step(vector(simplify=99.0))
    with torch.inference_mode():
        svg, image = GeneratorToSVG.execute(made).args
        assert image.shape == (1, 16, 32, 3)
        before = svg.data[0].getvalue()
        prompt = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a <svg> > b & c"}}}
        monkeypatch.setattr(SaveSVGNode, "hidden", SimpleNamespace(prompt=prompt, extra_pnginfo=None))
        SaveSVGNode.execute(svg, "svg/test")
    assert svg.data[0].getvalue() == before
    (path,) = folders.glob("svg/*.svg")
    assert len(read_svg(path.read_bytes()).shapes) == before.count(b"<path")
    again = vector(svg=io.SVG.Type([streams.BytesIO(path.read_bytes())]), simplify=99.0)
    with torch.inference_mode():
        repeated = RenderGenerator.execute(again, 32, 16).args[0]
    assert float((repeated - image).square().mean()) < 1e-4


STROKES = {"paths": 0, "strokes": 4, "stroke_width": 6.0}


def test_strokes_are_optimised_written_and_begun_with() -> None:
    """A saved workflow of before, which has none of the widgets, draws none (the tests above)."""
    made = step(vector(simplify=99.0, **STROKES))
    with torch.inference_mode():
        svg, image = GeneratorToSVG.execute(made).args
        text = svg.data[0].getvalue()
        assert text.count(b"stroke-width") == text.count(b"<path") == 4
        again = vector(svg=svg, simplify=99.0)
        assert (again.generator.made.paths, again.generator.made.strokes) == (0, 4)
        repeated = RenderGenerator.execute(again, 32, 16).args[0]
    assert float((repeated - image).square().mean()) < 1e-4
    picture = torch.full((1, 16, 32, 3), 0.8)
    picture[:, 7:9, 4:28] = torch.tensor([0.8, 0.2, 0.1])
    begun = vector(image=picture, fit_steps=80, **STROKES)
    with torch.inference_mode():
        shown = RenderGenerator.execute(begun, 32, 16).args[0]
    assert float((shown - picture).square().mean()) < 5e-3


def test_what_is_the_document_s_own_affair_does_not_refuse_it() -> None:
    document = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M0 0H4V4Z"/></svg>'
    made = vector(paths=0, svg=io.SVG.Type([streams.BytesIO(document)]), batch=2).generator
    assert made.rows == 2 and [one.made.paths for one in made] == [1, 1]
    seeds = [one.seed for one in art(seed=2**64 - 1, batch=2).generator]
    assert seeds == [2**64 - 1, 0]


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="paths: got 0 beside 0 strokes"):
        vector(paths=0)


def test_it_begins_with_an_image() -> None:
    image = torch.full((1, 16, 32, 3), 0.7)
    image[:, 4:12, 8:24] = torch.tensor([0.8, 0.2, 0.1])
    for made in (vector(image=image, fit_steps=80), art(image=image, fit_steps=5)):
        with torch.inference_mode():
            shown = RenderGenerator.execute(made, 32, 16).args[0]
        assert float((shown - image).square().mean()) < 3e-3


def test_a_batch_is_a_batch_of_pictures_documents_and_files(folders: Path) -> None:
    with torch.inference_mode():
        svg, image = GeneratorToSVG.execute(step(vector(batch=2))).args
        assert len(svg.data) == 2 and image.shape[0] == 2
        SavePixelArt.execute(step(art(batch=2)), "sprites/x", 3)
    files = sorted(folders.glob("sprites/*.png"))
    assert len(files) == 2
    for file in files:
        picture = Image.open(file)
        assert picture.mode == "P" and picture.size == (24, 12) and len(picture.getcolors()) <= 3
        cells = np.array(picture).reshape(4, 3, 8, 3)
        assert (cells == cells[:, :1, :, :1]).all()


def test_the_palette_of_an_image() -> None:
    image = torch.zeros(1, 8, 8, 3)
    image[:, :4, :, 0], image[:, 4:, :4, 2] = 1.0, 1.0
    made = art(palette_image=image)
    assert sorted(made.generator.made.palette.split()) == ["#000000", "#0000ff", "#ff0000"]
    assert not made.generator.palette.requires_grad


def test_a_sticker_s_picture_and_mask_are_those_of_the_host() -> None:
    """Joined as the host joins them, they are the sticker before any ground."""
    made = step(sticker(batch=2))
    with torch.inference_mode():
        image, mask = StickerToImage.execute(made, 32, 16).args
        white = RenderGenerator.execute(made, 32, 16).args[0]
    assert image.shape == (2, 16, 32, 3) and mask.shape == (2, 16, 32)
    ground = torch.tensor([0.98, 0.97, 0.94])
    torch.testing.assert_close(image * (1 - mask[..., None]) + ground * mask[..., None], white, atol=1e-5, rtol=0)


def test_a_tile_is_drawn_beside_itself() -> None:
    with torch.inference_mode():
        for tile, size in (("xy", (3 * 16, 3 * 32)), ("x", (16, 3 * 32)), ("y", (3 * 16, 32))):
            image = RenderGenerator.execute(repeated(tile=tile), 32, 16, repeat=3).args[0]
            once = RenderGenerator.execute(repeated(tile=tile), 32, 16).args[0]
            assert image.shape == (1, *size, 3) and torch.equal(image[:, -16:, -32:], once)
        with pytest.raises(ValueError, match="repeat: got 2 for a picture that does not repeat"):
            RenderGenerator.execute(repeated(), 32, 16, repeat=2)


def test_a_batch_is_a_sprite_sheet(folders: Path) -> None:
    """One file, one palette; the sprites in rows, cell for cell those of their own files."""
    made = step(art(batch=3))
    with torch.inference_mode():
        SavePixelArt.execute(made, "sprites/x", 2, sheet=True)
        SavePixelArt.execute(made, "single/x", 2)
    (file,) = folders.glob("sprites/*.png")
    sheet = Image.open(file)
    assert sheet.mode == "P" and sheet.size == (2 * 2 * 8, 2 * 2 * 4)
    whole = np.asarray(sheet.convert("RGB"))
    for i, one in enumerate(sorted(folders.glob("single/*.png"))):
        top, left = i // 2 * 8, i % 2 * 16
        assert np.array_equal(whole[top : top + 8, left : left + 16], np.asarray(Image.open(one).convert("RGB")))


def test_tiles_and_symmetries_stay_what_they_are_after_a_step() -> None:
    for options in ({"tile": "xy"}, {"symmetry": "mirror-x"}):
        made = step(repeated(**options))
        with torch.inference_mode():
            image = RenderGenerator.execute(made, 64, 32).args[0]
        if "tile" in options:
            border = (image[:, :, 0] - image[:, :, -1]).abs().mean()
            assert float(border) < 2 * float(image.diff(dim=2).abs().mean())
        else:
            assert torch.allclose(image, image.flip(2), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: vector(paths=0), "paths: got 0"),
        (lambda: vector(svg=io.SVG.Type([streams.BytesIO(b"<svg><script/></svg>")])), "svg: "),
        (lambda: vector(svg=io.SVG.Type([]), batch=2), "svg: got 0 documents"),
        (lambda: art(palette_image=torch.zeros(2, 8, 8, 3)), "palette_image: got 2 of them"),
        (lambda: art(palette_image=torch.zeros(1, 8, 8, 4)), "palette_image: got shape (1, 8, 8, 4)"),
        (lambda: vector(svg=io.SVG.Type([streams.BytesIO(b"")]), image=torch.zeros(1, 8, 8, 3)), "svg: got one beside"),
        (lambda: vector(image=torch.zeros(3, 8, 8, 3)), "image: got 3"),
        (lambda: art(palette="#ff0000"), "palette: got '#ff0000', 1 colours"),
        (lambda: art(palette="gameboy", palette_image=torch.zeros(1, 8, 8, 3)), "palette: got 'gameboy' beside"),
        (lambda: GeneratorToSVG.execute(art()), "generator: got one of kind 'pixel-art'; allowed is 'vector'"),
        (lambda: SavePixelArt.execute(vector(), "x", 1), "generator: got one of kind 'vector'; allowed is 'pixel-art'"),
        (lambda: StickerToImage.execute(art(), 8, 8), "generator: got one of kind 'pixel-art'; allowed is 'sticker'"),
        (lambda: repeated(tile="z"), "tile: got 'z'"),
        (lambda: repeated(tile="x", symmetry="rotate"), "symmetry: got 'rotate' with tile 'x'"),
        (
            lambda: NeuralImageGenerator.execute("pixels", 8, 8, 0, 8, 1, 4, tile="x"),
            "tile: got 'x' with the represent",
        ),
        (lambda: SavePixelArt.execute(art(), "../x", 1), "filename_prefix: got '../x'"),
        (lambda: NeuralImageGenerator.execute("vector", 32, 32, 0, 8, 1, 4), "representation: got 'vector'"),
    ],
)
def test_wrong_inputs(call, says: str) -> None:  # noqa: ANN001
    with torch.inference_mode(), pytest.raises(ValueError) as caught:
        call()
    assert says in str(caught.value)


def test_the_menu_of_the_neural_image_leaves_them_out() -> None:
    (menu,) = [i for i in NeuralImageGenerator.GET_SCHEMA().inputs if i.id == "representation"]
    assert list(menu.options) == [kind for kind in GENERATORS if kind not in ELSEWHERE]


def test_a_large_sticker_is_drawn_in_parts_and_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    made, (height, width) = sticker(), (600, 530)
    with torch.inference_mode():
        image, mask = StickerToImage.execute(made, width, height).args
        whole = made.generator.rgba(View(height, width))[0].movedim(0, -1)
    torch.testing.assert_close(torch.cat([image[0], 1 - mask[0, ..., None]], dim=-1), whole, atol=1e-5, rtol=0)
    stopped = comfy.model_management.InterruptProcessingException
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(stopped), torch.inference_mode():
        StickerToImage.execute(made, width, height)
