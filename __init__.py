"""Mean-Shift Distillation for ComfyUI: the lazy entry point, and nothing else.

Importing this file costs nothing: no torch, no comfy, no msd_core. The nodes are imported when the host asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> ComfyExtension:
    """Called once by the host (V3 API); returns the extension that lists the nodes."""
    from .nodes import MeanShiftExtension

    return MeanShiftExtension()
