"""Thin ComfyUI nodes around `msd_core`: one file a family. `host` is the only bridge to the host's models."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .bandwidth import BandwidthScheduler
from .demo import LoadDemoModel
from .distill import MeanShiftDistillStep, SDSStep
from .generators import NeuralImageGenerator, RenderGenerator
from .inversion import DDIMInversion


class MeanShiftExtension(ComfyExtension):
    """The pack's nodes, in the order of the menu."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadDemoModel,
            NeuralImageGenerator,
            BandwidthScheduler,
            MeanShiftDistillStep,
            SDSStep,
            RenderGenerator,
            DDIMInversion,
        ]
