"""Guides of the learned denoisers: a pair of models that are trained apart (Karras et al. 2024).

    D = D_guide + cfg (D_cond - D_guide)

    classifier-free guidance    the guide is the same network, trained on all classes         `unconditional`
    autoguidance                the guide is a worse model of the same class: half as wide,
                                an eighth of the steps                                        `smaller`

Their toy example shows autoguidance at cfg = 3, and classifier-free guidance at cfg = 4 with a guide that is both
unconditional and worse, ``smaller(unconditional(settings))``.
"""

from __future__ import annotations

from dataclasses import replace

from .settings import ToySettings

CFG, AUTOGUIDANCE = 4.0, 3.0


def unconditional(settings: ToySettings) -> ToySettings:
    """The same training on all classes together."""
    return replace(settings, cls=None)


def smaller(settings: ToySettings) -> ToySettings:
    """The worse model of Karras et al. 2024: dim 32 for 64, 512 steps for 4,096; other sizes in the same ratio."""
    return replace(settings, dim=max(settings.dim // 2, 1), steps=max(settings.steps // 8, 1))
