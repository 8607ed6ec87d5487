"""Edit a picture by words: inverted, and brought back under other ones.

Where it is known what the picture shows, it is inverted under that caption and brought back under the new one. Where it
is not, the inversion is unconditional and each step back goes a little towards the prompt (`Edited`); words act below
sigma = 2 only, so the layout stays. A mask confines the change: outside of it the state is the inversion's own at every
level, and the pixels come back as they were.

An inversion whose way back is DDIM's is brought back by `dream_steps`. With a caption the others are brought back each
by its own way (`inversion.resample`), which holds states of its own: there what confines the change is the denoiser,
that of the caption outside of the mask. Without a caption there is no such way: a step towards the prompt is DDIM's.

The way up has no guidance unless it is asked for, whatever the way back has: guided steps mostly have no inverse.
`direct` is corrected at the cfg of the way back, so that the caption itself returns the picture there too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter
from ..dreamsampler import Denoised, Edited, dream_steps
from ..echo import shown
from ..guidance import at_cfg, check_cfg, unconditional
from ..inversion import INVERSIONS, Inversion, Trajectory, invert
from ..inversion.ancestral import AncestralStep
from ..inversion.base import sampler_of
from ..inversion.direct import Direct
from ..inversion.null_text import NullText
from ..inversion.resample import resample
from ..model import Model, check_prompt
from ..randomness import seeded
from ..regions import Regional
from ..sampling import chain_levels
from .result import Manipulated, cells_of, check_feather, decoded, encoded, fitting, mask_for, pasted

EDITING = [name for name, kind in INVERSIONS.items() if kind not in (AncestralStep, NullText)]
"""Inversions that have a way back to an edit."""


@torch.no_grad()
def edit(
    picture: Tensor,
    prompt: Any,  # noqa: ANN401 - what the model's ``denoiser`` takes
    source: Any = "",  # noqa: ANN401
    *,
    model: Model,
    negative: str = "",
    cfg: float = 1.0,
    source_cfg: float | None = None,
    strength: float | None = None,
    steps: int = 40,
    denoise: float = 1.0,
    mask: Tensor | None = None,
    feather: float = 4.0,
    inversion: str | Inversion = "uni-inv",
    seed: int = 0,
) -> Manipulated:
    """Bring ``picture`` to ``prompt`` (without ``source``: Kim et al. 2024, DreamSampler's editing).

    Args:
        picture: (1, 3, H, W) in [0, 1], of sides that are multiples of the model's cell.
        prompt: what it shall show.
        source: what it shows now, if that is known; it keeps more of the picture.
        model: any; the demo model is ``load_model()``.
        negative: in the place of the empty prompt.
        cfg: with ``source``: guidance of the way back, 1 is off. The picture's own caption as ``negative`` is
            negative-prompt inversion.
        source_cfg: with ``source``: guidance of the way up. Left out it is off, which inverts best; of `Direct` it is
            the inversion's own. FlowEdit and edit-friendly inversion were published with some.
        strength: without ``source``: gamma, per 200 steps; the authors' 0.2 if left out, more changes more.
        steps: of the inversion, and of the way back; together 3 network rows each, 2 with ``source``, and one more for
            each way that is guided.
        denoise: fraction of the chain that the inversion climbs; less keeps more of the picture.
        mask: where it may change, (H, W) or (1, 1, H, W), 1; everywhere if left out.
        feather: pixels over which the step at the mask's edge is taken out.
        inversion: one of `INVERSIONS`, or its name. The default brings an unedited picture back as well as the
            autoencoder does, at one evaluation more than the explicit one. Without ``source`` one of those that DDIM
            leads back from; with it any but ``ancestral`` and ``null-text``, down by its own way: that takes another
            number of rows, and with a mask one a step more where that way is not DDIM's.
        seed: of the noise, for an inversion that draws some.

    Raises:
        ValueError: for a wrong argument, a model without guidance or chain, or an inversion that cannot edit.
    """
    old = fitting(model, picture)
    check_prompt(prompt, negative)
    check_prompt(source, negative, "source")
    check_feather(feather)
    _check_numbers(bool(source), cfg, source_cfg, strength)
    chosen, rng = INVERSIONS.made("inversion", inversion), seeded(seed)
    _check_inversion(inversion, chosen, bool(source))
    where = None if mask is None else mask_for("mask", mask, old)
    cells = None if where is None else cells_of(where, model.cell, 0)
    if source:
        scale = 1.0 if source_cfg is None else source_cfg
        if isinstance(chosen, Direct):
            chosen, scale = _corrected(chosen, cfg, source_cfg), cfg
        own = at_cfg(model.denoiser(source, negative, scale), scale, "source_cfg")
        back = Denoised(at_cfg(model.denoiser(prompt, negative, cfg), cfg, "cfg"))
        sigmas = chain_levels(own, steps, denoise)
    else:
        pair = model.denoiser(prompt, negative, 3.0)
        own, sigmas = unconditional(pair, "editing"), chain_levels(pair, steps, denoise)
        back = Edited(pair, 0.2 if strength is None else strength, round((len(sigmas) - 1) / denoise))
    trajectory = invert(encoded(model, old), own, sigmas, chosen, rng)
    if by_ddim(chosen):
        z, rows = _dreamt(trajectory, back, cells), (len(sigmas) - 1) * back.rows
    else:
        z, rows = _resampled(trajectory, back.denoiser, own, cells)
    new, kept = decoded(model, z), None
    if where is not None:
        new, kept = pasted(new, old, where, feather)
    return Manipulated(new, trajectory.evaluations + rows, kept)


def _corrected(inversion: Direct, cfg: float, source_cfg: float | None) -> Direct:
    """``inversion`` with the given guidance of the way up, corrected at ``cfg``; it asks once where both are one."""
    upward = inversion.inversion_cfg if source_cfg is None else source_cfg
    return replace(inversion, inversion_cfg=None if upward == cfg else upward)


def _dreamt(trajectory: Trajectory, back: Edited | Denoised, cells: Tensor | None) -> Tensor:
    """The end of DreamSampler's walk; where ``cells`` are 0 every state is the trajectory's own."""
    z, sigmas = trajectory.states[-1], trajectory.sigmas.flip(0)
    for i, state in enumerate(trajectory.states[:-1].flip(0)):
        ((_, z, _),) = dream_steps(z, back, sigmas[i : i + 2])
        if cells is not None:
            z = cells * z + (1 - cells) * state.to(z)
    return z


def _resampled(trajectory: Trajectory, back: Denoiser, own: Denoiser, cells: Tensor | None) -> tuple[Tensor, int]:
    """The end of the inversion's own way down, and its rows; where ``cells`` are 0 ``own`` is asked."""
    counted = RowCounter(back if cells is None else Regional(own, [(cells, back)]))
    return resample(trajectory, counted), counted.rows


def by_ddim(inversion: Inversion | type[Inversion]) -> bool:
    """Whether DDIM's steps, without anything kept, lead back from ``inversion``."""
    return sampler_of(inversion) == "ddim" and not hasattr(inversion, "descend")


def _check_numbers(known: bool, cfg: float, source_cfg: float | None, strength: float | None) -> None:
    """Refuse what says how the words act where something else does; ``known``: the source.

    Raises:
        ValueError: naming the argument.
    """
    check_cfg("cfg", cfg)
    if source_cfg is not None:
        check_cfg("source_cfg", source_cfg)
    if known and strength is not None:
        raise ValueError(
            f"strength: got {shown(strength)} with a source; allowed is none there, the new prompt acts in full. Leave "
            "one of them out."
        )
    if not known and (cfg != 1 or source_cfg is not None):
        name, got, allowed = ("cfg", cfg, "1") if cfg != 1 else ("source_cfg", source_cfg, "none")
        raise ValueError(
            f"{name}: got {shown(got)} without a source; allowed is {allowed} there, where strength says how the words "
            "act. Pass source, what the picture shows now."
        )


def _check_inversion(given: object, inversion: Inversion, known: bool) -> None:
    """Refuse an ``inversion``, made of what was ``given``, that has no way back to an edit; ``known``: of a source.

    Raises:
        ValueError: its noise does not come out again, it is for guidance, or its way back needs a source.
    """
    reason = fix = ""
    if isinstance(inversion, AncestralStep) and inversion.eta > 0:
        reason, fix = "adds noise that no way back takes out again", "Use 'uni-inv', or AncestralStep(eta=0)."
    elif isinstance(inversion, NullText):
        reason = "is for a way back with guidance, and that of an edit has none"
        fix = "Use 'uni-inv', or invert and resample with a guided denoiser."
    elif not known and not by_ddim(inversion):
        reason = "goes back by steps of its own, and one towards a prompt, without a source, is DDIM's"
        fix = "Pass source, what the picture shows now, or use 'uni-inv'."
    if reason:
        allowed = ", ".join(repr(name) for name in EDITING if known or by_ddim(INVERSIONS[name]))
        raise ValueError(f"inversion: got {shown(given)}, which {reason}; allowed are {allowed}. {fix}")
