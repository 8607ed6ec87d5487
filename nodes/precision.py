"""Half precision: a step that overflows in it is done again in float32.

The host computes in the type that it has chosen for a model, and casts a layer's weights to it where they are kept in
another. `in_float32` makes it choose float32 for a while: no copy of the weights, each is cast when it is used. The
state of a run is float32 in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import torch
from comfy.model_base import BaseModel
from comfy.sd import VAE
from torch import nn

from ..msd_core.finite import NonFiniteError

if TYPE_CHECKING:
    from ..msd_core.state import State
    from .host import Session

CAST = "comfy_cast_weights"
"""The host's switch of a layer: cast the weights to the input's type."""

CURES = {
    "denoiser": "Lower cfg, use the estimator 'exact' in place of 'naive', or another model.",
    "encode": "Use another VAE, or a smaller learning_rate.",
    "decode": "Use another VAE, or a smaller learning_rate.",
}
"""By what gave it: what to do about a NaN that is one in float32, too."""


def is_half(model: BaseModel, vae: VAE | None) -> bool:
    """Whether the model, or the VAE, computes in less than float32."""
    found = [model.manual_cast_dtype or model.get_dtype()] + ([] if vae is None else [vae.vae_dtype])
    return any(dtype not in (torch.float32, torch.float64) for dtype in found)


def difference_for(model: BaseModel) -> float:
    """The step of the Kalman gain's finite differences: in bfloat16 a small one drowns in rounding."""
    return 0.2 if is_bfloat16(model) else 0.05


def is_bfloat16(model: BaseModel) -> bool:
    """Whether the model computes in it."""
    return (model.manual_cast_dtype or model.get_dtype()) == torch.bfloat16


@contextmanager
def in_float32(model: BaseModel, vae: VAE | None, module: nn.Module | None) -> Iterator[None]:
    """Within, ``model`` and ``vae``, whose loaded network is ``module``, compute in float32."""
    layers = [part for whole in (model, module) if whole is not None for part in whole.modules() if hasattr(part, CAST)]
    before = [vars(part).get(CAST) for part in layers]
    types = model.manual_cast_dtype, None if vae is None else vae.vae_dtype
    model.manual_cast_dtype = torch.float32
    if vae is not None:
        vae.vae_dtype = torch.float32
    for part in layers:
        setattr(part, CAST, True)
    try:
        yield
    finally:
        model.manual_cast_dtype = types[0]
        if vae is not None:
            vae.vae_dtype = types[1]
        for part, switch in zip(layers, before, strict=True):
            if switch is None:
                delattr(part, CAST)
            else:
                setattr(part, CAST, switch)


def rescued(walk: Callable[[State], Iterator[State]], state: State, session: Session) -> Iterator[State]:
    """The states of ``walk`` after ``state``; a step with NaN or infinity in half precision is done again in float32.

    Each step is tried as it is first, so that it depends on the state before it alone, and a run that was stopped goes
    on as if it had not been.

    Raises:
        NonFiniteError: in float32, too.
    """
    states, told = None, False
    while True:
        try:
            states = walk(state) if states is None else states
            made = next(states, None)
        except NonFiniteError as error:
            if session.in_float32 is None:
                _give_up(error, state.step, "It is in float32 already.")
            if not told:
                told_of = "%s: NaN or infinity in the %s%s; done again in float32, as is every later step that needs it"
                logging.warning(told_of, error.name, error.what, error.where)
                told = True
            states, made = None, _again(walk, state, session)
        if made is None:
            return
        state = made
        yield state


def _again(walk: Callable[[State], Iterator[State]], state: State, session: Session) -> State | None:
    assert session.in_float32 is not None  # noqa: S101 - checked
    try:
        with session.in_float32():
            return next(walk(state), None)
    except NonFiniteError as error:
        _give_up(error, state.step, "It was tried again in float32, with no better result.")


def _give_up(error: NonFiniteError, step: int, tried: str) -> NoReturn:
    """Raise ``error`` again with what to do inside the host."""
    cure = CURES.get(error.name, "Use a smaller learning_rate.")
    fix = f"{tried} Nothing is lost: the generator is as it was after step {step}. {cure}"
    raise NonFiniteError(error.name, error.what, error.count, error.total, fix, error.where) from error
