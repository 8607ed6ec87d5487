"""Which solver of inverse problems, with its settings: flags made from the solvers' own fields."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ..posterior import INVERSE_SOLVERS, RESTORERS, Solver
from ..posterior.kalman import Kalman
from ..posterior.proximal import Proximal
from ..settings import build, setting
from .flags import flags, given
from .settings import by_flag


@dataclass(frozen=True)
class Inpainting:
    """Of `msd inpaint`."""

    solver: Solver = setting(Kalman(), "how the rest of the picture acts", family=INVERSE_SOLVERS)


@dataclass(frozen=True)
class Restoring:
    """Of `msd restore`."""

    solver: Solver = setting(Proximal(), "how what is given acts", family=RESTORERS)


def solver_of(arguments: argparse.Namespace, default: Inpainting | Restoring) -> Solver:
    """The solver that the arguments say, by ``default`` what that one has.

    Raises:
        ValueError: for an unknown one, or a setting that it has not or does not allow.
    """
    try:
        return build(default, given(arguments, flags(type(default)))).solver
    except ValueError as error:
        raise ValueError(by_flag(str(error))) from error
