"""What Cancel, an error or a kill leaves of a step: its state, kept in the host's output folder, found by its graph.

    output/msd_unfinished/<digest>.safetensors

The digest is of the node and all that leads to it in the graph, where it knows models by their names; of the numbers of
the generator that came in, of the mask, of the source and of the conditionings with their hints, since a file may have
changed, or a node upstream may not give the same twice; of the settings and the seed; and of the place in a list, where
the host runs the node for each of one.
So queueing the same graph goes on from there, in this session of the host or in a later one, and a changed
graph starts anew. A file is removed when its step is finished; of those that nobody goes on with, the newest `MOST`
stay.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
import torch
from comfy_execution.graph_utils import is_link
from comfy_execution.utils import get_executing_context
from torch import Tensor

if TYPE_CHECKING:
    from comfy_execution.graph import DynamicPrompt

    from ..msd_core.generators.base import Generator
    from ..msd_core.preset import Preset
    from ..msd_core.state import State

FOLDER = "msd_unfinished"
MOST = 32
HINTS = ("cond", "cond_hint_original", "strength", "timestep_percent_range", "previous_controlnet")
"""What of an object in a conditioning, as of a ControlNet, is looked at."""
EVERY = "checkpoint_every"
"""The widget that says how often; it is no part of the digest."""


@dataclass(frozen=True)
class Kept:
    """The file of one step's state."""

    path: Path

    @property
    def name(self) -> str:
        """Its name as the user finds it, within the output folder."""
        return f"{FOLDER}/{self.path.name}"

    def save(self, state: State) -> None:
        """Write ``state``, whole or not at all.

        Raises:
            ValueError: it cannot be written.
        """
        from ..msd_core.state import save_state

        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_state(state, self.path)
        for old in sorted(self.path.parent.glob("*.safetensors"), key=_age)[MOST:]:
            with contextlib.suppress(OSError):
                old.unlink()
                logging.info("%s/%s: removed, as one of more than %d that nobody went on with", FOLDER, old.name, MOST)

    def load(self, first: State, device: torch.device) -> State | None:
        """The state that is there, on ``device``; None if there is none that goes on from ``first``.

        A file that cannot be read is set aside, under its name and ".damaged".
        """
        from ..msd_core.state import load_state

        if not self.path.is_file():
            return None
        try:
            state = load_state(self.path)
            generator = copy.deepcopy(first.generator)
            generator.load_state_dict(state.generator.state_dict())
            begun = None if state.first is None else copy.deepcopy(first.generator)
            if begun is not None:
                begun.load_state_dict(state.first.state_dict())
        except (ValueError, RuntimeError) as error:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            os.replace(self.path, aside)
            logging.warning("%s cannot be read, so the step starts anew; it is now %s (%s)", self.name, aside, error)
            return None
        logging.info("going on after step %d, which was kept in %s", state.step, self.name)
        return replace(state, generator=generator, first=begun).to(device)

    def remove(self) -> None:
        """The step is finished; what a server that was killed in mid-saving has left goes, too."""
        from ..msd_core.atomic import remove_partial

        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            remove_partial(self.path)


def _age(path: Path) -> float:
    """Seconds since a file was written; of one that has gone meanwhile, none."""
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0


def kept_for(
    graph: DynamicPrompt | None,
    node_id: str | None,
    generator: Generator,
    preset: Preset,
    seed: int,
    beside: Mapping[str, Tensor | None],
    conds: Mapping[str, Any],
) -> Kept | None:
    """Where the state of this step is kept; None outside of a graph, whose results nobody could find again.

    ``beside`` are the pictures that the run takes beside its generator, by name; ``conds`` the guider's conditionings.
    """
    if graph is None or node_id is None or not graph.has_node(node_id):
        return None
    sha = hashlib.sha256()
    place = get_executing_context()
    index = None if place is None else place.list_index
    for part in (ancestry(graph, node_id), json.dumps(preset.to_json(), sort_keys=True), str(seed), str(index)):
        sha.update(part.encode() + b"\0")
    _add(sha, [generator.state_dict(), beside, conds])
    return Kept(Path(folder_paths.get_output_directory(), FOLDER, f"{sha.hexdigest()[:32]}.safetensors"))


def _add(sha: hashlib._Hash, value: Any) -> None:  # noqa: ANN401 - whatever a conditioning holds
    """Add what ``value`` says to the digest: numbers, texts, tensors, and of objects their kind and their hints."""
    if isinstance(value, Tensor):
        sha.update(f"{tuple(value.shape)} {value.dtype}".encode())
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            sha.update(f"{key}:".encode())
            _add(sha, value[key])
    elif isinstance(value, (list, tuple)):
        sha.update(f"{len(value)}[".encode())
        for part in value:
            _add(sha, part)
    elif value is None or isinstance(value, (str, int, float, bool)):
        sha.update(f"{value!r};".encode())
    else:
        sha.update(f"{type(value).__qualname__};".encode())
        for name in HINTS:
            _add(sha, getattr(value, name, None))


def ancestry(graph: DynamicPrompt, node_id: str) -> str:
    """Digest of a node and of all that leads to it, whatever their numbers are."""
    known: dict[str, str] = {}
    waiting = [node_id]
    while waiting:  # no recursion: a graph may be deep
        current = waiting[-1]
        node = graph.get_node(current)
        sources = {source for source in _sources(node) if source not in known}
        if sources:
            waiting += sources
            continue
        waiting.pop()
        inputs = {name: _told(value, known) for name, value in node["inputs"].items() if name != EVERY}
        text = json.dumps([node["class_type"], inputs], sort_keys=True, default=repr)
        known[current] = hashlib.sha256(text.encode()).hexdigest()
    return known[node_id]


def _sources(node: Mapping[str, Any]) -> list[str]:
    return [value[0] for value in node["inputs"].values() if is_link(value)]


def _told(value: Any, known: Mapping[str, str]) -> Any:  # noqa: ANN401 - of a graph
    return [known[value[0]], value[1]] if is_link(value) else value
