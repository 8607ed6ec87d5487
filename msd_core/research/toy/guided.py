"""Guidance for the learned denoisers, as a pair of models that are trained apart (Karras et al. 2024).

    D = D_guide + cfg (D_cond - D_guide)

    classifier-free guidance    the guide is the same network, trained on all classes         `cfg_denoiser`
    autoguidance                the guide is a worse model of the same class: half as wide,
                                an eighth of the steps                                        `autoguided_denoiser`

    denoiser = autoguided_denoiser(ToySettings("fractal", cls="A"), "models")

Their toy example shows autoguidance at cfg = 3, and classifier-free guidance at cfg = 4 with a guide that is both
unconditional and worse: `cfg_denoiser(settings, folder, guide=smaller(unconditional(settings)))`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...densities import GaussianMixture
from ...guidance import GuidedDenoiser
from .cache import load_or_train
from .settings import ToySettings
from .train import HasClasses, Progress

CFG, AUTOGUIDANCE = 4.0, 3.0


def unconditional(settings: ToySettings) -> ToySettings:
    """The same training on all classes together."""
    return replace(settings, cls=None)


def smaller(settings: ToySettings) -> ToySettings:
    """The worse model of Karras et al. 2024: dim 32 for 64, 512 steps for 4,096; other sizes in the same ratio."""
    return replace(settings, dim=max(settings.dim // 2, 1), steps=max(settings.steps // 8, 1))


def cfg_denoiser(
    settings: ToySettings,
    folder: str | Path,
    cfg: float = CFG,
    *,
    guide: ToySettings | None = None,
    density: HasClasses | None = None,
    progress: Progress | None = None,
) -> GuidedDenoiser:
    """Classifier-free guidance: the model of class ``settings.cls``, guided by one of all classes.

    Args:
        settings: of the conditional model; its ``cls`` must be a class.
        folder: of the trained models, see `load_or_train`.
        cfg: guidance scale, 1 = off.
        guide: settings of the other model, whose ``cls`` is None; default `unconditional` of ``settings``.
        density: with classes; default: the one that ``settings.density`` names.
        progress: called with (updates done, all updates) of each training.

    Raises:
        ValueError: if ``settings.cls`` is None or the guide's is not, and as `load_or_train` and `GuidedDenoiser`.
    """
    guide = unconditional(settings) if guide is None else guide
    if settings.cls is None or guide.cls is not None:
        raise ValueError(
            f"settings, guide: got cls {settings.cls!r} and {guide.cls!r}; allowed are a class and None. "
            "Set settings.cls to a class; for a guide of the same class use autoguided_denoiser."
        )
    return _guided(settings, guide, folder, cfg, density, progress)


def autoguided_denoiser(
    settings: ToySettings,
    folder: str | Path,
    cfg: float = AUTOGUIDANCE,
    *,
    guide: ToySettings | None = None,
    density: GaussianMixture | HasClasses | None = None,
    progress: Progress | None = None,
) -> GuidedDenoiser:
    """Autoguidance: the model of ``settings``, guided by a worse one of the same class.

    Args:
        settings: of the model.
        folder: of the trained models, see `load_or_train`.
        cfg: guidance scale, 1 = off.
        guide: settings of the other model, of the same density and class; default `smaller` of ``settings``.
        density: a mixture, or a density with classes; default: the one that ``settings.density`` names.
        progress: called with (updates done, all updates) of each training.

    Raises:
        ValueError: if the two models are of different densities or classes, and as `load_or_train` and
            `GuidedDenoiser`.
    """
    guide = smaller(settings) if guide is None else guide
    if (guide.density, guide.cls) != (settings.density, settings.cls):
        raise ValueError(
            f"guide: got {guide.density!r}, class {guide.cls!r}; allowed is {settings.density!r}, class "
            f"{settings.cls!r}, the model's own. For another class use cfg_denoiser."
        )
    return _guided(settings, guide, folder, cfg, density, progress)


def _guided(
    settings: ToySettings,
    guide: ToySettings,
    folder: str | Path,
    cfg: float,
    density: GaussianMixture | HasClasses | None,
    progress: Progress | None,
) -> GuidedDenoiser:
    cond, uncond = (load_or_train(s, folder, density=density, progress=progress) for s in (settings, guide))
    return GuidedDenoiser(cond, uncond, cfg)
