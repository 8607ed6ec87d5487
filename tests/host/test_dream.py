"""DreamSampler as a SAMPLER: the core's solver, switch by switch, under the host's guiders; and holes by region."""

from __future__ import annotations

import pytest
import torch
from comfy_extras.nodes_custom_sampler import Noise_EmptyNoise, Noise_RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_hooks import ConditioningSetDefaultAndCombine
from msd_pack.msd_core import inpaint, load_model
from msd_pack.msd_core.demo.grammar import parse
from msd_pack.msd_core.demo.judge import judge
from msd_pack.msd_core.demo.model import DemoModel
from msd_pack.msd_core.demo.scenes import draw
from msd_pack.msd_core.dreamsampler import Denoised, Edited, dream_sample, unit_share
from msd_pack.nodes import host
from msd_pack.nodes.demo_model import clip_of, model_of, vae_of
from msd_pack.nodes.dream import MODES, DreamSampler
from msd_pack.nodes.existing import Inpaint
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.measurement import MeasurementNode
from msd_pack.nodes.nearby import ProductSampler
from msd_pack.nodes.paste import PasteKnown
from test_bridge import guider_of, latent
from test_measurement import EULER, guiders, levels_of, sampled
from tiny_models import KINDS, tiny_model

from nodes import ConditioningCombine, ConditioningSetMask

STEPS = 5


def dreaming(mode: str = "renoise", strength: float = 0.2, temperature: float = 1.0) -> object:
    with torch.inference_mode():
        return DreamSampler.execute(mode, strength, temperature).args[0]


