"""Presets by name inside the host: the model's units at the size of a generator, a menu, and where numbers are written.

A widget that is as the node was made follows the preset; one that was changed wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..msd_core.named import NAMED
from ..msd_core.units import Units
from .axis import Axis, data_std_of
from .cells import grid_of
from .fits import check_dimensions

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas

BY_HAND = "by hand"
"""No preset: every widget means what it shows."""
WORKFLOW = "mean_shift_distillation"
"""Where, below a workflow's "extra", the settings of its steps stand, by the node's id."""


def menu(text: str) -> io.Input:
    """The menu of presets; ``text`` is the first sentence of its tooltip."""
    described = " ".join(f"{name}: {named.text}." for name, named in NAMED.items())
    return io.Combo.Input(
        "preset",
        options=[BY_HAND, *NAMED],
        default=BY_HAND,
        optional=True,
        tooltip=f"{text} {described} A widget that was changed wins over the preset.",
    )


def units_at(model: ModelPatcher, canvas: Canvas) -> Units:
    """The units of a MODEL for the pictures of a canvas.

    Raises:
        ValueError: as `Axis.of` and `grid_of`.
    """
    sampling, latent_format = (model.get_model_object(name) for name in ("model_sampling", "latent_format"))
    check_dimensions(latent_format)
    height, width = grid_of(canvas, latent_format)
    return Units(data_std_of(sampling), latent_format.latent_channels * height * width, Axis.of(sampling).sigma_max)


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
