"""The density of pictures that agree with a measurement, p(y) N(b; A y, s^2 I), as a denoiser.

    D_post(z; sigma) = D(z; sigma) + K (b - A D(z; sigma))

What gain K an approximation takes is its own file: `kalman` (ours), `proximal`, `replacement`, `pigdm`. `base` has the
`PosteriorDenoiser`, on which any sampler runs. Other solvers walk by themselves, `dps`, `psld`, `ddrm`, `red_diff`, and
so does `pigdm` where it is not asked for its gain; `walk` runs either. To add one: write its file, and enter it in
`GAINS` or in `INVERSE_SOLVERS`.
"""

from __future__ import annotations

from ..registry import Registry
from .base import Gain, PosteriorDenoiser
from .walk import PosteriorWalk, Solver, posterior_sample, posterior_steps

_WALKS = {"ddrm": "ddrm:DDRM", "red-diff": "red_diff:REDDiff", "dps": "dps:DPS", "psld": "psld:PSLD"}
_GAINS = {
    "kalman": "kalman:Kalman",
    "proximal": "proximal:Proximal",
    "replacement": "replacement:Replacement",
    "pigdm": "pigdm:PiGDM",
}
GAINS = Registry("gain", __name__, _GAINS)
"""Name to the class of a gain."""

INVERSE_SOLVERS = Registry("solver", __name__, {**_GAINS, **_WALKS}, methods=("__call__", "walk"))
"""Name to the class of a solver, the gains among them."""

_RESTORERS = {"proximal", "red-diff", "dps", "psld"}
RESTORERS = Registry(
    "solver", __name__, {k: v for k, v in (_GAINS | _WALKS).items() if k in _RESTORERS}, methods=("__call__", "walk")
)
"""Those that take a measurement of the picture that a latent decodes to (`manipulation.restore`)."""

__all__ = [
    "GAINS",
    "RESTORERS",
    "INVERSE_SOLVERS",
    "Gain",
    "PosteriorDenoiser",
    "PosteriorWalk",
    "Solver",
    "posterior_sample",
    "posterior_steps",
]
