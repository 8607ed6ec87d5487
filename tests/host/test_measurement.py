"""Measurement: the core's posterior denoiser under the host's samplers and guiders, and what is refused."""

from __future__ import annotations

from contextlib import nullcontext

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import DualCFGGuider, Noise_RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from msd_pack.msd_core.distillation import METHODS
from msd_pack.msd_core.distillation.base import needs_of
from msd_pack.msd_core.manipulation.pixels import PixelPosterior
from msd_pack.msd_core.manipulation.result import cells_of
from msd_pack.msd_core.manipulation.tasks import TASKS, measurement_of
from msd_pack.msd_core.measurement import Observation
from msd_pack.msd_core.measurement.mask import Mask
from msd_pack.msd_core.measurement.pool import Pool
from msd_pack.msd_core.posterior import PosteriorDenoiser
from msd_pack.msd_core.sampling import ddim_sample
from msd_pack.nodes import host
from msd_pack.nodes.beside import is_measured
from msd_pack.nodes.editing import Edit
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.measurement import GAINS_HERE, MeasurementNode
from msd_pack.nodes.nearby import MeanShiftRefine, ProductSampler
from msd_pack.nodes.paste import PasteKnown
from msd_pack.nodes.precision import difference_for
from test_bridge import NEGATIVE, POSITIVE, guider_of
from test_steps import STEPS, born, step
from tiny_models import KINDS, conditioning, tiny_model, tiny_vae

EULER = comfy.samplers.sampler_object("euler")
SIDE = 64


@pytest.fixture(scope="module")
def vae() -> object:
    return tiny_vae()


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """An IMAGE."""
    return torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def hole() -> torch.Tensor:
    """A MASK."""
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 20:44, 12:40] = 1
    return mask


def known(guider: object, vae: object, image: torch.Tensor, **changes: object) -> tuple:
    with torch.inference_mode():
        return MeasurementNode.execute(guider, vae, image, **{"task": "mask", **changes}).args


def levels_of(model: object, steps: int) -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


def sampled(
    guider: object, sampler: object = EULER, steps: int = 5, batch: int = 1, latent: dict | None = None
) -> torch.Tensor:
    latent = {"samples": torch.zeros(batch, 4, 8, 8)} if latent is None else latent
    levels = levels_of(guider.model_patcher, steps)
    with torch.inference_mode():
        out = SamplerCustomAdvanced.execute(Noise_RandomNoise(3), guider, sampler, levels, latent)
    return out.args[0]["samples"]


def headless(model: object, vae: object, wrap: object, steps: int = 5) -> torch.Tensor:
    """DDIM of the core on ``wrap(session)``, a denoiser, from the noise and over the levels of `sampled`."""
    levels = levels_of(model, steps)
    noise = Noise_RandomNoise(3).generate_noise({"samples": torch.zeros(1, 4, 8, 8)})

    def loop(session: host.Session) -> torch.Tensor:
        axis = session.denoiser.axis
        own = axis.sigma(levels.clamp(max=0.999) if axis.flow else levels)
        z = noise * own[0] if axis.flow else noise * float(torch.sqrt(1.0 + own[0] ** 2))
        with torch.no_grad():
            return session.latent_format.process_out(ddim_sample(z, wrap(session), own))

    return host.run(guider_of(model), loop, 8, 8, vae=vae)


@pytest.mark.parametrize("gain", GAINS_HERE)
@pytest.mark.parametrize("kind", [*KINDS, "eps of half the spread"])
def test_in_latents_euler_walks_the_path_of_the_core_s_posterior(
    kind: str, gain: str, vae: object, picture: torch.Tensor, hole: torch.Tensor
) -> None:
    model = tiny_model(kind.split()[0])
    if kind not in KINDS:
        model.get_model_object("model_sampling").sigma_data = 0.5
    guider, latent = known(guider_of(model), vae, picture, mask=hole, space="latents", gain=gain)
    found = sampled(guider, latent=latent)

    def wrap(session: host.Session) -> PosteriorDenoiser:
        cells = Mask(1 - cells_of(hole[:, None], 8, 1))
        return PosteriorDenoiser(session.denoiser, Observation(cells, cells.apply(x)), gain)

    with torch.inference_mode():
        seen = torch.where(hole[..., None] > 0, picture[:, (hole == 0)[0]].mean(dim=1).reshape(1, 1, 1, 3), picture)
        x = model.get_model_object("latent_format").process_in(vae.encode(seen)).clone()
    wanted = headless(model, None, wrap)
    assert torch.allclose(found, wanted, atol=2e-2 * float(wanted.std())), (found - wanted).abs().max()
    free = sampled(guider_of(model))
    assert not torch.allclose(found, free, atol=0.2 * float(free.std()))


