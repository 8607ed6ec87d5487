"""What is said of a generator: in the text entries of its file, and by Generator Info.

method, steps, seed    of the step that made it            latent_format    the class that knows a latent's scale
settings               its numbers, by plain name          prompt, workflow the host's graph, as in its pictures
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import comfy.latent_formats
import torch
from comfy.cli_args import args
from comfy.latent_formats import LatentFormat

from ..msd_core.jsontext import parse_json

if TYPE_CHECKING:
    from ..msd_core.generators.base import Generator
    from .generators import HostGenerator

FORMAT = "latent_format"
STEP = ("method", "steps", "seed", "settings")
TOLD = ("prompt", "negative", *STEP, "size")
"""Entries that are read of a file; the command line writes the others."""
TEXTS = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt")
"""Inputs of the host's nodes that hold a prompt."""
LONGEST = 500
"""Characters shown of an entry."""
MOST = 2**20
"""Characters of prompt and workflow that a file takes: a header holds four times as much, and escapes double them."""


def entries_for(generator: HostGenerator, graph: Any, extra: Mapping[str, Any] | None) -> tuple[dict[str, str], str]:  # noqa: ANN401
    """Text entries for the file of a generator, and what is to be told of them.

    Args:
        generator: what is saved.
        graph: the prompt that the host runs.
        extra: what it writes beside, the workflow among it.
    """
    entries = {name: generator.about[name] for name in STEP if name in generator.about}
    if generator.latent_format is not None:
        entries[FORMAT] = type(generator.latent_format).__name__
    if args.disable_metadata:
        return entries, ""
    known = {"prompt": graph, "workflow": (extra or {}).get("workflow")}
    graphs = {name: json.dumps(value) for name, value in known.items() if value is not None}
    size = sum(map(len, graphs.values()))
    if size > MOST:
        return entries, f"without its workflow, which has {size} characters; a file takes {MOST}"
    return entries | graphs, ""


def of_file(entries: Mapping[str, str]) -> dict[str, str]:
    """What a file's entries say of how the generator was made, each in a line; of a graph the prompts in it."""
    found = {name: entries[name] for name in TOLD if name in entries}
    if "prompt" in found:
        found["prompt"] = _texts(found["prompt"])
    return {name: " ".join(text.split())[:LONGEST] for name, text in found.items() if text.strip()}


def _texts(prompt: str) -> str:
    """The prompts of a graph, those that say anything; a text that is none is itself."""
    try:
        graph = parse_json("prompt", prompt)
    except ValueError:
        return prompt
    nodes = graph.values() if isinstance(graph, dict) else []
    inputs = [node["inputs"] for node in nodes if isinstance(node, dict) and isinstance(node.get("inputs"), dict)]
    texts = [given[name] for given in inputs for name in TEXTS if isinstance(given.get(name), str)]
    return " | ".join(text for text in texts if text.strip())


def latent_format_of(entries: Mapping[str, str], generator: Generator) -> LatentFormat | None:
    """The latent format that a file names for its generator; None if there is none, or one that this host has not.

    Raises:
        ValueError: it is one of other channels.
    """
    from .demo_model import DemoLatent

    name = entries.get(FORMAT, "")
    kind = DemoLatent if name == DemoLatent.__name__ else vars(comfy.latent_formats).get(name)
    if generator.space != "latent" or not isinstance(kind, type) or not issubclass(kind, LatentFormat):
        return None
    with torch.no_grad():
        channels = generator.render(generator.frame(1, 1)).shape[1]
    found = kind()
    if found.latent_channels != channels:
        raise ValueError(
            f"file: holds a latent of {channels} channels in the format {name}; allowed are {found.latent_channels} in "
            "it. Use another copy."
        )
    return found


def described(generator: HostGenerator) -> str:
    """Kind, size, space, parameters and bytes of a generator, and what is known of how it was made."""
    drawn, canvas = generator.generator, generator.canvas
    tensors = list(drawn.state_dict().values())
    count, size = sum(tensor.numel() for tensor in tensors), sum(tensor.nbytes for tensor in tensors)
    first = drawn[0] if drawn.kind == "batch" else drawn
    lines = {
        "kind": first.kind if first is drawn else f"{drawn.rows} x {first.kind}",
        "size": f"{canvas.width}×{canvas.height}",
        "space": canvas.space,
        "parameters": f"{count:,}, {size:,} bytes",
        "options": json.dumps(first.config(), sort_keys=True)[:LONGEST],
    }
    if canvas.space == "latent":
        known = generator.latent_format
        lines["latent format"] = "not known before a step" if known is None else type(known).__name__
    lines |= {("made at" if name == "size" else name): text for name, text in generator.about.items()}
    return "\n".join(f"{name}: {text}" for name, text in lines.items())
