"""Out of memory: fewer rows at once, and in the end a message that says what to lower.

A batch of rows is asked as a whole. When the device's memory is out, it is asked again in parts of half the rows, and
so is every later one of the run; each row's result is what it would be, to rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.model_base import BaseModel
from torch import Tensor

ON_THE_CPU = "DefaultCPUAllocator"
"""In what torch says when it is the processor's memory that is out."""
OF_ROWS = ("cross_attn", "pooled_output", "concat_latent_image", "concat_mask")
"""What of a conditioning has a row a picture, or one for all."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is the host's, torch's or Python's word for it."""
    management = comfy.model_management
    known = getattr(management, "is_oom", lambda error: isinstance(error, management.OOM_EXCEPTION))
    return isinstance(error, MemoryError) or ON_THE_CPU in str(error) or known(error)


class Room:
    """How many rows of ``what`` are asked at once: all, until the memory is out."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.most: int | None = None

    def ask(self, evaluate: Callable[[slice], Tensor], rows: int, unit: int = 1) -> Tensor:
        """``evaluate(part)`` of all ``rows``, joined.

        Args:
            evaluate: a part of the rows, a slice, to its result, one row a row.
            rows: how many there are.
            unit: rows that belong together, as those of a batch of prompts; a part is a multiple of it.

        Raises:
            The device's own error: a part of ``unit`` rows is too much.
        """
        while True:
            size = min(self.most or rows, rows)
            try:
                parts = [evaluate(slice(first, first + size)) for first in range(0, rows, size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except Exception as error:
                if not is_out_of_memory(error) or size <= unit or rows % unit:
                    raise
            self.most = max(unit, size // 2 // unit * unit)  # here, where no traceback holds the tensors any more
            comfy.model_management.soft_empty_cache()
            logging.warning(
                "out of memory with %d rows of the %s at once; going on with %d", size, self.what, self.most
            )


def unit_of(conds: Mapping[str, list[dict[str, Any]]]) -> int:
    """Rows that a guider's conditionings are for: more than one for a batch of prompts, masks or hints."""
    return max((rows_of(entry) for entries in conds.values() for entry in entries), default=1)


def rows_of(entry: Mapping[str, Any]) -> int:
    """Rows that one conditioning is for, prepared by the host or not: the most of its tensors and hints, or 1."""
    prepared = [getattr(cond, "cond", None) for cond in entry.get("model_conds", {}).values()]
    tensors, control = [*(entry.get(name) for name in OF_ROWS), *prepared], entry.get("control")
    if (mask := entry.get("mask")) is not None and mask.ndim > 2:
        tensors.append(mask)
    while control is not None:
        tensors.append(getattr(control, "cond_hint_original", None))
        control = getattr(control, "previous_controlnet", None)
    return max([1, *(len(tensor) for tensor in tensors if isinstance(tensor, Tensor) and tensor.ndim)])


def out_of_memory(step: int | None, size: str, lower: list[str], name: str = "generator") -> Exception:
    """What to raise, of the host's own kind, so that it unloads what it can.

    Args:
        step: iterations that are done; None where there are none to count.
        size: of what was computed, in words.
        lower: what would take less, in words.
        name: of the input to make smaller.
    """
    where = "" if step is None else f", in step {step + 1}"
    return comfy.model_management.OOM_EXCEPTION(
        f"{name}: {size} took more memory than there is{where}; {', or '.join(lower)}"
    )


@contextmanager
def more_room(model: BaseModel, extra: float) -> Iterator[None]:
    """Within, the host makes ``extra`` bytes more free for ``model``, as often as it asks what a batch of rows takes.

    It asks for twice the rows, which is the guidance, and for the rows, which is the least: both are to have it once.
    """
    own, known = model.memory_required, "memory_required" in vars(model)
    model.memory_required = lambda *args, **kwargs: own(*args, **kwargs) + extra
    try:
        yield
    finally:
        del model.memory_required
        if known:
            model.memory_required = own
