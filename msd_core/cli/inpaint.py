"""Fill a hole in a picture: a sample that agrees with the rest, which stays as it is to the bit."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import file, number
from .changed import add_shared, mask_of, prepared, written

HELP = "fill a hole in a picture"
WORD = "inpainted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd inpaint`."""
    add_shared(parser, 16, WORD)
    parser.add_argument("prompt", help="what the whole picture shows")
    parser.add_argument("--mask", type=file, help="picture that is white in the hole")
    parser.add_argument(
        "--region",
        nargs=2,
        action="append",
        default=[],
        metavar=("MASK", "PROMPT"),
        help="a hole with its own prompt: what the whole picture would show if it changed there alone; again for more",
    )
    parser.add_argument("--negative", default="", help="what it does not show (default: nothing)")
    parser.add_argument("--cfg", type=number, default=1.0, help="guidance; 1 is off (default: 1)")
    parser.add_argument(
        "--space", default="latents", help="where the rest is what is known: latents or pixels (default: latents)"
    )
    parser.add_argument(
        "--temperature",
        type=number,
        default=1.0,
        help="scale of all noise, 0 to 1; 0, in pixels: near the likeliest picture, whatever the seed (default: 1)",
    )

    from .flags import add_flags_of
    from .solver import Inpainting

    add_flags_of(parser, Inpainting)


def run(arguments: argparse.Namespace) -> int:
    """Read, fill, save; the old file stays until the new one is whole."""
    from ..manipulation import inpaint
    from ..posterior.proximal import Proximal
    from .flags import flags, given
    from .solver import Inpainting, solver_of

    if arguments.mask is None and not arguments.region:
        raise ValueError("--mask: got none; allowed is the picture of a hole, or one --region or more. Pass one.")
    default = Inpainting(Proximal()) if arguments.space == "pixels" else Inpainting()  # the only one there
    solver = solver_of(arguments, default) if given(arguments, flags(Inpainting)) else None
    found = prepared(arguments, WORD)
    mask = None if arguments.mask is None else mask_of(arguments.mask, found)
    regions = [(mask_of(Path(path), found, "--region"), prompt) for path, prompt in arguments.region]
    options = {"cfg": arguments.cfg, "steps": arguments.steps, "seed": arguments.seed, "solver": solver}
    options |= {"regions": regions, "space": arguments.space, "temperature": arguments.temperature}
    result = inpaint(found.picture, mask, arguments.prompt, arguments.negative, model=found.model, **options)
    return written(result, found, "outside of the hole, before the paste")