@pytest.mark.parametrize("kind", KINDS)
def test_in_pixels_euler_walks_the_path_of_the_core_s_posterior(
    kind: str, vae: object, picture: torch.Tensor, hole: torch.Tensor
) -> None:
    model = tiny_model(kind)
    small = torch.nn.functional.avg_pool2d(picture.movedim(-1, 1), 4)
    seen = Mask((hole[:, None] == 0).float())
    for given, b, measurement in (
        ({"image": picture, "mask": hole}, seen.apply(picture.movedim(-1, 1)), seen),
        ({"image": small.movedim(1, -1), "task": "x4", "noise": 0.1}, small, Pool(4)),
    ):
        guider, latent = known(guider_of(model), vae, **given)
        found = sampled(guider, latent=latent)

        def wrap(session: host.Session) -> PixelPosterior:
            observation = Observation(measurement, b, given.get("noise", 0.0))  # noqa: B023 - called at once
            return PixelPosterior(session.denoiser, observation, session.encode, session.decode)

        wanted = headless(model, vae, wrap)
        assert torch.allclose(found, wanted, atol=2e-2 * float(wanted.std())), (found - wanted).abs().max()


def test_what_is_known_is_there_and_nothing_else_is_touched(
    vae: object, picture: torch.Tensor, hole: torch.Tensor
) -> None:
    """In latents without noise the known cells are the picture's own; the guider handed in is as it was."""
    own = guider_of(tiny_model())
    before = dict(own.model_patcher.wrappers)
    guider, latent = known(own, vae, picture, mask=hole, space="latents", grow=0)
    found = sampled(guider, latent=latent)
    cells = cells_of(hole[:, None], 8, 0)[0, 0] == 0
    with torch.inference_mode():
        seen = torch.where(hole[..., None] > 0, picture[:, (hole == 0)[0]].mean(dim=1).reshape(1, 1, 1, 3), picture)
        wanted = vae.encode(seen)
    assert torch.allclose(found[..., cells], wanted[..., cells], atol=1e-4)
    assert is_measured(guider) and not is_measured(own) and own.model_patcher.wrappers == before
    assert torch.equal(sampled(own), sampled(guider_of(tiny_model())))


@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "euler_ancestral", "dpmpp_sde", "uni_pc", "lcm"])
def test_every_sampler_takes_it(name: str, vae: object, picture: torch.Tensor, hole: torch.Tensor) -> None:
    guider, latent = known(guider_of(tiny_model()), vae, picture, mask=hole, space="latents", grow=0)
    found = sampled(guider, comfy.samplers.sampler_object(name), latent=latent)
    cells = cells_of(hole[:, None], 8, 0)[0, 0] == 0
    given = sampled(guider, latent=latent)
    assert bool(found.isfinite().all())
    assert torch.allclose(found[..., cells], given[..., cells], atol=0.05 * float(given.std()))


def guiders(model: object) -> dict:
    dual = DualCFGGuider.execute(model, POSITIVE, conditioning(5), NEGATIVE, 3.0, 2.0, "regular").args[0]
    perpendicular = Guider_PerpNeg(model)
    perpendicular.set_conds(POSITIVE, NEGATIVE, conditioning(6))
    perpendicular.set_cfg(3.0, 1.0)
    basic = comfy.samplers.CFGGuider(model)
    basic.inner_set_conds({"positive": POSITIVE})
    return {"dual": dual, "perp-neg": perpendicular, "basic": basic}


