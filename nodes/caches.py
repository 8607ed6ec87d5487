"""Caches that skip evaluations of a model, and what they mean for a loop that is no sampler.

They give an earlier prediction again while the next step of one sampling trajectory is near the last. Our loop goes
from level to level and from row to row as it likes, so that they answer for another question. The host's own wrap the
model under a key, and are left out; the others replace parts of the network, and are refused by name.
"""

from __future__ import annotations

import logging
from typing import Any

from comfy.model_patcher import ModelPatcher

WRAPPED = {"easycache": "EasyCache", "lazycache": "LazyCache"}
"""The host's: by the key of their wrappers."""

REPLACING = {"rel_l1_thresh": "TeaCache", "magcache_thresh": "MagCache"}
"""Those of other packs: by the option that they leave at the model."""


def leave_out_caches(patcher: ModelPatcher, options: dict[str, Any]) -> list[str]:
    """Take the host's caches out of ``patcher`` and of a guider's model ``options``; returns their names.

    Both are changed: give clones.

    Raises:
        ValueError: for a cache that cannot be taken out.
    """
    given = options.get("transformer_options", {})
    for option, name in REPLACING.items():
        if option in given:
            raise ValueError(
                f"model: {name} skips evaluations along one sampling trajectory, and a distillation has none; "
                f"connect the model as it is before {name}"
            )
    tables = (patcher.wrappers, given.get("wrappers", {}))
    found = [key for key in WRAPPED if any(key in wrappers for table in tables for wrappers in table.values())]
    for key in found:
        for table in tables:
            for wrappers in table.values():
                wrappers.pop(key, None)
    names = [WRAPPED[key] for key in found]
    if names:
        given.pop("easycache", None)
        told = "%s left out: it skips evaluations along one sampling trajectory, and a distillation has none"
        logging.warning(told, " and ".join(names))
    return names
