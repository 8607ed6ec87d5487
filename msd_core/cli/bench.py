"""Measure what a run's time goes into, part by part; --against an earlier file says what has become slower."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import any_size, count, file, seed

if TYPE_CHECKING:
    from ..bench import Bench

HELP = "time a run by part"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd bench`."""
    from ..generators import GENERATORS
    from ..model import MODELS

    words = "a red boat left of a yellow house at sea"
    parser.add_argument("prompt", nargs="?", default=words, help=f"what to draw (default: {words})")
    parser.add_argument("--method", default="msd", help="of distillation (default: msd)")
    parser.add_argument("--generator", default="fourier", help=f"{', '.join(GENERATORS)} (default: fourier)")
    parser.add_argument("--size", type=any_size, help="WIDTHxHEIGHT in pixels (default: the model's)")
    parser.add_argument("--steps", type=count, default=5, help="counted after a first one (default: 5)")
    parser.add_argument("--n", type=count, default=1, help="pictures side by side, told beside one alone (default: 1)")
    parser.add_argument("--seed", type=seed, default=0, help="of the generator and the noise (default: 0)")
    parser.add_argument("--model", type=Path, help="the model's file (default: the one that ships)")
    parser.add_argument("--model-kind", default="demo", help=f"what it is: {', '.join(MODELS)} (default: demo)")
    parser.add_argument("--out", type=Path, help="JSON file of the figures (default: none)")
    parser.add_argument("--against", type=file, help="JSON file of an earlier measurement")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a table, write the JSON."""
    import platform

    import torch

    from ..atomic import write_whole
    from ..bench import bench
    from ..model import load_model

    earlier = None if arguments.against is None else _earlier(arguments.against)
    names = ("method", "generator", "size", "n", "seed")
    settings = {name: getattr(arguments, name) for name in names}
    model = load_model(arguments.model, arguments.model_kind)
    found = bench(arguments.prompt, steps=arguments.steps, model=model, **settings)
    print(told(found, earlier))
    alone = None
    if arguments.n > 1:
        one = bench(arguments.prompt, steps=arguments.steps, model=model, **settings | {"n": 1})
        alone, each = one.total / one.steps, found.total / found.steps / arguments.n
        print(f"one alone: {alone:.4f} s a step; side by side {each:.4f} s each: {alone / each:.2f} times as many")
    if arguments.out is not None:
        figures = {
            "format": FORMAT,
            "prompt": arguments.prompt,
            "settings": {**settings, "steps": found.steps, "model": str(arguments.model or arguments.model_kind)},
            "evaluations": found.evaluations,
            "seconds a step": {part: seconds / found.steps for part, seconds in found.seconds.items()},
            "seconds a step of one alone": alone,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.processor() or platform.machine(),
        }
        write_whole(arguments.out, json.dumps(figures, indent=1).encode() + b"\n")
    return 0


def told(found: Bench, earlier: Mapping[str, float] | None = None) -> str:
    """What a measurement found, as lines, beside ``earlier`` seconds a step by part."""
    import torch

    lines = [
        f"{found.steps} steps, {found.evaluations} evaluations, {found.total:.3f} s, {torch.get_num_threads()} threads",
        f"{'part':10}{'s a step':>10}{'share':>8}" + ("" if earlier is None else f"{'before':>10}"),
    ]
    for part, seconds in found.seconds.items():
        line = f"{part:10}{seconds / found.steps:10.4f}{seconds / found.total:8.1%}"
        lines.append(line + ("" if earlier is None else f"{earlier[part]:10.4f}"))
    return "\n".join([*lines, f"all else over the parts: {found.overhead:.1%}"])


FORMAT = "msd-bench"


def _earlier(path: Path) -> dict[str, float]:
    """Seconds a step by part, of a file that `msd bench --out` wrote.

    Raises:
        ValueError: it is none.
    """
    from ..bench import PARTS

    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        assert told["format"] == FORMAT  # noqa: S101 - caught below
        return {part: float(told["seconds a step"][part]) for part in (*PARTS, "rest")}
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(
            f"--against: {str(path)!r} holds no figures; allowed is what `msd bench --out FILE` wrote. Name it."
        ) from error
