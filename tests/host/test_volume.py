"""An object in space inside the host: made, seen, optimised under prompts by view, turned, and cut into a mesh."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import torch
from msd_pack.nodes import host, sides
from msd_pack.nodes.demo import LoadDemoModel
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator, RenderGenerator
from msd_pack.nodes.graphics import StickerGenerator
from msd_pack.nodes.volume import (
    Cameras,
    ExtractMesh,
    RenderTurntable,
    ViewConditioning,
    ViewPrompt,
    VolumeGenerator,
    prompts_of,
)
from tiny_models import conditioning, tiny_model, tiny_vae

from nodes import CLIPTextEncode

SIZE = {"width": 32, "height": 16, "seed": 1}
SMALL = {"rays": 16, "ray_samples": 8}


class Ball(torch.nn.Module):
    """Red in front, blue behind."""

    def forward(self, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        red, blue = (place.new_tensor(colour) for colour in ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8)))
        return 60.0 * (place.norm(dim=1) < 0.5), torch.where(place[:, 2:] > 0, red, blue)


def volume(cameras: dict | None = None, **options: object) -> HostGenerator:
    with torch.inference_mode():
        return VolumeGenerator.execute(**{**SIZE, **SMALL, "cameras": cameras, **options}).args[0]


def ball() -> HostGenerator:
    made = volume(background="grey", ray_samples=64)
    made.generator.field = Ball()
    return made


def by_view(seed: int = 3) -> list:
    given = [conditioning(seed + i) for i in range(3)]
    with torch.inference_mode():
        return ViewConditioning.execute(*given).args[0]


def step(generator: HostGenerator, method: str = "msd", **changes: object) -> tuple:
    sockets = {"model": tiny_model(), "vae": tiny_vae(), "positive": by_view(), "negative": conditioning(9)}
    common = {"steps": 3, "seed": 0, "cfg": 2.0, "learning_rate": 0.01, "optimizer": "adam"}
    own = {"estimator": "one-step", "inner_steps": 1} if method == "msd" else {}
    with torch.inference_mode():
        return STEPS[method].execute(generator, **{**common, **own, **sockets, **changes}).args


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def values(generator: HostGenerator) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in generator.generator.parameters()])


@pytest.mark.parametrize("method", ["msd", "sds", "sdi", "nfsd"])
def test_every_method_moves_a_copy(method: str) -> None:
    born = volume()
    before = values(born).clone()
    more = {"unconditional": conditioning(8)} if method == "nfsd" else {}
    made, picture, plot, _ = step(born, method, **more)
    assert torch.equal(values(born), before) and not torch.equal(values(made), before)
    assert picture.shape == (1, 16, 32, 3) and bool(picture.isfinite().all()) and plot.shape[-1] == 3


def test_every_view_is_asked_with_its_own_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []
    own = host.HostDenoiser.looking

    def recording(self: host.HostDenoiser, looks: list) -> host.HostDenoiser:
        asked.append(tuple(looks))
        return own(self, looks)

    monkeypatch.setattr(host.HostDenoiser, "looking", recording)
    step(volume())
    assert len(asked) == 3 and all(len(looks) == 4 for looks in asked)
    for looks in asked:
        at = sorted(look.yaw % 360 // 90 for look in looks)
        assert at == [0, 1, 2, 3] and all(-10 <= look.pitch <= 30 for look in looks)


def test_the_cameras_are_those_of_their_node() -> None:
    with torch.inference_mode():
        cameras = Cameras.execute(views=2, lowest=5, highest=6, distance=3.0, fov=30.0, vary=0.0, shift=0.0).args[0]
    made = volume(cameras)
    [first, second] = made.generator.view(0, 3, torch.Generator().manual_seed(0))
    assert first.distance == 3 and first.fov == 30 and 5 <= second.pitch <= 6
    step(made)
    with pytest.raises(ValueError, match="distance: got 1"):
        Cameras.execute(views=2, lowest=5, highest=6, distance=1.05, fov=30.0, vary=0.1, shift=0.0)
    with pytest.raises(ValueError, match="views: got 0"):
        Cameras.execute(views=0, lowest=5, highest=6, distance=3.0, fov=30.0, vary=0.0, shift=0.0)


def test_one_view_an_iteration() -> None:
    with torch.inference_mode():
        cameras = Cameras.execute(views=1, lowest=0, highest=0, distance=3.0, fov=30.0, vary=0.0, shift=0.0).args[0]
    born = volume(cameras)
    assert not torch.equal(values(step(born)[0]), values(born))


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_a_text_by_view() -> None:
    assert prompts_of("a cup, {side}")["left"] == prompts_of("a cup, {side}")["right"] == "a cup, side view"
    assert prompts_of("a cup.") == {
        "front": "a cup, front view",
        "right": "a cup, right side view",
        "back": "a cup, back view",
        "left": "a cup, left side view",
        "overhead": "a cup, overhead view",
    }
    assert prompts_of("a cat on a {ground} background")["pink"] == "a cat on a pink background"
    with pytest.raises(ValueError, match=r"text: got \{view\} and \{ground\}; allowed is one of the two"):
        prompts_of("a {view} on {ground}")


def test_view_prompt_is_the_host_s_own_encoding() -> None:
    """Of the solid world, whose words say the view."""
    text = "a large red cube with a blue back on a white background, {view}"
    with torch.inference_mode():
        _, clip, _ = LoadDemoModel.execute("solids").args
        made = ViewPrompt.execute(clip, text, 20.0).args[0]
        front = CLIPTextEncode().encode(clip, text.replace("{view}", "front view"))[0]
    assert [options[sides.VIEW] for _, options in made] == [(name, 20.0) for name in sides.SIDES]
    assert torch.equal(made[0][0], front[0][0]) and not torch.equal(made[2][0], front[0][0])
    with pytest.raises(ValueError, match="clip: is None"):
        ViewPrompt.execute(None, text)


def test_prompts_by_view_need_views() -> None:
    with torch.inference_mode():
        flat = NeuralImageGenerator.execute("pixels", **SIZE, hidden=8, layers=1, channels=4).args[0]
        sticker = StickerGenerator.execute(**SIZE, field="fourier").args[0]
    with pytest.raises(ValueError, match="positive: holds prompts by view, and this generator has no views"):
        step(flat)
    with pytest.raises(ValueError, match="positive: holds prompts for front, right, back, left, and the generator's"):
        step(sticker)
    with pytest.raises(ValueError, match="side: is empty"):
        ViewConditioning.execute(conditioning(1), [], conditioning(2))


def test_a_sticker_is_told_its_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    grounds = sides.GROUNDS
    prompt = [entry for i, name in enumerate(grounds) for entry in sides.marked(conditioning(20 + i), name)]
    asked: list[sides.Look] = []
    own = host.HostDenoiser.looking

    def recording(self: host.HostDenoiser, looks: list) -> host.HostDenoiser:
        asked.extend(looks)
        return own(self, looks)

    monkeypatch.setattr(host.HostDenoiser, "looking", recording)
    for batch in (1, 2):
        with torch.inference_mode():
            sticker = StickerGenerator.execute(**SIZE, batch=batch, field="fourier").args[0]
        made = step(sticker, positive=prompt, steps=6)[0]
        assert not torch.equal(values(made), values(sticker))
    assert len(set(asked)) > 3 and all(isinstance(look, sides.Ground) and look.name in grounds for look in asked)


def test_a_prompt_without_views_is_for_all_of_them() -> None:
    made = step(volume(), positive=conditioning(3))[0]
    assert bool(values(made).isfinite().all())


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_a_turntable() -> None:
    with torch.inference_mode():
        frames, video, mask, depth, normal = RenderTurntable.execute(ball(), 48, 32, 8, 12.0, 0.0, 0.0).args
    assert frames.shape == depth.shape == normal.shape == (8, 32, 48, 3) and mask.shape == (8, 32, 48)
    centre = frames[:, 16, 24]
    assert float(centre[0, 0]) > 0.7 and float(centre[4, 2]) > 0.7, "the front first, the back half a turn later"
    assert float(mask[0, 16, 24]) < 0.01 and float(mask[0, 0, 0]) == 1
    assert float(depth[0, 16, 24, 0]) == pytest.approx(0.75, abs=0.02) and float(depth[0, 0, 0].max()) == 0
    assert float(normal[0, 16, 24, 2]) > 0.98
    shown = video.get_components()
    assert float(shown.frame_rate) == 12 and torch.equal(shown.images, frames)


def test_a_video_is_written_and_read_again(tmp_path: Path) -> None:
    import av

    with torch.inference_mode():
        video = RenderTurntable.execute(ball(), 48, 32, 6, 12.0, 0.0, 0.0).args[1]
        video.save_to(str(tmp_path / "turntable.mp4"))
    with av.open(str(tmp_path / "turntable.mp4")) as file:
        decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(decoded) == 6 and decoded[0].shape == (32, 48, 3)
    assert int(decoded[0][16, 24, 0]) > 150 > 100 > int(decoded[0][16, 24, 2])


def test_one_frame_is_a_view() -> None:
    with torch.inference_mode():
        frames = RenderTurntable.execute(ball(), 32, 32, 1, 24.0, 180.0, 20.0).args[0]
        front = RenderGenerator.execute(ball(), 32, 32).args[0]
    assert float(frames[0, 16, 16, 2]) > 0.7 and float(front[0, 16, 16, 0]) > 0.7


def parsed(path: Path) -> dict:
    content = path.read_bytes()
    size = struct.unpack_from("<I", content, 12)[0]
    return json.loads(content[20 : 20 + size])


def test_a_mesh_is_saved_and_handed_to_the_host(folders: Path) -> None:
    with torch.inference_mode():
        mesh, name = ExtractMesh.execute(ball(), 32, "mesh/x").args
    document = parsed(folders / name)
    assert name.startswith("mesh/x_") and name.endswith(".glb")
    count = document["accessors"][0]["count"]
    assert mesh.vertices.shape == (1, count, 3) and mesh.faces.shape[0] == 1 and mesh.faces.shape[2] == 3
    assert 0.45 < float(mesh.vertices.norm(dim=-1).mean()) < 0.55
    colours = getattr(mesh, "vertex_colors", None)
    if colours is not None:
        front = mesh.vertices[0, :, 2] > 0.1
        assert float(colours[0, front, 0].min()) > 0.5 and float(colours[0, front, 2].max()) < 0.05


def test_a_mesh_gives_way_to_cancel(folders: Path) -> None:
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException), torch.inference_mode():
        ExtractMesh.execute(ball(), 32, "mesh/x")
    assert not list(folders.glob("mesh/*"))


def test_the_host_saves_the_mesh_too(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from comfy_api.latest import io

    module = "comfy_extras.nodes_save_3d" if hasattr(io, "File3DGLB") else "comfy_extras.nodes_hunyuan3d"
    SaveGLB = pytest.importorskip(module, reason="its 3-D nodes import only inside its server").SaveGLB  # noqa: N806
    with torch.inference_mode():
        mesh = ExtractMesh.execute(ball(), 24, "mesh/x").args[0]
        monkeypatch.setattr(SaveGLB, "hidden", SimpleNamespace(prompt=None, extra_pnginfo=None))
        SaveGLB.execute(mesh, "mesh/host")
    (path,) = folders.glob("mesh/host*.glb")
    assert parsed(path)["accessors"][0]["count"] > 0


# --- wrong input ------------------------------------------------------------------------------------------------------


def test_wrong_input_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="width, height: got 33x32; allowed are even numbers"):
        RenderTurntable.execute(ball(), 33, 32, 2, 24.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="frames: got 720 frames of 2048x2048"):
        RenderTurntable.execute(ball(), 2048, 2048, 720, 24.0, 0.0, 0.0)
    with torch.inference_mode():
        flat = NeuralImageGenerator.execute("pixels", **SIZE, hidden=8, layers=1, channels=4).args[0]
    for node, rest in ((RenderTurntable, (32, 32, 2, 24.0, 0.0, 0.0)), (ExtractMesh, (32, "x"))):
        with pytest.raises(ValueError, match="generator: got one of kind 'pixels'; allowed is 'volume' here"):
            node.execute(flat, *rest)
    empty = volume(blob=0.0)
    empty.generator.field.last.bias.data[0] = -1e6
    with pytest.raises(ValueError, match="volume: is empty"):
        ExtractMesh.execute(empty, 32, "x")
    with pytest.raises(ValueError, match="vae: not connected"):
        step(volume(), vae=None)
    with pytest.raises(ValueError, match="background: got 'solved' with a pull"):
        step(volume(), pull="latent")


def test_memory_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from msd_pack.msd_core import memory

    monkeypatch.setattr(memory, "available_memory", lambda: 10**8)
    with pytest.raises(ValueError, match="size: got 512x512, which takes at least"):
        volume(width=512, height=512, rays=256)
