"""Bandwidth Scheduler: how λ falls over an optimisation, as the host's SIGMAS; by numbers, a drawn curve, or a preset's
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui
from torch import Tensor

from ..msd_core.bandwidth import BANDWIDTHS, Exponential, Listed, bandwidth_schedule, check_bandwidths
from ..msd_core.distillation import MSD
from ..msd_core.named import changes_of, preset_named, said
from ..msd_core.preset import Preset, preset_of
from ..msd_core.settings import Setting, build, menu, settings_of
from ..msd_core.units import Units
from . import curve as curves
from .grad import grad_mode, owned
from .named import BY_HAND, units_at
from .named import menu as menu_of_presets
from .progress import tell, to_image
from .schema import GeneratorSocket, schema
from .widgets import default_of, value_of, widget

if TYPE_CHECKING:
    from .generators import HostGenerator

CATEGORY = "mean-shift distillation"
ALONE = "By hand, λ 8 to 0.7 is for the demo model at 128 pixels; other models and sizes begin higher."
"""What a scheduler cannot know better: no model need be connected to it."""
FIRST = ("start", "end", "steps", "rho", "points")
"""The order of the widgets; a curve's further settings follow."""


def curve_settings() -> dict[str, Setting]:
    """The settings of all curves by name; a setting that several curves have is one."""
    found: dict[str, Setting] = {}
    for kind in menu(BANDWIDTHS):
        found |= {name: entry for name, entry in settings_of(BANDWIDTHS[kind]).items() if name not in found}
    return found


def known_settings() -> dict[str, Setting]:
    """Those of the node: of all curves, and how many steps."""
    steps = replace(settings_of(Preset)["steps"], default=preset_of("msd").steps)
    return {**curve_settings(), "steps": steps}


class BandwidthScheduler(io.ComfyNode):
    """The curves of `msd_core.bandwidth` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        family, known = settings_of(MSD)["bandwidths"], known_settings()
        order = [*FIRST, *(name for name in known if name not in FIRST)]
        return schema(
            node_id="MSD_BandwidthScheduler",
            display_name="Bandwidth Scheduler",
            category=CATEGORY,
            description="Bandwidths λ that never rise, the standard deviation of the mean-shift kernel.",
            search_aliases=["mean-shift distillation", "lambda", "anneal", "sigmas"],
            inputs=[
                schedule_menu(family),
                *(widget(known[name], name, optional=name not in FIRST[:4]) for name in order),
                menu_of_presets("λ and steps of a preset, in the units of the model.", ALONE, BY_HAND),
                io.Model.Input("model", optional=True, tooltip="Whose units a preset is in; nothing else needs it."),
                GeneratorSocket.Input("generator", optional=True, tooltip="Whose size a preset is made for."),
                *curves.inputs(),
            ],
            outputs=[io.Sigmas.Output("bandwidths", display_name="bandwidths")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        schedule: str,
        steps: int,
        preset: str = BY_HAND,
        model: ModelPatcher | None = None,
        generator: HostGenerator | None = None,
        curve: Any = None,  # noqa: ANN401 - the host's, where it has one
        **widgets: Any,  # noqa: ANN401 - as in the schema
    ) -> io.NodeOutput:
        given = {"schedule": schedule, "steps": steps, **widgets}
        units = None if preset == BY_HAND else units_for(preset, model, generator)
        if units is not None:
            given = filled(given, changes_of(preset, units))
        with grad_mode():
            bandwidths = curve_of(**given, curve=curve)
            told = ""
            if units is not None:
                walked = {"bandwidth_schedule": Listed(tuple(bandwidths.tolist())), "steps": len(bandwidths)}
                told = f"{preset}: {said(preset_named(preset, units, walked), units)}"
                tell(cls.hidden.unique_id if cls.hidden else None, told)
            return io.NodeOutput(bandwidths, ui=ui.PreviewImage(drawn(bandwidths, told), cls=cls))


def schedule_menu(family: Setting) -> io.Combo.Input:
    """The menu of curves: the core's, and the drawn one where the host can draw."""
    made = widget(family, "schedule")
    made.options = curves.schedules(made.options)
    made.tooltip += " What it takes beside start, end and steps is among the advanced inputs."
    return made


