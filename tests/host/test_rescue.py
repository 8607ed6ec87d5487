"""Half precision that overflows, and memory that is out: what a step does about it, and what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.model_management
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from msd_pack.msd_core.finite import NonFiniteError
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator
from msd_pack.nodes.precision import CAST
from msd_pack.nodes.room import Room, is_out_of_memory, unit_of
from tiny_models import conditioning, tiny_model, tiny_vae

SETTINGS = {"steps": 2, "seed": 0, "cfg": 2.0, "learning_rate": 0.01, "optimizer": "gd", "estimator": "exact"}
SETTINGS |= {"solver": "ddim", "solver_steps": 2, "samples": 4, "preset": "by hand"}  # λ 8: every evaluation overflows
FULL = comfy.model_management.OOM_EXCEPTION


def born(batch: int = 1) -> HostGenerator:
    with torch.inference_mode():
        return NeuralImageGenerator.execute("pixels", 32, 16, 0, 8, 1, 4, batch).args[0]


def step(model: ModelPatcher, vae: VAE | None = None, *, batch: int = 1, method: str = "msd", **inputs: object) -> Any:  # noqa: ANN401
    sockets = {"model": model, "positive": conditioning(3), "negative": conditioning(4), "vae": vae or tiny_vae()}
    settings = SETTINGS if method == "msd" else {name: SETTINGS[name] for name in ("steps", "seed", "cfg")}
    with torch.inference_mode():
        made = STEPS[method].execute(born(batch), **settings | sockets | inputs).args[0]
    return torch.cat([p.detach().flatten() for p in made.generator.parameters()])


def overflowing(dtype: torch.dtype = torch.float16) -> ModelPatcher:
    """A model in half precision whose first layer leaves float16's range; a normalisation follows it."""
    model = tiny_model()
    with torch.no_grad():
        model.model.diffusion_model.input_blocks[0][0].weight.mul_(3e4)
    model.model.diffusion_model.to(dtype)
    model.model.diffusion_model.dtype = dtype
    return model


def test_a_step_that_overflows_is_done_again_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    model = overflowing()
    wide = overflowing()
    wide.model.manual_cast_dtype = torch.float32
    for part in wide.model.modules():
        if hasattr(part, CAST):
            part.comfy_cast_weights = True
    expected = step(wide, steps=1)
    with caplog.at_level(logging.WARNING):
        made = step(model, steps=1)
        assert bool(step(model).isfinite().all())
    assert torch.equal(made, expected), "as a model that the host computes in float32 with these weights"
    told = [record.getMessage() for record in caplog.records if "again in float32" in record.getMessage()]
    assert len(told) == 2 and all("denoiser: NaN or infinity" in one and "in step 1" in one for one in told)
    assert model.model.manual_cast_dtype is None
    assert not any(CAST in vars(part) for part in model.model.diffusion_model.modules()), "as it was"


@pytest.mark.parametrize("pull", ["image", "latent"])
def test_a_vae_that_overflows_is_asked_again_in_float32(pull: str) -> None:
    def vae(dtype: torch.dtype) -> VAE:
        made = tiny_vae()
        part = {"image": made.first_stage_model.decoder, "latent": made.first_stage_model.encoder}[pull]
        with torch.no_grad():
            part.conv_in.weight.mul_(1e5).clamp_(-6e4, 6e4)
        made.first_stage_model.to(torch.float16).to(dtype)
        made.vae_dtype = dtype
        return made

    half = vae(torch.float16)
    made = step(tiny_model(), half, pull=pull, steps=1)
    assert torch.equal(made, step(tiny_model(), vae(torch.float32), pull=pull, steps=1))
    assert half.vae_dtype == torch.float16


def test_a_nan_in_float32_stops_with_step_and_cause() -> None:
    def broken(dtype: torch.dtype | None) -> ModelPatcher:
        model = tiny_model() if dtype is None else overflowing(dtype)
        model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
        return model

    words = "denoiser: NaN or infinity .* in step 1, .*{}.* as it was after step 0. Lower cfg"
    with pytest.raises(NonFiniteError, match=words.format("It is in float32 already")):
        step(broken(None))
    with pytest.raises(NonFiniteError, match=words.format("It was tried again in float32")):
        step(broken(torch.float16))


def narrow(rows: int) -> ModelPatcher:
    """A model that has memory for this many rows of the network."""
    model = tiny_model()

    def function(apply: Callable[..., torch.Tensor], args: dict) -> torch.Tensor:
        if len(args["input"]) > rows:
            raise FULL("CUDA out of memory")
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(function)
    return model


@pytest.mark.parametrize("method", ["msd", "csd"])
def test_fewer_rows_at_once_give_the_same_picture(method: str, caplog: pytest.LogCaptureFixture) -> None:
    inputs = {"samples": 4, "method": method}
    whole = step(narrow(99), **inputs)
    with caplog.at_level(logging.WARNING):
        parts = step(narrow(2), **inputs)
    assert torch.allclose(parts, whole, rtol=1e-4, atol=1e-6)
    told = [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
    assert told == [
        f"out of memory with {size} rows of the model at once; going on with {size // 2}" for size in (4, 2)
    ]


def test_when_one_row_is_too_much_it_says_what_to_lower() -> None:
    with pytest.raises(FULL, match=r"32x16, 2 of them, took more memory .* in step 1; lower width, height or batch"):
        step(narrow(0), batch=2)
    with pytest.raises(FULL, match="choose the pull 'image'"):
        step(narrow(0), pull="latent")


def test_room_halves_until_it_fits_and_remembers() -> None:
    asked: list[int] = []

    def evaluate(part: slice) -> torch.Tensor:
        rows = torch.arange(whole)[part]
        asked.append(len(rows))
        if len(rows) > 3:
            raise FULL("out")
        return rows

    room = Room("model")
    whole = 12
    assert room.ask(evaluate, whole).tolist() == list(range(12))
    assert asked == [12, 6, 3, 3, 3, 3]
    whole = 4
    asked.clear()
    assert room.ask(evaluate, whole).tolist() == [0, 1, 2, 3] and asked == [3, 1]
    with pytest.raises(FULL):
        Room("model").ask(evaluate, whole, unit=4)  # rows that belong together stay together
    with pytest.raises(ZeroDivisionError):
        Room("model").ask(lambda part: 1 / 0, 2)


def test_a_batch_of_prompts_is_not_torn() -> None:
    assert unit_of({"positive": [{"model_conds": {"c": type("C", (), {"cond": torch.zeros(3, 77, 8)})()}}]}) == 3
    assert unit_of({"positive": [{"model_conds": {}, "mask": torch.zeros(2, 8, 8)}]}) == 2
    assert unit_of({"positive": [{"model_conds": {}}]}) == 1


def test_whose_words_are_out_of_memory() -> None:
    assert is_out_of_memory(FULL("x")) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes"))
