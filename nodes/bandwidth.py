"""Bandwidth Scheduler: how λ falls over an optimisation, as the host's SIGMAS."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.bandwidth import BANDWIDTH_SCHEDULES, bandwidth_schedule, check_bandwidths
from ..msd_core.presets import MSDPreset
from .host import grad_mode, own

CATEGORY = "mean-shift distillation"


class BandwidthScheduler(io.ComfyNode):
    """`msd_core.bandwidth_schedule` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = MSDPreset()
        return io.Schema(
            node_id="MSD_BandwidthScheduler",
            display_name="Bandwidth Scheduler",
            category=CATEGORY,
            description="Strictly decreasing bandwidths λ, the standard deviation of the mean-shift kernel.",
            inputs=[
                io.Combo.Input(
                    "schedule",
                    options=list(BANDWIDTH_SCHEDULES),
                    default=defaults.bandwidth_schedule,
                    tooltip="Shape of the curve. exponential: log-linear; karras: from linear (rho 1) to exponential.",
                ),
                io.Float.Input(
                    "start",
                    default=defaults.bandwidth_start,
                    min=0.001,
                    max=1000.0,
                    step=0.01,
                    round=False,
                    tooltip="First λ, in units of the model's latent (whose own standard deviation is about 1). "
                    "Large: all modes merge, a coarse picture; small: the nearest mode.",
                ),
                io.Float.Input(
                    "end",
                    default=defaults.bandwidth_end,
                    min=0.001,
                    max=1000.0,
                    step=0.01,
                    round=False,
                    tooltip="Last λ, below start. Far below the data's spread the shift is noise and spoils pictures.",
                ),
                io.Int.Input("steps", default=defaults.steps, min=1, max=10000, tooltip="How many bandwidths."),
                io.Float.Input(
                    "rho",
                    default=7.0,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    round=False,
                    tooltip="Exponent; karras only.",
                ),
                io.String.Input(
                    "points",
                    default="",
                    optional=True,
                    tooltip="piecewise only: points between start and end as fraction:λ, for example 0.25:2, 0.6:1.",
                ),
            ],
            outputs=[io.Sigmas.Output("bandwidths", display_name="bandwidths")],
        )

    @classmethod
    def execute(
        cls, schedule: str, start: float, end: float, steps: int, rho: float, points: str = ""
    ) -> io.NodeOutput:
        with grad_mode():
            return io.NodeOutput(bandwidth_schedule(schedule, start, end, steps, rho=rho, points=parse_points(points)))


def parse_points(text: str) -> list[tuple[float, float]] | None:
    """ "0.25:2, 0.6:1" → [(0.25, 2.0), (0.6, 1.0)]; None for an empty text."""
    if not text.strip():
        return None
    try:
        pairs = [tuple(float(number) for number in pair.split(":")) for pair in text.split(",")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"points: got {text!r}; allowed are pairs fraction:bandwidth separated by commas, for example 0.25:2, 0.6:1"
        ) from None
    return pairs


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
