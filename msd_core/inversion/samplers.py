"""Which inversion belongs to a sampler: the inverse of the steps that it will take.

Euler and DDIM without noise are one sampler in the coordinates z = x + sigma n. A stochastic sampler has no inverse.
"""

from __future__ import annotations

from ..echo import shown
from ..validation import check_text
from . import INVERSIONS

BY_SAMPLER = {"euler": "implicit", "ddim": "implicit", "heun": "implicit-heun", "dpmpp_2m": "implicit-dpmpp-2m"}
"""A deterministic sampler, by the name that ComfyUI gives it, to its inversion in `INVERSIONS`."""

_STOCHASTIC_PARTS = ("ancestral", "sde")
_STOCHASTIC = ("ddpm", "lcm", "seeds_2", "seeds_3", "sa_solver", "sa_solver_pece")


def inversion_for(sampler: str) -> type:
    """The class of the exact inversion of ``sampler``.

    Raises:
        ValueError: ``sampler`` draws noise, or is none of `BY_SAMPLER`.
    """
    check_text("sampler", sampler)
    allowed = f"allowed are {', '.join(map(repr, BY_SAMPLER))}"
    if sampler in _STOCHASTIC or any(part in sampler for part in _STOCHASTIC_PARTS):
        raise ValueError(
            f"sampler: got {shown(sampler)}, which draws fresh noise at every step, so no noise at the start leads "
            f"back to the picture; {allowed}. Sample with one of these, or use the inversion 'edit-friendly', which "
            "keeps the noise of every step."
        )
    if sampler not in BY_SAMPLER:
        raise ValueError(
            f"sampler: got {shown(sampler)}, whose steps have no inverse here; {allowed}. Sample with one of these."
        )
    return INVERSIONS[BY_SAMPLER[sampler]]
