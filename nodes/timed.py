"""What of a conditioning goes by the level: its part of the levels, a ControlNet's, and the keyframes of its hooks.

The host means one level of a whole batch, that of a sampler, which falls. Our loops go up and down, and rows of a batch
may be at levels of their own. So rows between which something begins or ends are asked apart (`by_level`), and before
each evaluation the keyframes ("Set Hook Keyframes" on a LoRA), which in the host only walk forwards, are put where a
sampler that began at its level would have them (`put_at`):

    at σ: the last keyframe up to which all begin at σ or above, else the first

`guarantee_steps` counts a sampler's steps, of which there are none here, and plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from comfy.hooks import Hook, HookKeyframeGroup
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .room import unit_of

Conds = Mapping[str, list[dict[str, Any]]]


def by_level(level: Tensor, conds: Conds) -> list[list[int]]:
    """Which rows of a batch are asked together under ``conds``, by number: those between the same edges.

    Args:
        level: a level a row, (B,).
        conds: by side, as the host has prepared them; those of a batch of prompts are never torn.
    """
    edges = _edges(conds) if len(level) > 1 else set()
    if not edges or unit_of(conds) > 1:
        return [list(range(len(level)))]
    between: dict[tuple[int, ...], list[int]] = {}
    places = (level[:, None] - level.new_tensor(sorted(edges))).sign().int()
    for row, place in enumerate(places.tolist()):
        between.setdefault(tuple(place), []).append(row)
    return list(between.values())


def _edges(conds: Conds) -> set[float]:
    """The levels at which any of ``conds`` begins or ends to count, or changes its strength."""
    found = {float(keyframe.start_t) for hook in _keyframed(conds) for keyframe in hook.hook_keyframe.keyframes}
    for entry in (entry for entries in conds.values() for entry in entries):
        found |= {float(entry[name]) for name in ("timestep_start", "timestep_end") if name in entry}
        control = entry.get("control")
        while control is not None:
            found |= {float(edge) for edge in getattr(control, "timestep_range", None) or ()}
            control = getattr(control, "previous_controlnet", None)
    return found


def put_at(level: Tensor, conds: Conds, patchers: Iterable[ModelPatcher]) -> None:
    """Put the keyframes of all hooks on ``conds`` at a level, and drop weights that are patched with another strength.

    Args:
        level: of the evaluation to come, on the model's own axis, ().
        conds: by side, as the host has prepared them.
        patchers: of the model, one a device.
    """
    found = _keyframed(conds)
    before = [hook.strength for hook in found]
    for hook in found:
        _put(hook.hook_keyframe, level)
    changed = [hook for hook, strength in zip(found, before, strict=True) if hook.strength != strength]
    for patcher in patchers if changed else ():
        _forget(patcher, changed)


def _keyframed(conds: Conds) -> list[Hook]:
    """The hooks that have keyframes, each once."""
    groups = [entry["hooks"] for entries in conds.values() for entry in entries if entry.get("hooks") is not None]
    hooks = {id(hook): hook for group in groups for hook in group.hooks}
    return [hook for hook in hooks.values() if not hook.hook_keyframe.is_empty()]


def _put(group: HookKeyframeGroup, level: Tensor) -> None:
    """The host's own `reset` sets another attribute than the one that it reads, so this writes them all."""
    index = 0
    for later, keyframe in enumerate(group.keyframes[1:], start=1):
        if bool(keyframe.start_t < level):
            break
        index = later
    chosen = group.keyframes[index]
    group._current_index, group._current_keyframe, group._current_strength = index, chosen, chosen.strength
    group._current_used_steps, group._curr_t = 0, -1.0


def _forget(patcher: ModelPatcher, changed: list[Hook]) -> None:
    """Drop what ``patcher`` has patched, or kept, with another strength of the ``changed`` hooks."""
    for group in [kept for kept in patcher.cached_hook_patches if any(kept.contains(hook) for hook in changed)]:
        del patcher.cached_hook_patches[group]
    current = patcher.current_hooks
    if current is not None and any(current.contains(hook) for hook in changed):
        patcher.patch_hooks(None)
