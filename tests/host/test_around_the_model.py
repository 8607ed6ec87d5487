"""What a user puts around a model reaches the loop as it reaches the host's own sampler, to the last bit.

LoRA, ControlNet, regional prompts, model patches, and guiders with rules of their own: at the same x and level the
denoiser of the loop is what a stock sampler is given, and each of them changes both.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import comfy.cldm.cldm
import comfy.controlnet
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
from msd_pack.nodes import host
from tiny_models import KINDS, UNET, conditioning, fill, tiny_model
from torch import Tensor

POSITIVE, OTHER, NEGATIVE, EMPTY = (conditioning(seed) for seed in (3, 5, 4, 6))
SIDE = 16
LEVELS = (0.4, 2.0, 9.0)
ATTENTION = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
Guider = comfy.samplers.CFGGuider


def with_cfg(model: ModelPatcher, positive: list = POSITIVE, negative: list = NEGATIVE) -> Guider:
    return host.make_guider(model, positive, negative, 3.0)


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


def timed(model: ModelPatcher) -> Guider:
    """A prompt for the first half of the levels, another for the second."""
    parts = ((POSITIVE, (0.0, 0.5)), (OTHER, (0.5, 1.0)))
    told = [[part[0][0], part[0][1] | {"start_percent": s, "end_percent": e}] for part, (s, e) in parts]
    return with_cfg(model, told)


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
    "timed": timed,
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
    model, changes = tiny_model(kind), []
    for level in LEVELS:
        x, wanted = of_host(AROUND[name](model), level)
        assert torch.equal(of_loop(AROUND[name](model), x, level), wanted), level
        plain, without = of_host(with_cfg(model), level)
        assert torch.equal(plain, x) and torch.equal(of_loop(with_cfg(model), x, level), without)
        changes.append(float((wanted - without).abs().max()))
    assert max(changes) > 1e-4, f"{name} changes nothing"