def curve_of(schedule: str, steps: int, curve: Any = None, **widgets: Any) -> Tensor:  # noqa: ANN401 - as in the schema
    """The bandwidths (steps,) that the widgets say.

    Raises:
        ValueError: for a value that is not allowed, or points or a connected curve with a schedule that has none.
    """
    by_hand = schedule == curves.DRAWN and curves.KNOWN
    if not by_hand:
        curves.check_unused(curve, schedule)
    kind = Exponential if by_hand else BANDWIDTHS.find("schedule", schedule)
    own = settings_of(kind)
    values = {name: value_of(own[name], name, raw) for name, raw in widgets.items() if name in own}
    given = {name: raw for name, raw in widgets.items() if name not in own and name == "points" and raw.strip()}
    if given:
        raise ValueError(
            f"points: got {given['points']!r} with the schedule {schedule!r}; allowed are points with 'piecewise', "
            "and only there. Choose 'piecewise' or leave points out."
        )
    ends = {name: values.pop(name) for name in ("start", "end") if name in values}
    if by_hand:
        return curves.bandwidths_of(curve, ends["start"], ends["end"], steps)
    return build(kind(**ends), values)(steps)


def units_for(preset: str, model: ModelPatcher | None, generator: HostGenerator | None) -> Units:
    """The units that a preset is in.

    Raises:
        ValueError: there is no model, or no generator whose size it is made for.
    """
    missing = [what for what, given in (("model", model), ("generator", generator)) if given is None]
    if model is None or generator is None:
        raise ValueError(
            f"{' and '.join(missing)}: not connected; the preset {preset!r} is in the units of a model at a size; "
            f"connect {'them' if len(missing) > 1 else 'it'}, or choose {BY_HAND!r}"
        )
    return units_at(model, generator.canvas)


def filled(widgets: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The ``widgets``, those that are as the node was made replaced by what a preset ``changes``."""
    known = {"schedule": settings_of(MSD)["bandwidths"], **known_settings()}
    named = {name: changes.get(f"bandwidth_{name}", changes.get(name)) for name in widgets}
    return {
        name: value if named[name] is None or value != default_of(known[name]) else named[name]
        for name, value in widgets.items()
    }


def drawn(curve: Tensor, told: str = "") -> Tensor:
    """IMAGE of a curve of bandwidths over the steps, for the node itself, below what is ``told`` of it."""
    from ..msd_core.plot import plot_curves

    told = told.replace("λ", "lambda") or (
        f"bandwidth lambda, {float(curve[0]):.3g} to {float(curve[-1]):.3g} in {len(curve)} steps"
    )
    return to_image(plot_curves({told: curve.tolist()}, size=(640, 320)))


def spread(bandwidths: Tensor, steps: int) -> Tensor:
    """The curve through `bandwidths` (N,) at `steps` evenly spaced places, log-linear between; itself if N = steps.

    The 0 that ends the host's noise schedules is no bandwidth, and is left out; a single bandwidth stays.
    """
    with grad_mode():
        curve = owned(bandwidths, torch.device("cpu"))
        if curve.ndim == 1 and len(curve) > 1 and curve[-1] == 0:
            curve = curve[:-1]
        check_bandwidths(curve)
        if len(curve) == steps:
            return curve
        if len(curve) == 1:
            return curve.expand(steps).clone()
        points = [(k / (len(curve) - 1), value) for k, value in enumerate(curve.tolist())]
        start, end = points[0][1], points[-1][1]
        return bandwidth_schedule("piecewise", start, end, steps, points=points[1:-1])


NODES = [BandwidthScheduler]
