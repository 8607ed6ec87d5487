"""Presets by name inside the host: the model's units at the size of a generator, a menu, and where numbers are written.

A widget that is as the node was made follows the preset, also where that value was meant; one that was changed wins.
So a step tells the numbers that it runs with (`told`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..msd_core.named import NAMED, in_words, preset_named
from ..msd_core.units import Units
from .axis import Axis, data_std_of
from .cells import grid_of
from .fits import check_dimensions

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas
    from ..msd_core.preset import Preset
    from .generators import HostGenerator

BY_HAND = "by hand"
"""No preset: every widget means what it shows."""
DEFAULT = "balanced"
"""What a step is made with. It refuses nothing: where it has no numbers, the widgets mean what they show."""
WORKFLOW = "mean_shift_distillation"
"""Where, below a workflow's "extra", the settings of its steps stand, by the node's id."""


def menu(text: str, more: str, default: str) -> io.Input:
    """The menu of presets; ``text`` is the first sentence of its tooltip, ``more`` stands at its end."""
    described = " ".join(f"{name}: {named.text}." for name, named in NAMED.items())
    return io.Combo.Input(
        "preset",
        options=[BY_HAND, *NAMED],
        default=default,
        optional=True,
        tooltip=f"{text} {described} It fills widgets that are at their defaults; one that was changed wins. {more}",
    )


def of_name(preset: str, model: ModelPatcher | None, generator: HostGenerator) -> Preset | None:
    """What a preset's name stands for with this model, at the size of this generator; None: what the widgets show.

    So it is by hand, and where the default has no numbers: a model without units, a generator with settings of its own.

    Raises:
        ValueError: for an unknown name, or another one than the default where there are no numbers for it.
    """
    if preset == BY_HAND or model is None:
        return None
    try:
        return preset_named(preset, units_at(model, generator.canvas), generator=generator.generator)
    except ValueError:
        if preset != DEFAULT:
            raise
        return None


def told(name: str, named: bool, preset: Preset, cfg: float | None, replaced: Mapping[str, Any]) -> str:
    """The numbers that a step runs with, in a line.

    Args:
        name: what its menu says.
        named: whether that has numbers here.
        preset: with which it runs.
        cfg: None where a guider has a rule of its own.
        replaced: what widgets do not show, by their settings' names.
    """
    begin = name if named or name == BY_HAND else f"{BY_HAND} ({name} has no numbers here)"
    guidance = "" if cfg is None else f", cfg {cfg:g}"
    other = ", ".join(f"{flag} {value}" for flag, value in replaced.items())
    return f"{begin}: {in_words(preset)}{guidance}" + (f"; in place of the widgets: {other}" if other else "")


def units_at(model: ModelPatcher, canvas: Canvas) -> Units:
    """The units of a MODEL for the pictures of a canvas.

    Raises:
        ValueError: as `Axis.of` and `grid_of`.
    """
    sampling, latent_format = (model.get_model_object(name) for name in ("model_sampling", "latent_format"))
    check_dimensions(latent_format)
    height, width = grid_of(canvas, latent_format)
    return Units(data_std_of(sampling), latent_format.latent_channels * height * width, Axis.of(sampling).sigma_max)


def note_all(extra: Any, generator: HostGenerator) -> None:  # noqa: ANN401 - the host's
    """`note` of every step that has moved a generator: those that the host did not run again have not done it."""
    for node_id, settings in generator.noted.items():
        note(extra, node_id, settings)


def note(extra: Any, node_id: str | None, settings: Mapping[str, Any]) -> None:  # noqa: ANN401 - the host's
    """Write the ``settings`` of a step into the workflow that goes into the pictures which are saved after it.

    Args:
        extra: what the host writes into its pictures; None where a graph came without a workflow.
        node_id: of the step.
        settings: plain values by name.
    """
    workflow = extra.get("workflow") if isinstance(extra, dict) else None
    if isinstance(workflow, dict) and node_id is not None:
        workflow.setdefault("extra", {}).setdefault(WORKFLOW, {})[node_id] = dict(settings)
