"""Argument checks that speak with one voice.

A wrong argument raises ``ValueError`` with four things in it: the argument's name, the value received, what is allowed,
and what to do about it. Nothing is corrected silently. ``check_*`` refuses or does nothing; ``as_*`` also turns what
can only be meant one way, such as a list or a NumPy array of numbers, into a tensor.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .echo import shown
from .finite import check_finite

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_STEPS = 1_000_000
"""Entries that a list of levels or bandwidths has at most."""


# --- names and counts -------------------------------------------------------------------------------------------------


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a ``value`` that is not one of ``choices``."""
    allowed = tuple(choices)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: got {shown(value)}; allowed are {', '.join(map(repr, allowed))}. Pick one of these.")


def check_count(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> None:
    """Refuse a ``value`` that is not an integer from ``minimum`` to ``maximum``, 2^31 - 1 if that is left out."""
    top = 2**31 - 1 if maximum is None else maximum
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= top:
        end = "" if maximum is None and not (isinstance(value, int) and value > top) else f", at most {top}"
        raise ValueError(
            f"{name}: got {shown(value)}; allowed is a whole number of at least {minimum}{end}. Pass an int."
        )


def check_seed(name: str, value: object) -> None:
    """Refuse a ``value`` that is no whole number from 0 to 2^64 - 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise ValueError(
            f"{name}: got {shown(value)}; allowed are whole numbers from 0 to 2^64 - 1. Use a smaller one."
        )


def check_text(name: str, value: object) -> None:
    """Refuse a ``value`` that is no text."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: got {shown(value)}; allowed is a text. Pass a str.")


def as_path(name: str, value: object) -> Path:
    """``value``, a text or path-like object, as a path."""
    path = str(value) if isinstance(value, (str, os.PathLike)) else ""
    parts = [os.fsencode(part) for part in path.split("/")]
    if not path or "\0" in path or len(path) > 4000 or max(map(len, parts)) > 255:
        raise ValueError(
            f"{name}: got {shown(value)}; allowed is the path of a file, of names up to 255 bytes. Pass a str or "
            "a Path."
        )
    return Path(path)


# --- numbers ----------------------------------------------------------------------------------------------------------