@pytest.mark.parametrize("name", ["dual", "perp-neg", "basic"])
@pytest.mark.parametrize("space", ["pixels", "latents"])
def test_every_guider_takes_it(name: str, space: str, vae: object, picture: torch.Tensor, hole: torch.Tensor) -> None:
    """Each with its own rule: where nothing new is known it is the guider itself; else what is known acts."""
    own = guiders(tiny_model())[name]
    guider, latent = known(own, vae, picture, mask=hole, space=space)
    assert type(guider) is type(own)
    found, free = sampled(guider, latent=latent, steps=3), sampled(own, steps=3)
    assert bool(found.isfinite().all()) and not torch.allclose(found, free, atol=0.05 * float(free.std()))
    if space == "latents":  # of what it would draw anyway, with noise beyond all measure: nothing is known
        loose, latent = known(own, vae, picture, mask=hole, space=space, noise=10.0, gain="proximal")
        near = sampled(loose, latent=latent, steps=3)
        assert (near - free).std() < 0.2 * (found - free).std()


def test_a_batch_is_a_loop(vae: object, hole: torch.Tensor) -> None:
    """Each picture with what is known of it; one for all."""
    pictures = torch.rand(2, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))
    masks = torch.cat([hole, hole.roll(8, 1)])
    for space in ("pixels", "latents"):
        guider, latent = known(guider_of(tiny_model()), vae, pictures, mask=masks, space=space)
        assert latent["samples"].shape == (2, 4, 8, 8) and not latent["samples"].any()
        both = sampled(guider, latent=latent, steps=3)
        one, _ = known(guider_of(tiny_model()), vae, pictures[:1], mask=masks[:1], space=space)
        many = sampled(one, batch=2, steps=3)
        assert torch.allclose(both[:1], many[:1], atol=1e-3 * float(both.std()))
        assert not torch.allclose(both[1:], many[1:], atol=1e-2 * float(both.std()))


def test_soft_masks(vae: object, picture: torch.Tensor, hole: torch.Tensor) -> None:
    """Without noise what is a little in the hole is drawn anew; with noise it is known the less."""
    soft = hole.clone()
    soft[:, 44:52, 12:40] = 0.5
    hard = (soft > 0).float()
    for space in ("pixels", "latents"):
        made = [
            sampled(known(guider_of(tiny_model()), vae, picture, mask=m, space=space, noise=s)[0], steps=3)
            for m, s in ((soft, 0.0), (hard, 0.0), (soft, 0.1), (hard, 0.1), (hole, 0.1))
        ]
        assert torch.equal(made[0], made[1])
        assert not torch.allclose(made[2], made[3], atol=1e-4) and not torch.allclose(made[2], made[4], atol=1e-4)


