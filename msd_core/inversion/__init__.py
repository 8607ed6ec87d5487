"""Walking the probability-flow ODE up: the noise that a picture would have come from (inversions one a file).

Most are an upward step, the twin of a step of `sampling`: a frozen dataclass, called as

    z_next = step(z, denoiser, sigma, sigma_next, rng)

from ``sigma`` up to ``sigma_next``. Others walk the whole list of levels (`base`). `invert` runs either, for the
methods and for the nodes alike; `resample` leads back down. To add one: write its file, and enter it in `INVERSIONS`.
"""

from __future__ import annotations

from ..registry import Registry
from .ancestral import AncestralStep
from .base import Inversion, UpwardStep, UpwardWalk
from .explicit import ExplicitStep
from .trajectory import Trajectory, ddim_invert, invert

INVERSIONS = Registry(
    "inversion",
    __name__,
    {
        "explicit": "explicit:ExplicitStep",
        "ancestral": "ancestral:AncestralStep",
        "implicit": "implicit:ImplicitStep",
        "implicit-heun": "implicit_heun:ImplicitHeunStep",
        "implicit-dpmpp-2m": "implicit_dpmpp_2m:ImplicitDPMpp2M",
        "uni-inv": "uni_inv:UniInv",
        "renoise": "renoise:ReNoiseStep",
        "edit-friendly": "edit_friendly:EditFriendly",
        "direct": "direct:Direct",
        "null-text": "null_text:NullText",
        "rf-inversion": "rf_inversion:RFInversion",
        "rf-solver": "rf_solver:RFSolver",
        "fireflow": "fireflow:FireFlow",
        "flow-edit": "flow_edit:FlowEdit",
    },
    methods=("__call__", "rise", "walk"),
)
"""Name to the class of an inversion."""

__all__ = [
    "INVERSIONS",
    "AncestralStep",
    "ExplicitStep",
    "Inversion",
    "Trajectory",
    "UpwardStep",
    "UpwardWalk",
    "ddim_invert",
    "invert",
]
