"""A node for the tests alone: it tells every client of each network evaluation, and can hold one until Cancel.

Cancel is thus tested by counting evaluations, without a guess about time. It can also forget memory, as a planted leak,
and GET /probe/alive tells how many models the host has loaded, and how many that came this way are still in memory.
"""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable

import comfy.model_management
from aiohttp import web
from comfy.model_patcher import ModelPatcher
from server import PromptServer
from torch import Tensor

HOLD = 120.0  # seconds, after which a held evaluation goes on and the test fails
SEEN: weakref.WeakSet = weakref.WeakSet()


@PromptServer.instance.routes.get("/probe/alive")
async def alive(_: web.Request) -> web.Response:
    """What is in memory after a collection."""
    gc.collect()
    return web.json_response({"loaded": len(comfy.model_management.current_loaded_models), "alive": len(SEEN)})


class ProbeModel:
    """MODEL that sends "probe" with the number of the evaluation as each begins, and holds evaluation `hold_at`."""

    CATEGORY = "tests"
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "probe"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802  (the host's name)
        number = ("INT", {"default": 0, "min": 0, "max": 10**6})
        return {"required": {"model": ("MODEL",), "hold_at": number}, "optional": {"leak": number}}

    def probe(self, model: ModelPatcher, hold_at: int, leak: int = 0) -> tuple[ModelPatcher]:
        """``leak``: bytes that each evaluation leaves behind."""
        count, left = 0, []
        SEEN.add(model.model)

        def evaluate(apply_model: Callable[..., Tensor], arguments: dict) -> Tensor:
            nonlocal count
            count += 1
            left.append(b"x" * leak)
            PromptServer.instance.send_sync("probe", {"evaluation": count})
            if count == hold_at:
                wait_for_cancel()
            return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

        patched = model.clone()
        patched.set_model_unet_function_wrapper(evaluate)
        return (patched,)


def wait_for_cancel() -> None:
    """Return once Cancel was pressed; the flag stays set, for the node under test to find."""
    end = time.monotonic() + HOLD
    while not comfy.model_management.processing_interrupted() and time.monotonic() < end:
        time.sleep(0.01)


NODE_CLASS_MAPPINGS = {"TestProbeModel": ProbeModel}
