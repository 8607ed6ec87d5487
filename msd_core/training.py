"""A training loop that goes on where it stopped, as if it had not been stopped.

AdamW under the learning rate lr min(1, (k + 1)/warmup, (K - k)/(d K)) at step k of K: linear warm-up, constant, linear
decay to zero over the last share d. The loss at a step may depend only on the seed and the step's number
(`step_generator`), never on what was drawn before; then the state on disk is all there is, and a resumed training is
bit-equal to one that ran through.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .atomic import write_whole
from .checkpoint import Stateful, read_checkpoint

WARMUP = 100
"""Steps until the learning rate is the one asked for."""

OnStep = Callable[[int, int], None]
"""``progress(done, total)``, called by a training, or any long computation, after each of its steps."""


@dataclass(frozen=True)
class TrainingStep:
    """A step that was done: how many there are now, its loss, and whether the state was saved after it."""

    done: int
    loss: float
    saved: bool


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of everything random at step number ``step``."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def learning_rate_factor(step: int, steps: int, decay_fraction: float) -> float:
    """Factor of the learning rate at ``step`` of ``steps``; equation above."""
    return min(1.0, (step + 1) / WARMUP, (steps - step) / max(1.0, decay_fraction * steps))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, ema: float) -> None:
    """Exponential moving average of the weights: rate min(ema, (1 + k)/(10 + k)) after step number k, in place."""
    rate = min(ema, (1 + step) / (10 + step))
    lerp = torch._foreach_lerp_  # noqa: SLF001 - one launch for all  # pyright: ignore[reportPrivateImportUsage]
    lerp(list(average.parameters()), list(model.parameters()), 1 - rate)


def _write(checkpoint: Path, saved: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(saved, content)
    write_whole(checkpoint, content.getbuffer())


def training_steps(
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    checkpoint: Path,
    *,
    steps: int,
    lr: float,
    decay_fraction: float,
    save_every: int,
    after_step: Callable[[int], None] = lambda step: None,
    extra: Stateful | None = None,
) -> Iterator[TrainingStep]:
    """Minimise ``loss_at(step)`` over ``model``, in place; yields after each step, and nothing if all are done.

    Args:
        model: the module in training.
        loss_at: the loss () at step number 0 .. steps - 1, a function of the number alone.
        checkpoint: file of the state; read if it is there, written every ``save_every`` steps and at the end.
        steps, lr, decay_fraction: the learning rate's course, equation above.
        after_step: called with the step's number after each update, before the state is saved.
        extra: kept in the checkpoint with the model: an average of the weights, a record.

    Raises:
        ValueError: the checkpoint is damaged, or of another training.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-3)
    start = 0
    if checkpoint.exists():
        start = read_checkpoint(checkpoint, model, optimizer, extra)
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * learning_rate_factor(step, steps, decay_fraction)
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        after_step(step)
        save = (step + 1) % save_every == 0 or step + 1 == steps
        if save:
            state = {"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            _write(checkpoint, state if extra is None else {**state, "extra": extra.state_dict()})
        yield TrainingStep(step + 1, float(loss.detach()), save)
