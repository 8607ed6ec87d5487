"""What the host is asked to make free, what is refused before it is loaded, and what is said when the memory is out."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.sd
import pytest
import torch
from msd_pack.msd_core import memory
from msd_pack.nodes import host
from msd_pack.nodes.distill import SDSStep
from msd_pack.nodes.editing import Edit
from msd_pack.nodes.existing import Inpaint, Restore
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator, RenderGenerator
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.room import more_room
from msd_pack.nodes.vae import vae_room
from msd_pack.nodes.volume import VolumeGenerator
from test_measurement import known, sampled
from test_volume import SMALL
from tiny_models import conditioning, tiny_model, tiny_vae

SIDE = 32
FULL = comfy.model_management.OOM_EXCEPTION
POSITIVE, NEGATIVE = conditioning(3), conditioning(4)
PICTURE = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
HOLE = torch.zeros(1, SIDE, SIDE)
HOLE[:, 8:24, 8:24] = 1


def born(representation: str = "fourier", **inputs: object) -> HostGenerator:
    settings = {"width": SIDE, "height": SIDE, "seed": 0, "hidden": 8, "layers": 1, "channels": 4}
    with torch.inference_mode():
        return NeuralImageGenerator.execute(representation, **settings | inputs).args[0]


def stepped(vae: comfy.sd.VAE | None, representation: str = "fourier", pull: str = "latent", batch: int = 1) -> object:
    given = {"model": tiny_model(), "positive": POSITIVE, "negative": NEGATIVE, "vae": vae, "pull": pull}
    with torch.inference_mode():
        return SDSStep.execute(born(representation, batch=batch), 0, 3.0, steps=1, learning_rate=0.01, **given)


def restored(vae: comfy.sd.VAE | None, task: str = "x4") -> object:
    with torch.inference_mode():
        return Restore.execute(PICTURE[:, :8, :8], vae, task, 0, 1, 1.0, tiny_model(), POSITIVE)


def edited(vae: comfy.sd.VAE | None) -> object:
    with torch.inference_mode():
        return Edit.execute(PICTURE, vae, 1, 0.2, tiny_model(), POSITIVE, NEGATIVE)


def inpainted(vae: comfy.sd.VAE | None) -> object:
    with torch.inference_mode():
        return Inpaint.execute(PICTURE, HOLE, vae, 0, 1, 1.0, tiny_model(), POSITIVE)


def measured(vae: comfy.sd.VAE | None, space: str = "pixels") -> object:
    guider, latent = known(make_guider(tiny_model(), POSITIVE), vae, PICTURE, mask=HOLE, space=space)
    return sampled(guider, latent=latent, steps=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """What the host was asked to make free for models and VAE together: wanted, and at the least."""
    load, found = comfy.model_management.load_models_gpu, []

    def spy(models: list, memory_required: float = 0, **others: object) -> object:
        if len(models) > 1:
            found.append((memory_required, others["minimum_memory_required"]))
        return load(models, memory_required=memory_required, **others)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", spy)
    return found


def network(rows: int) -> float:
    return tiny_model().model.memory_required([rows, 4, SIDE // 8, SIDE // 8])


@pytest.mark.parametrize(
    ("work", "backward", "rows"),
    [
        (lambda vae: stepped(vae), True, 1),
        (lambda vae: stepped(vae, batch=3), True, 3),
        (lambda vae: stepped(vae, pull="image"), False, 1),
        (lambda vae: stepped(vae, pull="image", batch=3), False, 3),
        (lambda vae: stepped(vae, "latent"), False, 1),
        (restored, False, 1),
        (edited, False, 1),
        (inpainted, False, 1),
        (measured, False, 1),
    ],
)
def test_room_for_the_vae_is_asked_for_once(
    work: Callable, backward: bool, rows: int, asked: list[tuple[float, float]]
) -> None:
    """Beside that of the rows, which the host doubles for the guidance; a backward pass only where there is one."""
    vae = tiny_vae()
    work(vae)
    of_vae = vae_room(vae, SIDE, SIDE, backward=backward, n=rows)
    wanted, least = asked[0]
    assert wanted == pytest.approx(network(2 * rows) + of_vae) and least == pytest.approx(network(rows) + of_vae)
    assert of_vae > 2 * network(1), "else a VAE that was forgotten would not be seen"


def test_rows_are_counted_once(asked: list[tuple[float, float]]) -> None:
    """Of an object one a view; of a batch one a picture, above."""
    given = {"model": tiny_model(), "positive": POSITIVE, "negative": NEGATIVE, "vae": tiny_vae(), "pull": "image"}
    with torch.inference_mode():
        start = VolumeGenerator.execute(SIDE, SIDE, 0, {"views": 3}, **SMALL).args[0]
        SDSStep.execute(start, 0, 3.0, steps=1, learning_rate=0.01, **given)
    of_vae = vae_room(given["vae"], SIDE, SIDE)
    assert asked[0] == pytest.approx((network(6) + of_vae, network(3) + of_vae))


def test_more_room_is_asked_for_within_alone() -> None:
    model = tiny_model().model
    plain = model.memory_required([1, 4, 8, 8])
    with pytest.raises(KeyError), more_room(model, 5.0):
        assert model.memory_required([1, 4, 8, 8]) == model.memory_required(input_shape=[1, 4, 8, 8]) == plain + 5
        with more_room(model, 2.0):
            assert model.memory_required([1, 4, 8, 8]) == plain + 7
        assert model.memory_required([1, 4, 8, 8]) == plain + 5
        raise KeyError
    assert "memory_required" not in vars(model) and model.memory_required([1, 4, 8, 8]) == plain


WORK = {
    "Restore": (restored, ", or choose a task of a smaller factor"),
    "Edit": (edited, ""),
    "Inpaint": (inpainted, ""),
    "Measurement": (measured, ""),
    "Measurement, latents": (lambda vae: measured(vae, "latents"), ""),
}


@pytest.mark.parametrize("name", WORK)
def test_what_cannot_fit_is_refused_before_it_is_begun(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work, more = WORK[name]
    vae = tiny_vae()
    for what in ("encode", "decode"):
        monkeypatch.setattr(vae.first_stage_model, what, lambda *_: pytest.fail("begun"))
    monkeypatch.setattr(memory, "available_memory", lambda: vae_room(vae, SIDE, SIDE) - 1)
    message = f"image: got a picture of 32x32, which .* Scale the image down before{more}\\."
    with pytest.raises(ValueError, match=message):
        work(vae)
    monkeypatch.undo()
    monkeypatch.setattr(memory, "available_memory", lambda: vae_room(vae, SIDE, SIDE))
    work(vae)


@pytest.mark.parametrize("name", [name for name in WORK if name != "Measurement, latents"])
@pytest.mark.parametrize("what", ["encode", "decode"])
def test_memory_that_is_out_says_which_input_to_make_smaller(name: str, what: str) -> None:
    def out(*_: object) -> object:
        raise FULL("CUDA out of memory. Tried to allocate 18.00 GiB")

    vae = tiny_vae()
    setattr(vae.first_stage_model, what, out)
    with pytest.raises(FULL, match="image: a picture of 32x32.* took more memory than there is; scale the image"):
        WORK[name][0](vae)


def test_another_error_stays_what_it_is() -> None:
    for name, (work, _) in WORK.items():
        vae = tiny_vae()
        vae.first_stage_model.encode = lambda *_: {}["broken"]
        with pytest.raises(KeyError, match="broken"):
            work(vae)
        assert name


@pytest.mark.parametrize("none", [False, True])
@pytest.mark.parametrize("name", [*WORK, "Step", "Step, latent", "Render", "Neural Image"])
def test_a_checkpoint_without_a_vae_is_named_everywhere(name: str, none: bool) -> None:
    """The host's loaders give a VAE without anything in it; others give none."""
    optional = {
        "Step": stepped,
        "Step, latent": lambda vae: stepped(vae, "latent"),
        "Render": lambda vae: RenderGenerator.execute(born(), SIDE, SIDE, vae),
        "Neural Image": lambda vae: born("latent", image=PICTURE, vae=vae, model=tiny_model()),
    }
    work = optional.get(name) or WORK[name][0]
    if none and name in optional:
        return work_without(name, work)
    vae = None if none else comfy.sd.VAE(sd={"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="^vae: this checkpoint contains none; connect a Load VAE"):
        work(vae)
    return None


def work_without(name: str, work: Callable) -> None:
    """Where it may be left out: it is, or what needs it says so."""
    if name in ("Step", "Neural Image"):
        with pytest.raises(ValueError, match="^vae: not connected"):
            work(None)
    else:
        work(None)


def test_a_loop_in_float32_has_room_for_it(asked: list[tuple[float, float]]) -> None:
    """As much again as half precision takes, which is what the host counts."""
    vae = tiny_vae()
    for half in (False, True):
        for whole in (False, True):
            model = tiny_model()
            model.model.manual_cast_dtype = torch.bfloat16 if half else None
            host.run(make_guider(model, POSITIVE), lambda _: None, SIDE // 8, SIDE // 8, vae=vae, in_float32=whole)
            more = model.model.memory_required([1, 4, SIDE // 8, SIDE // 8]) if half and whole else 0
            assert asked[-1][0] == pytest.approx(
                model.model.memory_required([2, 4, SIDE // 8, SIDE // 8]) + vae_room(vae, SIDE, SIDE) + more
            )