def test_the_evaluations_of_a_step(vae: object, picture: torch.Tensor, hole: torch.Tensor) -> None:
    """1 + cg_steps of the Kalman gain in latents; one in pixels, and of the other gains."""
    counted: list[int] = []
    own = comfy.samplers.CFGGuider.predict_noise

    def counting(self: object, x: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        counted.append(len(x))
        return own(self, x, *rest, **more)

    def rows(**options: object) -> int:
        counted.clear()
        sampled(known(guider_of(tiny_model()), vae, picture, mask=hole, **options)[0], steps=4)
        return sum(counted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.samplers.CFGGuider, "predict_noise", counting)
        assert rows(space="latents") == 12 and rows(space="latents", cg_steps=1) == 8
        assert rows(space="latents", gain="proximal") == 4 and rows() == 4


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_the_core_s(task: str, vae: object) -> None:
    """Its operator, its noise and the size of its picture."""
    measurement, factor = measurement_of(task, 2.0, 0.1)
    image = torch.rand(1, 64 // factor, 64 // factor, 3, generator=torch.Generator().manual_seed(2))
    guider, latent = known(guider_of(tiny_model()), vae, image, task=task, width=2.0, noise=0.05)
    assert latent["samples"].shape == (1, 4, 8, 8)
    b = image.movedim(-1, 1)
    observation = Observation(measurement, measurement.apply(b) if task == "grey" else b, 0.05)

    def wrap(session: host.Session) -> PixelPosterior:
        return PixelPosterior(session.denoiser, observation, session.encode, session.decode)

    found, wanted = sampled(guider, latent=latent, steps=2), headless(tiny_model(), vae, wrap, steps=2)
    assert torch.allclose(found, wanted, atol=1e-3 * float(wanted.std()))
    assert not torch.allclose(found, sampled(guider_of(tiny_model()), steps=2), atol=1e-3 * float(wanted.std()))


def test_the_pack_s_own_nodes_take_it(vae: object, picture: torch.Tensor, hole: torch.Tensor) -> None:
    """Product Sampler and Mean-Shift Refine; what needs both parts of a guidance says so."""
    guider, latent = known(guider_of(tiny_model()), vae, picture, mask=hole, space="latents", grow=0)
    cells = cells_of(hole[:, None], 8, 0)[0, 0] == 0
    x = sampled(guider, latent=latent)
    with torch.inference_mode():
        product = ProductSampler.execute(EULER, {"samples": x}, 50.0).args[0]
        refined = MeanShiftRefine.execute({"samples": x}, 2, 1.0, 0.5, 1.0, 0, guider=guider).args[0]["samples"]
        assert torch.allclose(sampled(guider, product)[..., cells], x[..., cells], atol=0.05 * float(x.std()))
        assert torch.allclose(refined[..., cells], x[..., cells], atol=0.05 * float(x.std()))
        with pytest.raises(ValueError, match="guider: one from Measurement has no single cfg"):
            Edit.execute(picture, vae, 2, 0.2, guider=guider)


TAKEN = ("msd", "sds", "cfd")
"""The steps that ask for one guidance alone; `sdi` is one of them without an inversion_cfg."""


@pytest.mark.parametrize("method", STEPS)
def test_steps_that_need_one_guidance_take_it_and_others_say_so(
    method: str, vae: object, picture: torch.Tensor, hole: torch.Tensor
) -> None:
    guider, _ = known(guider_of(tiny_model()), vae, picture, mask=hole)
    taken, more = method in TAKEN, {"steps": 1, "guider": guider, "vae": vae}
    if method == "sdi":
        assert bool(step(method, born(width=64, height=64), inversion_cfg="", **more)[1].isfinite().all())
    if "source" in needs_of(METHODS[method]):
        more["source"] = picture
    with nullcontext() if taken else pytest.raises(ValueError, match="guider: one from Measurement has"):
        step(method, born(width=64, height=64), **more)


BASE: dict = {"image": torch.zeros(1, SIDE, SIDE, 3)}
ALL = torch.ones(1, SIDE, SIDE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "mask: is not connected, and task is 'mask'"),
        ({"mask": ALL, "task": "x4"}, "mask: is connected, and task is 'x4'"),
        ({"mask": ALL}, "mask: is 1 everywhere"),
        ({"mask": 0 * ALL}, "mask: is 0 everywhere"),
        ({"mask": ALL[:, :32]}, r"mask: got shape \(1, 32, 64\) for a picture of 64x64"),
        ({"mask": ALL.expand(2, -1, -1)}, "mask: got 2 of them for 1 images"),
        ({"task": "blur", "space": "latents"}, "space: got 'latents' with task 'blur'"),
        ({"task": "x3"}, "task: got 'x3'"),
        ({"task": "blur", "width": 0.0}, "width: got 0"),
        ({"task": "noise", "noise": -1.0}, "noise: got -1"),
        ({"task": "noise"}, "noise: got 0 with the task 'noise'"),
        ({"image": torch.zeros(1, 60, 64, 3), "task": "grey"}, "image: makes a picture of 64x60"),
        ({"image": torch.zeros(64, 64, 3), "task": "grey"}, r"image: got shape \(64, 64, 3\)"),
    ],
)
def test_wrong_input(changes: dict, message: str, vae: object) -> None:
    with pytest.raises(ValueError, match=message):
        known(guider_of(tiny_model()), vae, **{**BASE, **changes})


