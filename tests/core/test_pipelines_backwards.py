"""Autograd through pipelines of diffusers: slopes are those of finite differences, and only who asks for one pays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[diffusers]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[diffusers]'")
pytest.importorskip("accelerate", reason="accelerate is not installed: pip install '.[diffusers]'")
sys.path.insert(0, str(Path(__file__).parent))
import accelerate
from tiny_pipelines import EDM, KINDS, pipeline

import msd_core.pipelines.model as of_model
from msd_core import inpaint, restore
from msd_core.denoiser import differentiable
from msd_core.manipulation.result import through
from msd_core.measurement import observe
from msd_core.measurement.pool import Pool
from msd_core.pipelines.model import PipelineModel
from msd_core.posterior.dps import DPS

pytestmark = pytest.mark.core
PROMPT, NEGATIVE = "a red cup", "a cat"
Made = Callable[[str], PipelineModel]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A new one each time, since hooks and precisions stay."""
    return lambda kind: PipelineModel.of(pipeline(kind, tmp_path / kind))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slopes(function: Callable[[Tensor], Tensor], at: Tensor, h: float = 1e-5) -> tuple[float, float]:
    """Of <w, function> along a direction: by autograd, and by central differences."""
    along, leaf = random(*at.shape, seed=7), at.clone().requires_grad_()
    value = function(leaf)
    w = random(*value.shape, seed=8)
    (slope,) = torch.autograd.grad((w * value).sum(), leaf)
    with torch.no_grad():
        there, back = (float((w * function(at + step * along)).sum()) for step in (h, -h))
    return float((slope * along).sum()), (there - back) / (2 * h)


def ends(model: PipelineModel) -> Tensor:
    """The slope of a picture's sum of squares, through network and decoder."""
    z = random(1, model.channels, 8, 8).float().requires_grad_()
    return torch.autograd.grad(model.decode(model.denoiser(PROMPT)(z, 1.0)).square().sum(), z)[0]


