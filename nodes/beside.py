"""Conditionings that a method asks the model about beside its run's own: that of an edit's source, the negative alone.

They travel in the guider, so that the host loads, patches and cleans up what they need. Before it prepares the two
sides of the guidance, where it gives the areas of each to the other, they are taken out: each is prepared as a guider
of its own would prepare it, and gives the same numbers to the last bit.

    source      the prompt that describes the source, with the guider's own negative side
    negative    the negative prompt as a positive one, without guidance
    uncond      the guider's negative side as it is prepared, without guidance; always there where the guider has one
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import comfy.samplers
from comfy.patcher_extension import WrappersMP
from comfy.samplers import CFGGuider
from torch import Tensor

MARK = "msd_beside_"
MEASURED = "mean_shift_measurement"
"""Key of the wrapper that a measurement puts around a guider's predictions."""
SOURCE, NEGATIVE, UNCOND = "source", "negative", "uncond"
Sides = dict[str, list[dict[str, Any]]]


def is_stock(guider: CFGGuider) -> bool:
    """Whether a guider's rule is the host's: one cfg between a positive and a negative side."""
    return type(guider).predict_noise is CFGGuider.predict_noise and not is_measured(guider)


def is_measured(guider: CFGGuider) -> bool:
    """Whether the guider is of a measurement (`measured`): it asks the model several times."""
    return MEASURED in guider.model_patcher.wrappers.get(WrappersMP.PREDICT_NOISE, {})


def cfg_of(guider: CFGGuider) -> float | None:
    """The cfg of a guider with the host's rule, also of a measurement's; None for one with a rule of its own."""
    return float(guider.cfg) if getattr(type(guider), "predict_noise", None) is CFGGuider.predict_noise else None


def name_of(guider: CFGGuider) -> str:
    """What an error calls it."""
    return "one from Measurement" if is_measured(guider) else type(guider).__name__


def with_source(guider: CFGGuider, conditioning: list) -> CFGGuider:
    """A copy of ``guider`` that carries the prompt of an edit's source.

    Raises:
        ValueError: it is not a stock one.
    """
    return _carrying(guider, {MARK + SOURCE: conditioning})


def with_unconditional(guider: CFGGuider, conditioning: list) -> CFGGuider:
    """A copy of ``guider`` whose guidance is against ``conditioning``, and that carries its negative side alone.

    Raises:
        ValueError: it is not a stock one, or has no negative side.
    """
    if "negative" not in guider.original_conds:
        raise ValueError("negative: not connected, and this method asks the model under it alone; connect one")
    made = _carrying(guider, {"negative": conditioning})
    made.original_conds[MARK + NEGATIVE] = guider.original_conds["negative"]
    return made


def carrying(guider: CFGGuider, source: list | None, unconditional: list | None) -> CFGGuider:
    """``guider`` with what is given of the two; errors of `with_source` and `with_unconditional`."""
    guider = guider if source is None else with_source(guider, source)
    return guider if unconditional is None else with_unconditional(guider, unconditional)


def _carrying(guider: CFGGuider, conditionings: Mapping[str, list]) -> CFGGuider:
    if not is_stock(guider):
        raise ValueError(
            f"guider: {name_of(guider)} has a rule of its own, and this method asks the model under another "
            "prompt too; connect a CFGGuider, or leave guider empty and connect model, positive and negative"
        )
    made = copy.copy(guider)
    made.original_conds = dict(guider.original_conds)
    made.inner_set_conds(dict(conditionings))
    return made


class Beside:
    """What a guider carries, for one run of it: taken out when all is loaded, prepared when the loop begins."""

    def __init__(self) -> None:
        self.raw: Sides = {}
        self.negative: list[dict[str, Any]] = []

    def take(self, conds: Sides) -> None:
        """Take out of ``conds``, as they are before the host prepares them, what is not the guidance's."""
        self.raw = {key: conds.pop(key) for key in [key for key in conds if key.startswith(MARK)]}
        self.negative = [dict(cond) for cond in conds.get("negative", [])]

    def prepared(self, guider: CFGGuider, noise: Tensor, latent: Tensor, seed: int | None) -> dict[str, Sides]:
        """By name: the sides that ``guider`` is to have in the place of its own."""
        made: dict[str, Sides] = {}
        for key, conds in self.raw.items():
            sides = {"positive": [dict(cond) for cond in conds]}
            if key == MARK + SOURCE and self.negative:
                sides["negative"] = [dict(cond) for cond in self.negative]
            shapes = [latent.shape]
            made[key.removeprefix(MARK)] = comfy.samplers.process_conds(
                guider.inner_model, noise, sides, noise.device, latent, None, seed, latent_shapes=shapes
            )
        if "negative" in guider.conds:
            made[UNCOND] = {"positive": guider.conds["negative"]}
        return made

    def give_back(self, conds: Sides) -> None:
        """So that the host cleans up after them."""
        conds |= self.raw