def test_wrong_company(vae: object, picture: torch.Tensor, hole: torch.Tensor) -> None:
    guider, _ = known(guider_of(tiny_model()), vae, picture, mask=hole)
    with pytest.raises(ValueError, match="guider: is of a measurement already"):
        known(guider, vae, picture, mask=hole)
    with pytest.raises(ValueError, match=r"latent: what is sampled has shape \(1, 4, 4, 4\)"):
        sampled(guider, latent={"samples": torch.zeros(1, 4, 4, 4)})
    other = tiny_vae()
    other.latent_channels = 16
    with pytest.raises(ValueError, match="vae: encodes to 16 channels"):
        known(guider_of(tiny_model()), other, picture, mask=hole)
    with pytest.raises(ValueError, match="positive: is empty"):
        known(make_guider(guider=empty_guider()), vae, picture, mask=hole)


def empty_guider() -> object:
    guider = comfy.samplers.CFGGuider(tiny_model())
    guider.inner_set_conds({"positive": []})
    return guider


# --- paste ------------------------------------------------------------------------------------------------------------


def test_paste_keeps_what_was_to_stay_to_the_bit(picture: torch.Tensor, hole: torch.Tensor) -> None:
    off = (picture + 0.1).clamp(max=1)
    with torch.inference_mode():
        made, kept = PasteKnown.execute(off.repeat(2, 1, 1, 1), picture, hole, 3.0).args
    assert made.shape == (2, SIDE, SIDE, 3) and torch.equal(made[0], made[1])
    stays = hole[0] == 0
    assert torch.equal(made[0, stays], picture[0, stays]) and not torch.equal(made[0, ~stays], off[0, ~stays])
    assert kept == pytest.approx(float(-10 * (off - picture)[0, stays].square().mean().log10()), abs=0.01)


def test_kept_is_the_mean_of_where_something_was_kept(picture: torch.Tensor, hole: torch.Tensor) -> None:
    off = (picture + 0.1).clamp(max=1)
    whole = torch.ones_like(hole)
    with torch.inference_mode():
        one, both, none = (
            PasteKnown.execute(off.repeat(len(masks), 1, 1, 1), picture, masks, 3.0).args[1]
            for masks in (hole, torch.cat([hole, whole]), whole)
        )
    assert both == pytest.approx(one) and none == -1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known": torch.zeros(1, 8, 8, 3)}, "known: got shape"),
        ({"mask": torch.ones(1, 8, 8)}, r"mask: got shape \(1, 1, 8, 8\)"),
        ({"mask": torch.ones(2, SIDE, SIDE)}, "mask: got shape"),
        ({"mask": torch.zeros(1, SIDE, SIDE)}, "mask: is 0 everywhere"),
        ({"feather": -1.0}, "feather: got -1"),
    ],
)
def test_wrong_pastes(changes: dict, message: str, picture: torch.Tensor, hole: torch.Tensor) -> None:
    given = {"image": picture, "known": picture, "mask": hole, "feather": 4.0}
    with pytest.raises(ValueError, match=message):
        PasteKnown.execute(**{**given, **changes})


# --- half precision ---------------------------------------------------------------------------------------------------


def test_in_bfloat16_the_gain_asks_farther_away(vae: object, picture: torch.Tensor, hole: torch.Tensor) -> None:
    """Rounding of what a small step changes is as large as the change."""
    model = tiny_model()
    asked: list[torch.Tensor] = []
    guider, latent = known(guider_of(model), vae, picture, mask=hole, space="latents")
    model.model.manual_cast_dtype = torch.bfloat16
    assert difference_for(model.model) == 0.2
    halved, _ = known(guider_of(model), vae, picture, mask=hole, space="latents")
    model.model.manual_cast_dtype = torch.float16
    assert difference_for(model.model) == 0.05
    model.model.manual_cast_dtype = None
    own = comfy.samplers.CFGGuider.predict_noise

    def recording(self: object, x: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        asked.append(x)
        return own(self, x, *rest, **more)

    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.samplers.CFGGuider, "predict_noise", recording)
        for one in (guider, halved):
            asked.clear()
            sampled(one, latent=latent, steps=1)
            steps.append(float((asked[1] - asked[0]).norm()))
    assert steps[1] == pytest.approx(4 * steps[0], rel=1e-3)
