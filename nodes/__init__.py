"""Thin ComfyUI nodes around `msd_core`: one file a family, each ending in its list. `host` is the only bridge to the
host's models."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    bandwidth,
    demo,
    distill,
    dream,
    editing,
    existing,
    files,
    generators,
    graphics,
    inversion,
    measurement,
    nearby,
    paste,
    volume,
)


class MeanShiftExtension(ComfyExtension):
    """The pack's nodes, in the order of the menu."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        modules = (demo, generators, graphics, volume, files, bandwidth, distill, inversion, editing, existing)
        modules += (nearby, dream, measurement, paste)
        return [node for module in modules for node in module.NODES]
