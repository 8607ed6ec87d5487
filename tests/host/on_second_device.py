"""The nodes with a model, a VAE and the host itself on another device than the processor, as on a graphics card.

The device is `second_device` of the core's tests: it calculates on the CPU, and refuses tensors that lie elsewhere.
What a node gives back is on the CPU, where the host keeps results. `test_second_device` runs this file in a process of
its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.model_management as management
import folder_paths
import pytest
import torch
from msd_pack.nodes import vae as vae_module
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.dream import DreamSampler
from msd_pack.nodes.editing import Edit
from msd_pack.nodes.existing import Inpaint, Restore
from msd_pack.nodes.generators import RenderGenerator
from msd_pack.nodes.graphics import StickerToImage
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.inversion import DDIMInversion
from msd_pack.nodes.nearby import MeanShiftRefine
from msd_pack.nodes.volume import ExtractMesh, RenderTurntable
from test_graphics import art, sticker, vector
from test_inversion import NEGATIVE, POSITIVE, picture
from test_measurement import EULER, known, sampled
from test_nearby import near
from test_room import HOLE, PICTURE, born
from test_volume import ball, volume
from tiny_models import conditioning, tiny_model, tiny_vae
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
from second_device import Second, second  # noqa: F401 - a fixture

pytestmark = pytest.mark.host
ENOUGH = 1e12
"""Bytes."""


@pytest.fixture
def sockets(second: torch.device, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:  # noqa: F811
    """Model and VAE that the host loads onto the device, which is its own."""
    model, vae = tiny_model("eps"), tiny_vae()
    model.load_device = vae.device = vae.patcher.load_device = second
    for name in ("get_free_memory", "get_total_memory"):
        monkeypatch.setattr(
            management, name, lambda _=None, both=False, **told: (ENOUGH,) * 2 if both or told else ENOUGH
        )
    monkeypatch.setattr(management, "get_torch_device", lambda: second)
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NORMAL_VRAM)
    monkeypatch.setattr(vae_module, "_alias", aliased(vae_module._alias))
    monkeypatch.setattr(torch, "inference_mode", without_gradients)  # wrappers are no inference tensors
    yield {"model": model, "positive": POSITIVE, "negative": NEGATIVE, "vae": vae}
    management.unload_all_models()


def memory(_: object = None, both: bool = False, **told: bool) -> float | tuple[float, float]:
    """As the host's own: for it, or for it and torch."""
    return (ENOUGH, ENOUGH) if both or any(told.values()) else ENOUGH


def without_gradients(mode: bool = True) -> contextlib.AbstractContextManager:
    return torch.no_grad() if mode else contextlib.nullcontext()


