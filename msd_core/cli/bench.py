"""Measure what a run's time goes into, part by part; --against an earlier file of an equal run says what is slower."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from typing import TYPE_CHECKING, Any

from .arguments import any_size, count, file, seed, writable_folder
from .models import add_model_flags, model_of, size_of

if TYPE_CHECKING:
    from ..bench import Bench
    from .against import Earlier

HELP = "time a run by part"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd bench`."""
    from ..generators import GENERATORS

    words = "a red boat left of a yellow house at sea"
    parser.add_argument("prompt", nargs="?", default=words, help=f"what to draw (default: {words})")
    parser.add_argument("--method", default="msd", help="of distillation (default: msd)")
    parser.add_argument("--generator", default="fourier", help=f"{', '.join(GENERATORS)} (default: fourier)")
    parser.add_argument("--size", type=any_size, help="WIDTHxHEIGHT in pixels (default: the model's)")
    parser.add_argument("--steps", type=count, default=5, help="counted after a first one (default: 5)")
    parser.add_argument("--n", type=count, default=1, help="pictures side by side, told beside one alone (default: 1)")
    parser.add_argument("--seed", type=seed, default=0, help="of the generator and the noise (default: 0)")
    add_model_flags(parser)
    parser.add_argument("--out", type=file, help="JSON file of the figures (default: none)")
    parser.add_argument("--against", type=file, help="JSON file of an earlier measurement of an equal run")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, measure, print a table, write the JSON."""
    if arguments.out is not None:
        writable_folder(arguments.out.parent)

    from ..atomic import write_whole
    from ..bench import bench
    from ..generators import GENERATORS
    from ..validation import check_choice
    from .against import FORMAT, Earlier
    from .settings import drawing

    check_choice("--method", arguments.method, drawing())
    check_choice("--generator", arguments.generator, GENERATORS)
    model = model_of(arguments, arguments.dtype)
    size = size_of(arguments.size, model)
    settings = {"size": size, **{name: getattr(arguments, name) for name in ("method", "generator", "n", "seed")}}
    earlier = None if arguments.against is None else Earlier.read(arguments.against, model.side)
    if earlier is not None:
        earlier.check(settings)
    found = bench(arguments.prompt, steps=arguments.steps, model=model, **settings)
    print(told(found, earlier))
    figures = {"format": FORMAT, "prompt": arguments.prompt, **_about(arguments, settings, found)}
    if earlier is not None:
        each = {"evaluations a step": found.evaluations / found.steps}
        if differences := earlier.differences({**figures, **figures["settings"], **each}):
            print(f"msd: warning: --against: its run had other circumstances: {differences}", file=sys.stderr)
    if arguments.n > 1:
        one = bench(arguments.prompt, steps=arguments.steps, model=model, **settings | {"n": 1})
        alone, each = one.total / one.steps, found.total / found.steps / arguments.n
        print(f"one alone: {alone:.4f} s a step; side by side {each:.4f} s each: {alone / each:.2f} times as many")
        figures["seconds a step of one alone"] = alone
    if arguments.out is not None:
        write_whole(arguments.out, json.dumps(figures, indent=1).encode() + b"\n")
    return 0


def _about(arguments: argparse.Namespace, settings: dict[str, Any], found: Bench) -> dict[str, Any]:
    """What the file says of a measurement, beside its format and prompt."""
    import torch

    placed = (arguments.device, arguments.dtype, arguments.offload)
    model = " ".join(str(word) for word in (arguments.model or arguments.model_kind, *placed) if word is not None)
    return {
        "settings": {**settings, "steps": found.steps, "model": model},
        "evaluations": found.evaluations,
        "seconds a step": {part: seconds / found.steps for part, seconds in found.seconds.items()},
        "seconds a step of one alone": None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }


def told(found: Bench, earlier: Earlier | None = None) -> str:
    """What a measurement found, as lines; beside ``earlier`` seconds a step, in which they are told too."""
    import torch

    lines = [
        f"{found.steps} steps, {found.evaluations} evaluations, {found.total:.3f} s, {torch.get_num_threads()} threads",
        f"{'part':10}{'s a step':>10}{'share':>8}" + ("" if earlier is None else f"{'before':>10}{'times':>8}"),
    ]
    for part, seconds in found.seconds.items():
        line = f"{part:10}{seconds / found.steps:10.4f}{seconds / found.total:8.1%}"
        lines.append(line + ("" if earlier is None else _beside(seconds / found.steps, earlier.seconds[part])))
    lines.append(f"all else over the parts: {found.overhead:.1%}")
    return "\n".join(lines if earlier is None else [*lines, earlier.slower(found)])


def _beside(seconds: float, before: float) -> str:
    """The columns of what it was before, and how many times as long it takes."""
    return f"{before:10.4f}" + (f"{seconds / before:8.2f}" if before else f"{'-':>8}")