def is_number(value: object) -> bool:
    """Whether ``value`` is a real number: Python's, NumPy's, or a tensor or array of shape (), but no bool and no NaN.

    Whole numbers too large for a float are none.
    """
    if isinstance(value, Tensor):
        value = value.item() if value.ndim == 0 and is_real(value) else None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that can be compared: dense, with data, not empty, of a usual type, no bools."""
    usual = tensor.dtype in FLOATING or not (tensor.is_floating_point() or tensor.is_complex())
    data = tensor.layout == torch.strided and not tensor.is_meta and tensor.numel() > 0
    return usual and data and tensor.dtype != torch.bool and not tensor.is_quantized


def check_number(
    name: str, value: object, fix: str, *, low: float = -math.inf, high: float = math.inf, infinite: bool = False
) -> None:
    """Refuse a ``value`` that is no number from ``low`` to ``high``, or not finite where it is not ``infinite``."""
    number = float(value) if is_number(value) else math.nan  # pyright: ignore[reportArgumentType]
    if not low <= number <= high or not (infinite or math.isfinite(number)):
        ends = {"from": low, "to": high}
        words = " ".join(f"{word} {end:g}" for word, end in ends.items() if math.isfinite(end))
        kind = "a number" if infinite else "a finite number"
        raise ValueError(f"{name}: got {shown(value)}; allowed is {' '.join([kind, words]).strip()}. {fix}")


def check_positive(name: str, value: object, *, many: bool = False) -> None:
    """Refuse a number, or of ``many`` in a tensor any entry, that is not finite and greater than zero."""
    if many and isinstance(value, Tensor) and is_real(value):
        ok, got = bool((torch.isfinite(value) & (value > 0)).all()), shown(value.tolist())
    else:
        ok, got = is_number(value) and 0 < float(value) < math.inf, shown(value)  # pyright: ignore[reportArgumentType]
    if not ok:
        raise ValueError(f"{name}: got {got}; allowed is a finite number > 0. Check its unit and its sign.")


# --- tensors ----------------------------------------------------------------------------------------------------------


def check_floating(name: str, value: object) -> None:
    """Refuse what is no tensor of real floating-point numbers (B, *), dense, with data, and not empty."""
    if not isinstance(value, Tensor):
        got = shown(value)
    elif value.dtype not in FLOATING or not value.ndim:
        got = f"{value.dtype}, shape {tuple(value.shape)}"
    elif not value.numel():
        got = f"shape {tuple(value.shape)}"
    elif value.is_meta or value.layout != torch.strided:
        got = f"{value.layout} on the device {value.device}"
    else:
        return
    raise ValueError(
        f"{name}: got {got}; allowed is a dense floating-point tensor of shape (B, *), not empty. Convert it first."
    )


def as_floating(name: str, value: Any) -> Tensor:  # noqa: ANN401
    """``value`` as a floating-point tensor (B, *): a tensor is itself, a list of numbers or an array a new one.

    A list gets torch's default type, an array keeps its own.
    """
    tensor = tensor_of(value, torch.get_default_dtype())
    check_floating(name, value if tensor is None else tensor)
    return value if tensor is None else tensor


def as_finite(name: str, value: Any) -> Tensor:  # noqa: ANN401
    """As `as_floating`, refusing NaN and infinity too."""
    tensor = as_floating(name, value)
    check_finite(name, [tensor], "tensor", "Find where they come from.")
    return tensor


def as_mask(name: str, value: Any) -> Tensor:  # noqa: ANN401
    """``value`` as a mask (B, 1, H, W): a tensor, array or lists of numbers or bools, (H, W) or (B, 1, H, W).

    Raises:
        ValueError: for another shape, or with values outside of [0, 1].
    """
    given = tensor_of(value, torch.float32)
    if given is not None and not given.is_complex():
        given = given if given.is_floating_point() else given.float()
    tensor = as_floating(name, value if given is None else given)
    mask = tensor[None, None] if tensor.ndim == 2 else tensor
    if mask.ndim != 4 or mask.shape[1] != 1 or not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError(
            f"{name}: got shape {tuple(tensor.shape)} with values from {float(tensor.min()):g} to "
            f"{float(tensor.max()):g}; allowed is (H, W) or (B, 1, H, W) with values from 0 to 1. Convert it."
        )
    return mask


def as_levels(name: str, value: Any, fix: str) -> Tensor:  # noqa: ANN401
    """``value`` as a 1-D tensor of real numbers: a tensor is itself, but whole numbers and lists become float64."""
    tensor = tensor_of(value, torch.float64)
    if tensor is None or not is_real(tensor) or tensor.ndim != 1 or tensor.numel() > MOST_STEPS + 1:
        got = f"shape {tuple(tensor.shape)}, {tensor.dtype}" if tensor is not None else shown(value)
        raise ValueError(f"{name}: got {got}; allowed is a 1-D tensor of 1 to {MOST_STEPS + 1} numbers. {fix}")
    return tensor if tensor.is_floating_point() else tensor.double()


def check_same_shape(name: str, value: Tensor, reference_name: str, reference: Tensor) -> None:
    """Refuse a tensor whose shape differs from that of ``reference``."""
    if value.shape != reference.shape:
        raise ValueError(
            f"{name}: got shape {tuple(value.shape)}; allowed is the shape of {reference_name}, "
            f"{tuple(reference.shape)}. Reshape or expand it first."
        )


def tensor_of(value: object, of_list: torch.dtype) -> Tensor | None:
    """A tensor itself; a list or tuple of numbers, or a NumPy array, as a new one; None where it is no such thing."""
    if isinstance(value, Tensor):
        return value
    array = type(value).__module__.partition(".")[0] == "numpy"
    if not array and not isinstance(value, (list, tuple)):
        return None
    try:
        if array:
            return torch.from_numpy(value.copy())  # pyright: ignore[reportAttributeAccessIssue]
        return torch.tensor(value, dtype=of_list) if torch.tensor(value).dtype in _OF_LISTS else None
    except (TypeError, ValueError, RuntimeError, OverflowError, RecursionError):
        return None


_OF_LISTS = (torch.float32, torch.float64, torch.int64)


# --- objects ----------------------------------------------------------------------------------------------------------


def check_callable(name: str, value: object, what: str) -> None:
    """Refuse a ``value`` that cannot be called, or is a class and no instance; ``what`` says what is allowed."""
    if not callable(value) or isinstance(value, type):
        raise ValueError(f"{name}: got {shown(value)}; allowed is {what}. Pass one.")


def check_instance(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Refuse a ``value`` that is none of a class; ``what`` says what is allowed, and how to get it."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: got {shown(value)}; allowed is {what}.")


def check_device(name: str, value: object) -> None:
    """Refuse a ``value`` that is no name of a device that can calculate here."""
    try:
        torch.zeros(1, device=str(value)).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"{name}: got {shown(value)}, which this machine or this torch does not have. Use cpu, or one of torch's."
        ) from error
