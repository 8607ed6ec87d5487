"""A node's schema on every host from 0.8.0 on: what an older one does not know yet is left out.

`search_aliases` (from 0.11) are further words that the menu's search finds a node by; `has_intermediate_output` (from
0.19) keeps what a node shows over a reload of the page. Inputs that are folded away carry `FOLDED`, which every host
takes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

GeneratorSocket = io.Custom("MSD_GENERATOR")
"""A generator on its way from node to node: `generators.HostGenerator`."""

FIXED = io.ControlAfterGenerate.fixed if hasattr(io, "ControlAfterGenerate") else None
"""What "control after generate" of a new node's seed is set to: the front end's own choice is another seed after each
run, and then the same graph would not go on from where a run was stopped. Hosts that know no such choice keep it.
"""


def seed_input(tooltip: str, highest: int = 2**64 - 1, optional: bool = False) -> io.Input:
    """The widget ``seed``, 0 to ``highest``, which stays as it is from run to run (`FIXED`)."""
    told = {"optional": optional, "control_after_generate": FIXED, "tooltip": tooltip}
    return io.Int.Input("seed", default=0, min=0, max=highest, **told)


FOLDED = {"advanced": True}
"""``extra_dict`` of an input that is seen after "show advanced inputs" alone."""


def schema(**fields: Any) -> io.Schema:  # noqa: ANN401 - those of the host's class
    """The schema of these ``fields``, as far as this host knows them."""
    known = {entry.name for entry in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in fields.items() if name in known})
