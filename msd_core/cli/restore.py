"""Restore a picture from less than it: enlarge, sharpen, denoise or colour it, by what a prompt looks like."""

from __future__ import annotations

import argparse

from .arguments import number
from .changed import add_shared, prepared, written

HELP = "restore a small, blurred, noisy or grey picture"
WORD = "restored"
NOISE = {"noise": 0.1, "blur": 0.01}
"""In a picture of 0 to 1, unless it is told; what is blurred cannot be undone to the last digit of a file."""
WIDTH = 4.0
"""Of a blur, in pixels, unless it is told."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd restore`."""
    from ..manipulation.tasks import TASKS
    from .flags import add_flags_of
    from .solver import Restoring

    add_shared(parser, 40, WORD)
    parser.add_argument("prompt", help="what the picture shows")
    parser.add_argument("--task", required=True, help=f"what it suffers from: {', '.join(TASKS)}")
    parser.add_argument(
        "--width", type=number, help=f"of a blur: its standard deviation, in pixels after --size (default: {WIDTH:g})"
    )
    parser.add_argument("--noise", type=number, help="in the picture, of 0 to 1 (default: 0; noise 0.1, blur 0.01)")
    parser.add_argument("--negative", default="", help="what it does not show (default: nothing)")
    parser.add_argument("--cfg", type=number, default=1.0, help="guidance; 1 is off (default: 1)")
    parser.add_argument(
        "--temperature",
        type=number,
        default=1.0,
        help="scale of all noise, 0 to 1; 0: near the likeliest picture, whatever the seed (default: 1, a sample)",
    )

    add_flags_of(parser, Restoring)


def run(arguments: argparse.Namespace) -> int:
    """Read, restore, save; the old file stays until the new one is whole."""
    from ..manipulation import restore
    from ..manipulation.tasks import TASKS, measurement_of
    from ..measurement import Observation
    from ..validation import check_choice
    from .settings import by_flag
    from .solver import Restoring, solver_of

    check_choice("--task", arguments.task, TASKS)
    solver = solver_of(arguments, Restoring())
    if arguments.width is not None and arguments.task != "blur":
        raise ValueError(
            f"--width: got {arguments.width} with --task {arguments.task}; allowed with blur alone. Leave it out, or "
            "pass --task blur."
        )
    noise = NOISE.get(arguments.task, 0.0) if arguments.noise is None else arguments.noise
    try:
        measurement, factor = measurement_of(
            arguments.task, WIDTH if arguments.width is None else arguments.width, noise
        )
    except ValueError as error:
        raise ValueError(by_flag(str(error))) from error
    given = prepared(arguments, WORD, factor)
    picture = given.picture
    b = measurement.apply(picture) if arguments.task == "grey" else picture
    size = picture.shape[3] * factor, picture.shape[2] * factor
    options = {
        "cfg": arguments.cfg,
        "steps": arguments.steps,
        "seed": arguments.seed,
        "solver": solver,
        "temperature": arguments.temperature,
    }
    words = arguments.prompt, arguments.negative
    result = restore(Observation(measurement, b, noise), size, *words, model=given.model, **options)
    return written(result, given, "to what was given")