def aliased(plain: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``plain``, which puts tensors on one storage, for the wrappers of the device, which have none."""

    def alias(tensor: Tensor) -> Tensor:
        inner = tensor if isinstance(tensor, Second) else tensor.data
        if not isinstance(inner, Second):
            return plain(tensor)
        made: Tensor = Second(plain(inner.raw))
        made = torch.nn.Parameter(made, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else made
        made.__dict__.update({name: value for name, value in vars(tensor).items() if name != "raw"})
        return made

    return alias


def on_the_cpu(outputs: tuple) -> tuple:
    """``outputs`` of a node, after a look at where their tensors are."""
    for output in outputs:
        for tensor in output.values() if isinstance(output, dict) else [output]:
            assert not isinstance(tensor, Tensor) or (tensor.device.type == "cpu" and bool(tensor.isfinite().all()))
    return outputs


def stepped(sockets: dict, generator: object, method: str = "msd", **changes: object) -> tuple:
    common = {"steps": 2, "seed": 0, "cfg": 2.0, "learning_rate": 0.01, "optimizer": "adam"}
    own = {"estimator": "exact", "solver_steps": 2} if method == "msd" else {}
    with torch.inference_mode():
        made = on_the_cpu(STEPS[method].execute(generator, **common, **own, **sockets, **changes).args)
    assert all(tensor.device.type == "cpu" for tensor in made[0].generator.state_dict().values())
    return made


GENERATORS: dict[str, Callable[[], Any]] = {
    "fourier": born,
    "two": lambda: born(batch=2),
    "latent": lambda: born("latent"),
    "vector": vector,
    "pixel-art": art,
    "sticker": sticker,
    "volume": volume,
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_step_of_every_generator(kind: str, sockets: dict) -> None:
    made = stepped(sockets, GENERATORS[kind]())
    with torch.inference_mode():
        on_the_cpu(RenderGenerator.execute(made[0], 48, 24, sockets["vae"]).args)
        if kind == "sticker":
            on_the_cpu(StickerToImage.execute(made[0], 48, 24).args)


@pytest.mark.parametrize("method", [name for name in STEPS if name in ("sds", "sdi", "ism", "cfd", "nfsd")])
def test_a_step_of_another_method(method: str, sockets: dict) -> None:
    more = {"unconditional": conditioning(5)} if method == "nfsd" else {}
    stepped(sockets, born(), method, **more)


def test_an_edit_within_a_mask_by_a_step(sockets: dict) -> None:
    more = {"source": PICTURE, "source_positive": conditioning(5), "mask": HOLE, "pull": "latent"}
    stepped(sockets, born(), "dds", **more)


def test_pictures_that_exist(sockets: dict) -> None:
    given = [sockets[name] for name in ("model", "positive", "negative")]
    with torch.inference_mode():
        on_the_cpu(Edit.execute(PICTURE, sockets["vae"], 2, 0.2, *given, mask=HOLE).args)
        known = {"source_positive": sockets["negative"], "cfg": 2.0, "mask": HOLE}
        on_the_cpu(Edit.execute(PICTURE, sockets["vae"], 2, 0.2, *given, inversion="flow-edit", **known).args)
        for space in ("latents", "pixels"):
            on_the_cpu(Inpaint.execute(PICTURE, HOLE, sockets["vae"], 0, 2, 2.0, *given, space=space).args)
        for task in ("x2", "blur", "grey"):
            on_the_cpu(Restore.execute(PICTURE[:, :16, :16], sockets["vae"], task, 0, 2, 1.0, *given).args)


@pytest.mark.parametrize("space", ["latents", "pixels"])
def test_a_guider_that_agrees(space: str, sockets: dict) -> None:
    guider, latent = known(make_guider(sockets["model"], POSITIVE), sockets["vae"], PICTURE, mask=HOLE, space=space)
    for sampler in (EULER, DreamSampler.execute("renoise", 0.2, 0.0).args[0]):
        sampled(guider, sampler, latent=latent, steps=2)


@pytest.mark.parametrize("method", ["explicit", "implicit"])
def test_an_inversion(method: str, sockets: dict) -> None:
    latent, mask = picture(batch=2), torch.zeros(1, 64, 64)
    mask[:, :32] = 1
    for more in ({}, {"mask": mask}):
        given = {name: sockets[name] for name in ("model", "positive", "negative")}
        with torch.inference_mode():
            outputs = DDIMInversion.execute(latent, cfg=1.0, method=method, steps=3, check=True, **given, **more).args
        on_the_cpu(outputs)
        outside = outputs[2].outside
        assert outside is None or outside.x.device.type == "cpu"


def test_near_a_picture(sockets: dict) -> None:
    latent = picture()["samples"]
    sampled(make_guider(sockets["model"], POSITIVE), near(latent, 1.0), steps=2)
    with torch.inference_mode():
        on_the_cpu(MeanShiftRefine.execute({"samples": latent}, 2, 2.0, 0.5, 1.0, 0, sockets["model"], POSITIVE).args)


def test_an_object(sockets: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    with torch.inference_mode():
        on_the_cpu(RenderTurntable.execute(ball(), 24, 24, 2, 12.0, 0.0, 0.0).args[:1])
        mesh = ExtractMesh.execute(ball(), 16, "mesh/x").args[0]
    assert mesh.vertices.device.type == "cpu"