@pytest.mark.parametrize("kind", [*KINDS, *EDM])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_denoiser_s_slope_is_that_of_finite_differences(
    made: Made, kind: str, cfg: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epsilon, v, flow and EDM's, a level a row. The skip term alone, as without a graph of the network, is not it."""
    model = made(kind)
    model.family.network.double()
    denoiser, sigma = model.denoiser(PROMPT, NEGATIVE, cfg), torch.tensor([0.6, 2.0])
    z = 1.5 * random(2, model.channels, 8, 8)
    assert differentiable(denoiser)
    rough = kind == "flux"  # the library turns its queries in float32
    slope, wanted = slopes(lambda at: denoiser(at, sigma), z, 1e-3 if rough else 1e-5)
    assert slope == pytest.approx(wanted, rel=1e-3 if rough else 1e-5)
    monkeypatch.setattr(of_model, "_asked", lambda x: False)
    assert abs(slopes(lambda at: denoiser(at, sigma), z)[0] - wanted) > 0.02 * abs(wanted)


@pytest.mark.parametrize("kind", [*KINDS, "playground"])
def test_the_autoencoder_s_slopes_are_those_of_finite_differences(made: Made, kind: str) -> None:
    model = made(kind)
    model.family.pipe.vae.double()
    for function, at in (
        (model.decode, 0.2 * random(1, model.channels, 4, 4)),
        (model.encode, 0.5 + 0.1 * random(1, 3, 4 * model.cell, 4 * model.cell)),
    ):
        slope, wanted = slopes(function, at)
        assert slope == pytest.approx(wanted, rel=1e-5) and wanted != 0


@pytest.mark.parametrize("kind", ["sd2", "playground", "flux"])
def test_a_slope_in_half_precision_points_the_same_way(made: Made, kind: str) -> None:
    """In bfloat16 as in float32, through network and decoder; in float32 it comes back."""
    model = made(kind)
    wanted = ends(model)
    for part in (model.family.network, model.family.pipe.vae):
        part.to(torch.bfloat16)
    found = ends(model)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.98


def test_only_who_asks_for_a_gradient_gets_a_graph(made: Made) -> None:
    """Not even where weights would like one, as those of LoRA that was loaded meanwhile."""
    model = made("sd1")
    denoiser, z = model.denoiser(PROMPT, NEGATIVE, 2.0), random(1, 4, 8, 8).float()
    network = model.family.network.requires_grad_(True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor
    ):
        assert not denoiser(z, 1.0).requires_grad
        leaf = z.clone().requires_grad_()
        with torch.no_grad():
            assert not denoiser(leaf, 1.0).requires_grad
        assert not kept
        asked = denoiser(leaf, 1.0)
        assert asked.requires_grad and len(kept) > 100
    torch.testing.assert_close(asked.detach(), denoiser(z, 1.0), rtol=0, atol=0)
    model.denoiser(PROMPT)(leaf, 1.0).sum().backward()
    weights = [*network.parameters(), *model.family.pipe.vae.parameters()]
    assert leaf.grad is not None and not any(weight.requires_grad or weight.grad is not None for weight in weights)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sd3", "playground"])
def test_what_goes_backwards_restores_and_fills(made: Made, kind: str) -> None:
    """DPS agrees better with its jumps than without: against how little there is to agree in a random model."""
    model = made(kind)
    side = 8 * model.cell
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    picture = model.decode(model.encode(picture))
    seen, hole = observe(picture, Pool(2)), torch.zeros(1, 1, side, side)
    hole[..., : side // 2] = 1
    options: dict[str, Any] = {"model": model, "steps": 4}
    kept = [restore(seen, (side, side), PROMPT, solver=DPS(zeta), **options).kept for zeta in (0.0, 0.5, 2.0)]
    assert kept[0] is not None and kept[1] is not None and kept[2] is not None
    assert kept[1] > kept[0] + 0.05 and kept[2] > kept[0] + 0.2
    for solver in ("psld", "red-diff"):
        assert bool(restore(seen, (side, side), PROMPT, solver=solver, **options).picture.isfinite().all())
    for solver in ("dps", "psld", "pigdm"):
        assert bool(inpaint(picture, hole, PROMPT, solver=solver, cfg=2.0, **options).picture.isfinite().all())


def test_a_graph_keeps_no_copy_of_the_weights(made: Made) -> None:
    """So what changes them in place meanwhile gives another slope, and nobody is told; that is what `hooks` is for."""
    model = made("sd1")
    z = random(1, 4, 8, 8).float().requires_grad_()
    y = model.denoiser(PROMPT)(z, 1.0).sum()
    (wanted,) = torch.autograd.grad(y, z, retain_graph=True)
    for weight in model.family.network.parameters():
        weight.data = torch.zeros_like(weight)
    assert (torch.autograd.grad(y, z)[0] - wanted).abs().max() > 0.1


def test_sequential_offload_keeps_the_slope(made: Made) -> None:
    """accelerate's hooks as the library sets them up, on the CPU: a layer at a time, with weights from elsewhere."""
    model = made("sd1")
    wanted = ends(model)
    for part in (model.family.network, model.family.pipe.vae):
        accelerate.cpu_offload(part, torch.device("cpu"), offload_buffers=True)
    assert next(model.family.network.parameters()).device.type == "meta"
    assert model.differentiable and differentiable(model.denoiser(PROMPT))
    assert torch.equal(ends(model), wanted)


def test_a_network_that_leaves_the_device_is_not_differentiable(made: Made) -> None:
    """With --offload model: gone when the decoder runs, which is the last part, and stays."""
    model = made("sd1")
    for part in (model.family.network, model.family.pipe.vae):
        accelerate.cpu_offload_with_hook(part, "cpu")
    assert model.differentiable and not differentiable(model.denoiser(PROMPT))
    seen = observe(torch.zeros(1, 3, 16, 16), Pool(2))
    with pytest.raises(ValueError, match=r"^solver: 'dps' goes backwards .* PipelineDenoiser is not differentiable"):
        restore(seen, (16, 16), PROMPT, model=model, steps=2, solver="dps")
    assert restore(seen, (16, 16), PROMPT, model=model, steps=2).picture.shape == (1, 3, 16, 16)


def grouped(part: Any) -> None:  # noqa: ANN401 - the library's
    part.enable_group_offload(torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level")


def cast(part: Any) -> None:  # noqa: ANN401 - the library's
    part.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


@pytest.mark.parametrize("hook", [grouped, cast])
def test_hooks_that_change_weights_in_place_are_not_differentiable(made: Made, hook: Callable[[Any], None]) -> None:
    model = made("sd1")
    part = model.family.network
    if not hasattr(part, f"enable_{'group_offload' if hook is grouped else 'layerwise_casting'}"):
        pytest.skip("this diffusers has no such hooks")
    hook(part)
    assert model.differentiable and not differentiable(model.denoiser(PROMPT))
    hook(model.family.pipe.vae)
    assert not model.differentiable
    for name, function, given in (("x", model.decode, (1, 4, 4, 4)), ("picture", model.encode, (1, 3, 8, 8))):
        leaf = torch.zeros(given, requires_grad=True)
        with pytest.raises(ValueError, match=f"^{name}: got a tensor whose gradient is asked for"):
            function(leaf)
        with torch.no_grad():
            assert bool(function(leaf).isfinite().all())


def test_a_measurement_has_a_slope_where_the_autoencoder_overshoots(made: Made) -> None:
    """A picture is cut to [0, 1]; what is compared with a measurement is not, or nothing would lead back from there."""
    model = made("sd1")
    x = 30 * random(1, model.channels, 4, 4)
    over = model.decode_unclamped(x)
    assert torch.equal(model.decode(x), over.clamp(0, 1)) and not torch.equal(over, over.clamp(0, 1))
    seen = through(model, Pool(1))
    beyond = (over < 0) | (over > 1)
    for decode, told in ((seen.apply, True), (model.decode, False)):
        given = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(decode(given)[beyond].sum(), given)
        assert bool(slope.any()) is told
