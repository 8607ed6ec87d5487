"""Bandwidth Scheduler: how λ falls over an optimisation, as the host's SIGMAS."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..msd_core.bandwidth import BANDWIDTHS, bandwidth_schedule, check_bandwidths
from ..msd_core.distillation import MSD
from ..msd_core.preset import Preset, preset_of
from ..msd_core.settings import Setting, build, menu, settings_of
from .host import grad_mode, own
from .progress import to_image
from .schema import schema
from .widgets import value_of, widget

CATEGORY = "mean-shift distillation"
FIRST = ("start", "end", "steps", "rho", "points")
"""The order of the widgets; a curve's further settings follow."""


def curve_settings() -> dict[str, Setting]:
    """The settings of all curves by name; a setting that several curves have is one."""
    found: dict[str, Setting] = {}
    for kind in menu(BANDWIDTHS):
        found |= {name: entry for name, entry in settings_of(BANDWIDTHS[kind]).items() if name not in found}
    return found


class BandwidthScheduler(io.ComfyNode):
    """The curves of `msd_core.bandwidth` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        family, known = settings_of(MSD)["bandwidths"], curve_settings()
        known["steps"] = replace(settings_of(Preset)["steps"], default=preset_of("msd").steps)
        order = [*FIRST, *(name for name in known if name not in FIRST)]
        return schema(
            node_id="MSD_BandwidthScheduler",
            display_name="Bandwidth Scheduler",
            category=CATEGORY,
            description="Strictly decreasing bandwidths λ, the standard deviation of the mean-shift kernel.",
            search_aliases=["mean-shift distillation", "lambda", "anneal", "sigmas"],
            inputs=[
                widget(family, "schedule"),
                *(widget(known[name], name, optional=name not in FIRST[:4]) for name in order),
            ],
            outputs=[io.Sigmas.Output("bandwidths", display_name="bandwidths")],
        )

    @classmethod
    def execute(cls, schedule: str, steps: int, **widgets: Any) -> io.NodeOutput:  # noqa: ANN401 - as in the schema
        kind = BANDWIDTHS.find("schedule", schedule)
        own = settings_of(kind)
        values = {name: value_of(own[name], name, raw) for name, raw in widgets.items() if name in own}
        given = {name: raw for name, raw in widgets.items() if name not in own and name == "points" and raw.strip()}
        if given:
            raise ValueError(
                f"points: got {given['points']!r} with the schedule {schedule!r}; allowed are points with 'piecewise', "
                "and only there. Choose 'piecewise' or leave points out."
            )
        with grad_mode():
            ends = {name: values.pop(name) for name in ("start", "end") if name in values}
            curve = build(kind(**ends), values)(steps)
            return io.NodeOutput(curve, ui=ui.PreviewImage(drawn(curve), cls=cls))


def drawn(curve: Tensor) -> Tensor:
    """IMAGE of a curve of bandwidths over the steps, for the node itself."""
    from ..msd_core.plot import plot_curves

    told = f"bandwidth lambda, {float(curve[0]):.3g} to {float(curve[-1]):.3g} in {len(curve)} steps"
    return to_image(plot_curves({told: curve.tolist()}, size=(640, 320)))


def spread(bandwidths: Tensor, steps: int) -> Tensor:
    """The curve through `bandwidths` (N,) at `steps` evenly spaced places, log-linear between; itself if N = steps."""
    with grad_mode():
        curve = own(bandwidths, torch.device("cpu"))
        check_bandwidths(curve)
        if len(curve) == steps:
            return curve
        if len(curve) == 1:
            raise ValueError(
                f"bandwidths: got a single one, {float(curve):g}, for {steps} steps, which must fall; set steps to 1 "
                "or connect a Bandwidth Scheduler"
            )
        points = [(k / (len(curve) - 1), value) for k, value in enumerate(curve.tolist())]
        start, end = points[0][1], points[-1][1]
        return bandwidth_schedule("piecewise", start, end, steps, points=points[1:-1])


NODES = [BandwidthScheduler]
