"""Negative-prompt inversion: the source's prompt in the place of the empty one. It is guidance, not an inversion.

    D = D_source + cfg (D_target - D_source)

(Miyake et al. 2023.) Invert with the source's prompt at cfg 1, by any inversion, and re-sample with this: where target
and source are the same it is D_source at any cfg, so the picture comes back as exactly as the inversion is; where they
differ, cfg scales the edit.
"""

from __future__ import annotations

from ..denoiser import Denoiser, check_denoiser
from ..guidance import GuidedDenoiser, at_cfg
from ..validation import check_number


def negative_prompt(source: Denoiser, target: Denoiser, cfg: float) -> GuidedDenoiser:
    """The denoiser above, of the conditional parts of ``source`` and ``target``.

    Args:
        source: under the prompt of the picture that was inverted; of a guided one the conditional part is taken.
        target: under the prompt wanted.
        cfg: scale of the edit, >= 0; 0 is the source, 1 the target alone.

    Raises:
        ValueError: for a ``cfg`` below 0 or not finite, or what is no denoiser.
    """
    check_denoiser(source, "source")
    check_denoiser(target, "target")
    check_number("cfg", cfg, "Swap source and target to go the other way.", low=0)
    return GuidedDenoiser(at_cfg(target, 1.0), at_cfg(source, 1.0), cfg)
