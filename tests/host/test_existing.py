"""Edit, Inpaint and Restore inside the host give what the core gives headless, and say what is wrong with an input."""

from __future__ import annotations

import pytest
import torch
from boat import AFTER, HOLE, PICTURE, image_of, psnr
from msd_pack.msd_core import edit, inpaint, load_model, restore
from msd_pack.msd_core.demo.model import DemoModel
from msd_pack.msd_core.measurement import Observation, observe
from msd_pack.msd_core.measurement.pool import Pool
from msd_pack.nodes.demo_model import clip_of, model_of, vae_of
from msd_pack.nodes.editing import Edit
from msd_pack.nodes.existing import SOLVERS, TASKS, Inpaint, Restore
from torch import Tensor


@pytest.fixture(scope="module")
def demo() -> DemoModel:
    model = load_model()
    assert isinstance(model, DemoModel)
    return model


@pytest.fixture(scope="module")
def sockets(demo: DemoModel) -> dict:
    """The model, its VAE, and the prompts."""
    with torch.inference_mode():
        clip = clip_of(demo)
        said, empty = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (AFTER, ""))
        return {"model": model_of(demo), "vae": vae_of(demo), "positive": said, "negative": empty}


def test_inpaint_is_the_core_s(demo: DemoModel, sockets: dict) -> None:
    """To what the host's rounding of the level to a timestep makes of it; the rest to the bit."""
    with torch.inference_mode():
        image, kept = Inpaint.execute(image_of(PICTURE), HOLE, seed=3, steps=6, cfg=1.0, **sockets).args
    headless = inpaint(PICTURE, HOLE[0], AFTER, model=demo, steps=6, seed=3)
    assert psnr(image, image_of(headless.picture)) > 30 and kept == pytest.approx(headless.kept, abs=1.0)
    assert torch.equal(image[:, HOLE[0] == 0], image_of(PICTURE)[:, HOLE[0] == 0])
    assert psnr(image[:, HOLE[0] == 1], image_of(PICTURE)[:, HOLE[0] == 1]) < 25


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "kalman"])
def test_inpaint_by_another_solver_is_the_core_s(solver: str, demo: DemoModel, sockets: dict) -> None:
    with torch.inference_mode():
        image, _ = Inpaint.execute(image_of(PICTURE), HOLE, seed=3, steps=8, cfg=1.0, solver=solver, **sockets).args
    headless = inpaint(PICTURE, HOLE[0], AFTER, model=demo, steps=8, seed=3, solver=solver)
    assert psnr(image, image_of(headless.picture)) > 25
    assert torch.equal(image[:, HOLE[0] == 0], image_of(PICTURE)[:, HOLE[0] == 0])


def test_inpaint_in_pixels_at_temperature_0_is_the_core_s(demo: DemoModel, sockets: dict) -> None:
    told = {"steps": 6, "space": "pixels", "temperature": 0.0}
    with torch.inference_mode():
        one, other = (
            Inpaint.execute(image_of(PICTURE), HOLE, seed=seed, cfg=1.0, **told, **sockets).args[0] for seed in (3, 4)
        )
    headless = inpaint(PICTURE, HOLE[0], AFTER, model=demo, **told)
    assert torch.equal(one, other) and psnr(one, image_of(headless.picture)) > 30
    assert torch.equal(one[:, HOLE[0] == 0], image_of(PICTURE)[:, HOLE[0] == 0])
    with pytest.raises(ValueError, match="space: got 'air'"):
        Inpaint.execute(image_of(PICTURE), HOLE, seed=3, steps=1, cfg=1.0, space="air", **sockets)


def test_a_solver_that_goes_backwards_is_not_offered_and_says_why(sockets: dict) -> None:
    assert SOLVERS == ["kalman", "proximal", "replacement", "ddrm", "red-diff"]
    for solver in ("dps", "psld", "pigdm"):
        with pytest.raises(ValueError, match=f"{solver!r} goes backwards"), torch.inference_mode():
            Inpaint.execute(image_of(PICTURE), HOLE, seed=3, steps=2, cfg=1.0, solver=solver, **sockets)