def headless(model: object, mode: str, steps: int = STEPS, seed: int = 3) -> torch.Tensor:
    """The core's solver on the host's denoiser, from the noise and over the levels of `sampled`."""
    levels = levels_of(model, steps)
    noise = Noise_RandomNoise(seed).generate_noise({"samples": torch.zeros(1, 4, 8, 8)})

    def loop(session: host.Session) -> torch.Tensor:
        axis = session.denoiser.axis
        own = axis.reached(levels).double()
        z = noise * float(own[0]) if axis.flow else noise * float(torch.sqrt(1.0 + own[0] ** 2))
        inner = Edited(session.denoiser, 0.2, steps) if mode == "edit" else Denoised(session.denoiser)
        rng = torch.Generator().manual_seed(seed + 1)
        kept = unit_share if mode == "renoise" else 1.0
        return session.latent_format.process_out(dream_sample(z, inner, own, kept=kept, rng=rng).float())

    return host.run(guider_of(model), loop, 8, 8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_walks_the_core_s_path(kind: str, mode: str) -> None:
    model = tiny_model(kind)
    found, wanted = sampled(guider_of(model), dreaming(mode), STEPS), headless(model, mode)
    assert torch.allclose(found, wanted, atol=2e-2 * float(wanted.std())), (found - wanted).abs().max()
    euler = sampled(guider_of(model), EULER, STEPS)
    assert torch.allclose(found, euler, atol=2e-2 * float(wanted.std())) == (mode == "ddim")


def test_an_edit_does_not_depend_on_the_guider_s_cfg_and_strength_is_heeded() -> None:
    model = tiny_model()
    one, other = (sampled(guider_of(model, cfg), dreaming("edit"), STEPS) for cfg in (1.0, 7.0))
    assert torch.allclose(one, other, atol=1e-3 * float(one.std()))
    assert not torch.allclose(one, sampled(guider_of(model), dreaming("edit", 2.0), STEPS), atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_in_two_parts_is_that_in_one(kind: str) -> None:
    """Strength is of the whole chain, wherever a walk begins and ends."""
    model = tiny_model(kind)
    levels = levels_of(model, 2 * STEPS)
    whole, halved = levels, (levels[: STEPS + 1], levels[STEPS:])
    empty = {"samples": torch.zeros(1, 4, 8, 8)}
    with torch.inference_mode():
        noise = Noise_RandomNoise(3)
        one = SamplerCustomAdvanced.execute(noise, guider_of(model), dreaming("edit", 4.0), whole, empty).args[0]
        found, last = empty, one["samples"]
        for part, start in zip(halved, (noise, Noise_EmptyNoise()), strict=True):
            found = SamplerCustomAdvanced.execute(start, guider_of(model), dreaming("edit", 4.0), part, found).args[0]
        weak = SamplerCustomAdvanced.execute(noise, guider_of(model), dreaming("edit", 2.0), whole, empty).args[0]
    off = float((found["samples"] - last).norm())
    assert off < 0.15 * float((weak["samples"] - last).norm()), "twice as strong would be as far"


def test_levels_of_a_flow_above_the_highest_are_one() -> None:
    model = tiny_model("flow")
    levels = torch.tensor([1.0, 0.9995, 0.5, 0.0])
    seen = []
    with torch.inference_mode():
        given = Noise_RandomNoise(3), guider_of(model), dreaming(), levels, {"samples": torch.zeros(1, 4, 8, 8)}
        monkey = pytest.MonkeyPatch()
        monkey.setattr("comfy_extras.nodes_custom_sampler.latent_preview.prepare_callback", lambda *_, **__: told)

        def told(step: int, *_: object) -> None:
            seen.append(step)

        found = SamplerCustomAdvanced.execute(*given).args[0]["samples"]
        monkey.undo()
    assert bool(found.isfinite().all()) and seen == [1, 2]


def test_fresh_noise_is_of_the_seed_and_not_that_of_the_start() -> None:
    """A row of a batch draws what the next seed draws alone."""
    model = tiny_model()
    many = sampled(guider_of(model), dreaming(), STEPS, batch=2)
    assert torch.equal(many, sampled(guider_of(model), dreaming(), STEPS, batch=2))
    assert torch.allclose(many[:1], sampled(guider_of(model), dreaming(), STEPS), atol=1e-3 * float(many.std()))
    start = Noise_RandomNoise(3).generate_noise({"samples": torch.zeros(1, 4, 8, 8)})
    fresh = torch.randn((1, 1, 4, 8, 8), generator=torch.Generator().manual_seed(4))[0]
    assert (start * fresh).mean().abs() < 0.3 and not torch.equal(start, fresh)


def walked(
    kind: str, sampler: object, noise: object, first: int = 0, around: torch.Tensor | None = None
) -> torch.Tensor:
    """From the level numbered ``first``, out of ``noise`` and the picture that it lies around."""
    model = tiny_model(kind)
    samples = torch.zeros(1, 4, 8, 8) if around is None else around
    levels = levels_of(model, STEPS)[first:]
    with torch.inference_mode():
        out = SamplerCustomAdvanced.execute(noise, guider_of(model), sampler, levels, {"samples": samples})
    return out.args[0]["samples"]


@pytest.mark.parametrize("kind", KINDS)
def test_at_temperature_0_no_seed_counts_and_at_half_less_is_drawn(kind: str) -> None:
    """A picture that the noise lies around stays whole: only what is drawn is scaled."""
    cold = [walked(kind, dreaming(temperature=0.0), Noise_RandomNoise(seed)) for seed in (3, 4)]
    assert torch.equal(*cold)
    for first, around in ((0, None), (2, 4 * latent(seed=5))):
        quiet = walked(kind, dreaming("ddim"), Noise_EmptyNoise(), first, around)
        found = walked(kind, dreaming("ddim", temperature=0.0), Noise_RandomNoise(3), first, around)
        assert torch.allclose(found, quiet, atol=1e-4 * float(quiet.std()))
    warm = [walked(kind, dreaming(temperature=t), Noise_RandomNoise(3)) for t in (0.5, 1.0)]
    distances = [float((one - cold[0]).norm()) for one in warm]
    assert 0 < distances[0] < distances[1]


@pytest.mark.parametrize("name", ["dual", "perp-neg", "basic"])
def test_every_guider_takes_it_but_an_edit_needs_both_parts(name: str) -> None:
    guider = guiders(tiny_model())[name]
    assert bool(sampled(guider, dreaming(), 3).isfinite().all())
    assert torch.allclose(sampled(guider, dreaming("ddim"), 3), sampled(guider, EULER, 3), atol=0.05)
    with pytest.raises(ValueError, match="guider: is .*, and 'edit' needs a single cfg"):
        sampled(guider, dreaming("edit"), 3)


@pytest.mark.parametrize("mode", MODES)
def test_a_noise_mask_is_heeded(mode: str) -> None:
    picture, mask = 4 * latent(seed=5), torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1.0
    given = {"samples": picture, "noise_mask": mask}
    found = sampled(guider_of(tiny_model()), dreaming(mode), STEPS, latent=given)
    assert torch.allclose(found[..., 4:], picture[..., 4:], atol=1e-4)
    assert not torch.allclose(found[..., :4], picture[..., :4], atol=1e-2)


def test_it_goes_with_the_product_sampler_and_an_edit_says_no() -> None:
    picture = 4 * latent(seed=5)
    with torch.inference_mode():
        near = [ProductSampler.execute(dreaming(mode), {"samples": picture}, 0.05).args[0] for mode in MODES]
    assert float((sampled(guider_of(tiny_model()), near[0], STEPS) - picture).std()) * 0.18215 < 0.2
    with pytest.raises(ValueError, match="guider: is one around which another node has put something"):
        sampled(guider_of(tiny_model()), near[2], 2)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="mode: got 'sds'"):
        DreamSampler.execute("sds", 0.2)
    with pytest.raises(ValueError, match="strength: got -1"):
        DreamSampler.execute("edit", -1.0)
    with pytest.raises(ValueError, match="temperature: got 1.5"):
        DreamSampler.execute("renoise", 0.2, 1.5)
    with pytest.raises(ValueError, match="temperature: got 0.5 with the mode 'edit'"):
        DreamSampler.execute("edit", 0.2, 0.5)
    levels = levels_of(tiny_model(), 4).flip(0)
    with pytest.raises(ValueError, match="sigmas"), torch.inference_mode():
        noise, empty = Noise_RandomNoise(0), {"samples": torch.zeros(1, 4, 8, 8)}
        SamplerCustomAdvanced.execute(noise, guider_of(tiny_model()), dreaming(), levels, empty)


# --- the demo model ---------------------------------------------------------------------------------------------------

BEFORE = "a red boat between a blue star and a green fir at sea"
FIRST, SECOND = (
    "a red boat between a yellow house and a green fir at sea",
    "a red boat between a blue star and a pink cat at sea",
)
AFTER = "a red boat between a yellow house and a pink cat at sea"


@pytest.fixture(scope="module")
def demo() -> DemoModel:
    model = load_model()
    assert isinstance(model, DemoModel)
    return model


@pytest.fixture(scope="module")
def prompts(demo: DemoModel) -> dict:
    with torch.inference_mode():
        clip = clip_of(demo)
        texts = BEFORE, FIRST, SECOND, AFTER, ""
        return {text: clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts}


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return draw([parse(BEFORE)], 128)


def around(number: int) -> torch.Tensor:
    """A MASK of the cells around a thing of `BEFORE`."""
    x, y, radius = parse(BEFORE).layout()[number]
    left, top, right, bottom = (round(16 * (place + sign * 1.3 * radius)) * 8 for sign in (-1, 1) for place in (x, y))
    mask = torch.zeros(1, 128, 128)
    mask[:, max(0, top) : bottom, max(0, left) : right] = 1
    return mask


def test_a_hole_through_measurement_dreamsampler_and_paste(
    demo: DemoModel, prompts: dict, picture: torch.Tensor
) -> None:
    """The stock way: guider, sampler, decode, paste. The picture is the prompt's, and the rest stays to the bit."""
    hole = torch.maximum(around(1), around(2))
    with torch.inference_mode():
        guider = make_guider(model_of(demo), prompts[AFTER], prompts[""], 1.0)
        vae, image = vae_of(demo), picture.movedim(1, -1)
        guider, empty = MeasurementNode.execute(guider, vae, image, "mask", hole).args
        x = sampled(guider, dreaming(), 12, latent=empty)
        made, kept = PasteKnown.execute(vae.decode(x), image, hole, 4.0).args
    assert judge(made[0].movedim(-1, 0), parse(AFTER)).accepted and kept > 25
    assert torch.equal(made[:, hole[0] == 0], image[:, hole[0] == 0])


def test_regions_are_the_host_s_own_masked_conditionings(demo: DemoModel, prompts: dict, picture: torch.Tensor) -> None:
    """Conditioning (Set Mask), combined, with the whole picture's as default: what the core makes of its regions."""
    holes = around(1), around(2)
    with torch.inference_mode():
        masked = [
            ConditioningSetMask().append(prompts[text], mask, "default", 1.0)[0]
            for text, mask in zip((FIRST, SECOND), holes, strict=True)
        ]
        both = ConditioningCombine().combine(*masked)[0]
        positive = ConditioningSetDefaultAndCombine().set_default_and_combine(both, prompts[BEFORE])[0]
        image, _ = Inpaint.execute(
            picture.movedim(1, -1), torch.maximum(*holes), vae_of(demo), 3, 8, 1.0,
            model=model_of(demo), positive=positive, negative=prompts[""], grow=0,
        ).args  # fmt: skip
    regions = list(zip(holes, (FIRST, SECOND), strict=True))
    regions = [(mask[0], text) for mask, text in regions]
    wanted = inpaint(picture, None, BEFORE, model=demo, regions=regions, seed=3, steps=8, grow=0).picture
    assert float(-10 * (image.movedim(-1, 1) - wanted).square().mean().log10()) > 30
    assert judge(image[0].movedim(-1, 0), parse(AFTER)).accepted
