"""What a user puts around a model reaches the loop as it reaches the host's own sampler, to the last bit.

LoRA, its keyframes, ControlNet, regional prompts, model patches, and guiders with rules of their own: at the same x and
level the denoiser of the loop is what a stock sampler is given, whatever was asked before, and each changes both.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import comfy.cldm.cldm
import comfy.controlnet
import comfy.hooks
import comfy.model_management
import comfy.samplers
import comfy.sd
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_custom_sampler import DualCFGGuider
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_model_advanced import RescaleCFG
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from comfy_extras.nodes_sag import SelfAttentionGuidance
from msd_pack.nodes import host, host_denoiser, timed
from msd_pack.nodes.guiders import make_guider
from tiny_models import KINDS, TWO_LEVELS, UNET, conditioning, fill, tiny_model
from torch import Tensor

POSITIVE, OTHER, NEGATIVE, EMPTY = (conditioning(seed) for seed in (3, 5, 4, 6))
SIDE = 16
LEVELS = (0.4, 2.0, 9.0)
WALK = (9.0, 0.4, 2.0, 9.0, 2.0, 0.4, 9.0)
"""Down and up again."""
ATTENTION = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
Guider = comfy.samplers.CFGGuider


def with_cfg(model: ModelPatcher, positive: list = POSITIVE, negative: list = NEGATIVE) -> Guider:
    return make_guider(model, positive, negative, 3.0)


def lora(model: ModelPatcher) -> Guider:
    """As Load LoRA applies a file of rank 2."""
    rows, columns = model.model.state_dict()[ATTENTION].shape
    name = "lora_unet_" + ATTENTION.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
    random = torch.Generator().manual_seed(9)
    file = {
        f"{name}.lora_up.weight": torch.randn(rows, 2, generator=random),
        f"{name}.lora_down.weight": torch.randn(2, columns, generator=random),
        f"{name}.alpha": torch.tensor(2.0),
    }
    patched, _ = comfy.sd.load_lora_for_models(model, None, file, 0.8, 0.0)
    assert len(patched.patches) == 1
    return with_cfg(patched)


def controlnet(model: ModelPatcher) -> Guider:
    """As Apply ControlNet does it, for a part of the levels."""
    of_control = {key: value for key, value in UNET.items() if key not in ("out_channels", "transformer_depth_output")}
    network = fill(comfy.cldm.cldm.ControlNet(hint_channels=3, dtype=torch.float32, **of_control), 8)
    device = comfy.model_management.get_torch_device()
    control = comfy.controlnet.ControlNet(network, load_device=device, manual_cast_dtype=None)
    hint = torch.rand(1, 3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(7))
    sides = []
    for side in (POSITIVE, NEGATIVE):
        applied = control.copy().set_cond_hint(hint, 0.5, (0.0, 0.8))
        sides.append([[side[0][0], side[0][1] | {"control": applied, "control_apply_to_uncond": False}]])
    return with_cfg(model, *sides)


def regions(model: ModelPatcher) -> Guider:
    """Two prompts, the one in a mask, the other in an area."""
    masked = {"mask": torch.ones(1, SIDE, SIDE).tril(), "mask_strength": 1.0, "set_area_to_bounds": False}
    area = {"area": (SIDE // 2, SIDE, SIDE // 2, 0), "strength": 0.7, "set_area_to_bounds": False}
    parts = [[part[0][0], part[0][1] | where] for part, where in ((POSITIVE, masked), (OTHER, area))]
    return with_cfg(model, POSITIVE + parts)


def timed_prompts(model: ModelPatcher) -> Guider:
    """A prompt for the first half of the levels, another for the second."""
    parts = ((POSITIVE, (0.0, 0.5)), (OTHER, (0.5, 1.0)))
    told = [[part[0][0], part[0][1] | {"start_percent": s, "end_percent": e}] for part, (s, e) in parts]
    return with_cfg(model, told)


def keyframed(model: ModelPatcher, positive: bool, negative: bool) -> Guider:
    """As Create Hook Model as LoRA and Set Hook Keyframes do it: full, half and no strength."""
    other = tiny_model(seed=7).model_state_dict("diffusion_model.")
    hooks = comfy.hooks.create_hook_model_as_lora(other, None, 0.8, 0.0)
    group = comfy.hooks.HookKeyframeGroup()
    for strength, start in ((1.0, 0.0), (0.5, 0.3), (0.0, 0.6)):
        group.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=start))
    hooks.set_keyframes_on_hooks(group)
    both = ((POSITIVE, positive), (NEGATIVE, negative))
    return with_cfg(model, *(comfy.hooks.set_hooks_for_conditioning(c, hooks) if own else c for c, own in both))


def keyframes(model: ModelPatcher) -> Guider:
    """On one side: the host keeps the patched weights, to change between the two."""
    return keyframed(model, positive=True, negative=False)


def keyframes_on_both(model: ModelPatcher) -> Guider:
    """On both: the host keeps none."""
    return keyframed(model, positive=True, negative=True)


def dual(model: ModelPatcher) -> Guider:
    return DualCFGGuider.execute(model, POSITIVE, OTHER, NEGATIVE, 3.0, 2.0, "regular").args[0]


def perp_neg(model: ModelPatcher) -> Guider:
    guider = Guider_PerpNeg(model)
    guider.set_conds(POSITIVE, NEGATIVE, EMPTY)
    guider.set_cfg(3.0, 1.0)
    return guider


def basic(model: ModelPatcher) -> Guider:
    guider = Guider(model)
    guider.inner_set_conds({"positive": POSITIVE})
    return guider


AROUND: dict[str, Callable[[ModelPatcher], Guider]] = {
    "lora": lora,
    "controlnet": controlnet,
    "regions": regions,
    "timed": timed_prompts,
    "keyframes": keyframes,
    "keyframes on both": keyframes_on_both,
    "FreeU": lambda model: with_cfg(FreeU_V2.execute(model, 1.3, 1.4, 0.9, 0.2).args[0]),
    "rescaled cfg": lambda model: with_cfg(RescaleCFG().patch(model, 0.7)[0]),
    "perturbed attention": lambda model: with_cfg(PerturbedAttentionGuidance.execute(model, 3.0).args[0]),
    "self-attention guidance": lambda model: with_cfg(SelfAttentionGuidance.execute(model, 0.5, 2.0).args[0]),
    "deep shrink": lambda model: with_cfg(
        PatchModelAddDownscale.execute(model, 1, 2.0, 0.0, 1.0, True, "bicubic", "bicubic").args[0]
    ),
    "dual": dual,
    "perp-neg": perp_neg,
    "basic": basic,
}


def of_host(guider: Guider, level: float) -> tuple[Tensor, Tensor]:
    """x and the denoised picture that a stock sampler has at its first level."""
    seen = SimpleNamespace()

    def sample(model: Callable[..., Tensor], x: Tensor, sigmas: Tensor, extra_args: dict, **_: object) -> Tensor:
        seen.x, seen.denoised = x.clone(), model(x, sigmas[0] * x.new_ones(len(x)), **extra_args).clone()
        return x

    noise = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    sampler, levels = comfy.samplers.KSAMPLER(sample), torch.tensor([level, 0.0])
    with torch.inference_mode():
        guider.sample(noise, torch.zeros_like(noise), sampler, levels, disable_pbar=True)
    return seen.x.clone(), seen.denoised.clone()


def of_loop(guider: Guider, x: Tensor, level: float) -> Tensor:
    return host.run(guider, lambda session: session.denoiser(x, level), SIDE, SIDE)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "flow"])  # whose x goes through the axis: test_axis
@pytest.mark.parametrize("name", AROUND)
def test_the_loop_sees_what_the_host_s_sampler_sees(name: str, kind: str) -> None:
    model, changes = tiny_model(kind, unet=TWO_LEVELS if name == "FreeU" else UNET), []  # which scales the wide level
    for level in LEVELS:
        x, wanted = of_host(AROUND[name](model), level)
        assert torch.equal(of_loop(AROUND[name](model), x, level), wanted), level
        plain, without = of_host(with_cfg(model), level)
        assert torch.equal(plain, x) and torch.equal(of_loop(with_cfg(model), x, level), without)
        changes.append(float((wanted - without).abs().max()))
    assert max(changes) > 1e-4, f"{name} changes nothing"


BY_LEVEL = ("timed", "keyframes", "keyframes on both", "controlnet", "deep shrink")
"""Those that are not the same at all levels."""


def walked(guider: Guider, x: Tensor) -> list[Tensor]:
    """What one loop is given on its way down and up again."""
    return host.run(guider, lambda session: [session.denoiser(x, level) for level in WALK], SIDE, SIDE)


@pytest.mark.parametrize("name", BY_LEVEL)
def test_what_was_asked_before_makes_no_difference(name: str) -> None:
    model = tiny_model()
    x = 3 * torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    for level, given in zip(WALK, walked(AROUND[name](model), x), strict=True):
        assert torch.equal(given, of_loop(AROUND[name](model), x, level)), level


@pytest.mark.parametrize("name", ["timed", "keyframes", "keyframes on both", "controlnet"])
def test_every_row_of_a_batch_is_at_its_own_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    x = 3 * torch.randn(4, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    level = torch.tensor([9.0, 0.4, 2.0, 8.0])
    whole = of_loop(AROUND[name](model), x, level)
    alone = torch.cat([of_loop(AROUND[name](model), x[row : row + 1], float(level[row])) for row in range(4)])
    assert torch.allclose(whole, alone, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(host_denoiser, "by_level", lambda level, conds: [list(range(len(level)))])  # the host's way
    assert not torch.allclose(of_loop(AROUND[name](model), x, level), alone, rtol=1e-4, atol=1e-5)


def test_these_tests_see_keyframes_that_are_left_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """And weights that are kept when the strength changes."""
    model = tiny_model()
    x = 3 * torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    right = walked(keyframes(model), x)
    for broken in ("_put", "_forget"):
        with monkeypatch.context() as patched:
            patched.setattr(timed, broken, lambda *_: None)
            wrong = walked(keyframes(model), x)
        assert not all(torch.equal(one, other) for one, other in zip(right, wrong, strict=True)), broken


def test_rows_are_parted_only_where_something_begins_or_ends() -> None:
    level = torch.tensor([9.0, 0.4, 2.0, 8.0, 2.0])
    entry: dict = {"model_conds": {}}
    assert timed.by_level(level, {"positive": [entry]}) == [[0, 1, 2, 3, 4]]
    assert timed.by_level(level, {"positive": [entry | {"timestep_start": 1e9, "timestep_end": 0.0}]}) == [
        [0, 1, 2, 3, 4]
    ]
    assert timed.by_level(level, {"positive": [entry], "negative": [entry | {"timestep_end": 2.0}]}) == [
        [0, 3],
        [1],
        [2, 4],
    ]
    batch = entry | {"timestep_end": 2.0, "mask": torch.ones(5, 8, 8)}
    assert timed.by_level(level, {"positive": [batch]}) == [[0, 1, 2, 3, 4]], "row r of a batch of masks has mask r"