def test_guided_holes_are_the_core_s_and_in_bfloat16_computed_in_float32(
    demo: DemoModel, sockets: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gain is the conditional model's; a model in bfloat16 gives what one in float32 does."""
    headless = inpaint(PICTURE, HOLE[0], AFTER, model=demo, steps=4, seed=3, cfg=3.0)
    for dtype in (None, torch.bfloat16):
        monkeypatch.setattr(sockets["model"].model, "manual_cast_dtype", dtype)
        with torch.inference_mode():
            image, _ = Inpaint.execute(image_of(PICTURE), HOLE, seed=3, steps=4, cfg=3.0, **sockets).args
        assert psnr(image, image_of(headless.picture)) > 25, dtype
        assert sockets["model"].model.manual_cast_dtype == dtype


def test_edit_is_the_core_s(demo: DemoModel, sockets: dict) -> None:
    with torch.inference_mode():
        image, _ = Edit.execute(image_of(PICTURE), steps=6, strength=0.2, mask=HOLE, **sockets).args
    headless = edit(PICTURE, AFTER, model=demo, steps=6, mask=HOLE[0])
    assert psnr(image, image_of(headless.picture)) > 30
    assert torch.equal(image[:, HOLE[0] == 0], image_of(PICTURE)[:, HOLE[0] == 0])


def test_restore_is_the_core_s_for_a_batch(demo: DemoModel, sockets: dict) -> None:
    small = observe(PICTURE, Pool(4)).b
    with torch.inference_mode():
        images, kept = Restore.execute(
            image_of(small).repeat(2, 1, 1, 1), task="x4", seed=3, steps=4, cfg=1.0, **sockets
        ).args
    assert images.shape == (2, 128, 128, 3) and kept > 25
    for i in range(2):
        headless = restore(Observation(Pool(4), small), (128, 128), AFTER, model=demo, steps=4, seed=3 + i)
        assert psnr(images[i : i + 1], image_of(headless.picture)) > 30
    assert not torch.equal(images[0], images[1]), "each from its own seed"


def test_restore_at_temperature_0_whatever_the_seed(demo: DemoModel, sockets: dict) -> None:
    small = observe(PICTURE, Pool(4)).b
    told = {"task": "x4", "steps": 4, "cfg": 1.0, "temperature": 0.0, **sockets}
    with torch.inference_mode():
        one, other = (Restore.execute(image_of(small), seed=seed, **told).args[0] for seed in (3, 4))
    headless = restore(Observation(Pool(4), small), (128, 128), AFTER, model=demo, steps=4, temperature=0.0)
    assert torch.equal(one, other) and psnr(one, image_of(headless.picture)) > 30


@pytest.mark.parametrize("task", TASKS)
def test_every_task_runs(task: str, sockets: dict) -> None:
    with torch.inference_mode():
        image, _ = Restore.execute(
            torch.rand(1, 16, 24, 3), task=task, seed=0, steps=1, cfg=1.0, noise=0.1, **sockets
        ).args
    factor = int(task[1:]) if task.startswith("x") else 1
    assert image.shape == (1, 16 * factor, 24 * factor, 3) and bool(image.isfinite().all())


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (
            torch.rand(1, 20, 24, 3),
            torch.ones(1, 20, 24),
            "image: makes a picture of 24x20; allowed are multiples of 8",
        ),
        (torch.rand(1, 16, 24, 3), torch.ones(2, 16, 24), r"mask: got shape \(2, 16, 24\) for 1 images"),
        (torch.rand(1, 16, 24, 3), torch.ones(1, 24, 16), r"mask: got shape \(1, 1, 24, 16\)"),
        (torch.rand(1, 16, 24, 3), torch.zeros(1, 16, 24), "mask: is 0 everywhere"),
    ],
)
def test_wrong_input(image: Tensor, mask: Tensor, message: str, sockets: dict) -> None:
    with pytest.raises(ValueError, match=message), torch.inference_mode():
        Inpaint.execute(image, mask, seed=0, steps=1, cfg=1.0, **sockets)


def test_an_edit_without_its_negative_side_says_why_it_needs_one(sockets: dict) -> None:
    """It has no cfg at which that may stay empty."""
    given = {**sockets, "negative": None}
    with pytest.raises(ValueError, match=r"^negative: not connected; .* \(an edit goes from the one prompt towards"):
        Edit.execute(image_of(PICTURE), steps=1, strength=0.2, **given)
    with pytest.raises(ValueError, match=r"^negative: not connected; .* \(negative may stay empty at cfg = 1\)"):
        Inpaint.execute(image_of(PICTURE), torch.ones(1, 128, 128), seed=0, steps=1, cfg=2.0, **given)


def test_a_conditioning_for_a_batch_is_refused_for_several_pictures(sockets: dict) -> None:
    """They go through the model one by one, and each would have had the first one's."""
    (prompt, options), *_ = sockets["positive"]
    given = {**sockets, "positive": [[prompt.repeat(2, 1, 1), options]]}
    two = torch.rand(2, 16, 16, 3)
    with pytest.raises(ValueError, match=r"^image: got 2 pictures with a conditioning of 2 \(prompts"):
        Inpaint.execute(two, torch.ones(1, 16, 16), seed=0, steps=1, cfg=1.0, **given)
    with torch.inference_mode():
        assert len(Inpaint.execute(two, torch.ones(1, 16, 16), seed=0, steps=1, cfg=1.0, **sockets).args[0]) == 2


def test_noise_that_is_none_is_not_taken_out(sockets: dict) -> None:
    with pytest.raises(ValueError, match="^noise: got 0 with the task 'noise', so that nothing would be taken out"):
        Restore.execute(torch.rand(1, 16, 16, 3), task="noise", seed=0, steps=1, cfg=1.0, **sockets)
